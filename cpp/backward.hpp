// backward.hpp: back-propagation through time of any cell, and the gradients of the weights. Called by kernels.cpp.
//
// By segments of time, the last first: the slabs go back through a segment and leave the gradients of its
// pre-activations on the tape; then dx is a product over packed rows, and dWx, dWh, db are sums over packed rows. These
// are taken in updates of so many rows, the last first, whatever the segments are, and split over threads by columns,
// so that they depend on neither. With checkpoints the activations of a segment are first computed again, and those of
// a tape that is kept are copied.
#pragma once

#include <omp.h>

#include "forward.hpp"

namespace rnnfast::RNNFAST_ISA {

template <class Cell, class T>
class BackwardPass {
    static constexpr Index W = panel_width<T>;
    static constexpr T zero[W] = {};
    using Wide = Vec<T, 2>;  // a row of a panel

    const Backward<T>& call;
    const Schedule& schedule;
    const Blocks<T> hidden, inputs;
    const BackwardWeights<Cell, T> weights;
    const Index tape_stride, state_stride;  // of panels, in numbers
    const Sizes size;
    SpinBarrier* const barriers;
    T *const gradients, *const xs, *const dx_rows_of_task;  // [slabs, tape_states, blocks, slab, W], xs: of all threads
    Forward<T> again;                                       // its tape is this pass's
    Index updates_left;

  public:
    // Each thread of a parallel region makes one, and all make the same calls.
    BackwardPass(const Backward<T>& call, SpinBarrier* barriers)
        : call(call),
          schedule(call.schedule),
          hidden{call.shape.H},
          inputs{call.x.ids ? 0 : call.shape.D},
          weights{hidden, inputs, call.packed},
          tape_stride(odd(call.tape.rows) * W),
          state_stride(odd(schedule.slab_rows) * W),
          size(sizes<Cell, T>(call.shape, schedule, call.x.ids != nullptr)),
          barriers(barriers),
          gradients(call.scratch + schedule.threads * size.backward_scratch),
          xs(gradients + schedule.slabs * Gates<Cell>::tape_states * hidden.count() * state_stride),
          dx_rows_of_task(call.scratch + omp_get_thread_num() * size.backward_scratch),
          again(call.again),
          updates_left((schedule.rows + update_rows<T> - 1) / update_rows<T>) {
        again.tape = call.tape;
    }

    void run() {
        if (schedule.every) pack_forward<Cell>(again);
        const Index inputs_packed = call.dx ? inputs.count() : 0;
#pragma omp for schedule(static) nowait
        for (Index block = 0; block < hidden.count() + inputs_packed; ++block) weights.pack_block(call.weights, block);
        const Index row_length = Gates<Cell>::weight_blocks * hidden.n;
#pragma omp for schedule(static)
        for (Index i = 0; i < call.shape.D; ++i)  // sums that no update starts
            if (call.x.ids || schedule.rows == 0) fill_zero(call.dWx + i * row_length, row_length);
        for (Index a, b = schedule.steps; b > 0; b = a) {
            a = segment_start<T>(schedule, b);
            if (!segment(a, b)) return;
        }
        if (schedule.rows == 0) {
#pragma omp single
            {
                fill_zero(call.dWh, hidden.n * row_length);
                if (call.db) fill_zero(call.db, Cell::pre * hidden.n);
            }
        }
#pragma omp for schedule(static)
        for (Index index = 0; index < schedule.slabs; ++index) finish(index);
    }

  private:
    // False where the call is to end early.
    bool segment(Index a, Index b) {
        if ((schedule.every || schedule.kept) && fetch(a, b)) return false;
        if (over_slabs(schedule, barriers, [&](Index index, const Member& member, int) { slab(index, a, b, member); }))
            return false;
        const Index begin = schedule.offset[a], end = schedule.offset[b];
#pragma omp for schedule(dynamic, 1) nowait
        for (Index task = 0; task < dx_tasks(end - begin); ++task) dx_task(begin, end, task);
        // updates of which all rows are there
        while (updates_left > 0 && (a == 0 || (updates_left - 1) * update_rows<T> >= begin)) {
            const Index update = --updates_left;
            if (!call.x.ids) {
#pragma omp for schedule(static)
                for (Index i = 0; i < schedule.threads; ++i) gather_inputs(update, i, schedule.threads);
            }
#pragma omp for schedule(static)
            for (Index task = 0; task < tasks(); ++task) update_task(update, task);
        }
        return true;
    }

    // The tape of a segment, from the one that is kept or from the checkpoint before it. Behind it come the rows of the
    // next segment that the next update needs.
    bool fetch(Index a, Index b) {
        const Index rows = schedule.offset[b] - schedule.offset[a];
        const Index behind = smaller(updates_left * update_rows<T>, schedule.rows) - schedule.offset[b];
        const Index kept_stride = odd(call.kept.rows) * W;
        const auto panel = [&](const TapeRows<T>& tape, Index i, Index stride) {
            const Index block = i % hidden.count(), k = i / hidden.count() - Cell::pre;
            return k < 0 ? tape.gates + i * stride : tape.state[k] + block * stride;
        };
#pragma omp barrier
#pragma omp for schedule(static)
        for (Index i = 0; i < hidden.count() * (Cell::pre + Gates<Cell>::tape_states); ++i) {
            T* const to = panel(call.tape, i, tape_stride);
            __builtin_memmove(to + rows * W, to, static_cast<std::size_t>(behind * W) * sizeof(T));
            if (schedule.kept)
                __builtin_memcpy(to, panel(call.kept, i, kept_stride) + schedule.offset[a] * W,
                                 static_cast<std::size_t>(rows * W) * sizeof(T));
        }
        again.tape.first_row = schedule.offset[a];
        if (schedule.kept) return false;
        again.first_step = a;
        again.last_step = b;
        return forward_slabs<Cell>(again, size.forward_scratch, barriers);
    }

    T* gradient(Index slab, int k) const {
        return gradients + (slab * Gates<Cell>::tape_states + k) * hidden.count() * state_stride;
    }

    T* tape_row(T* panels, Index row, Index panel) const {
        return panels + panel * tape_stride + (row - again.tape.first_row) * W;
    }

    Index active(Index slab, Index t) const {
        const Index begin = schedule.slab[slab], end = smaller(schedule.slab[slab + 1], schedule.active[t]);
        return larger(end - begin, 0);
    }

    // Back through the steps a..b-1: the gradients of the states and, in place of the activations, those of the
    // pre-activations.
    void slab(Index index, Index a, Index b, Member member) const {
        const Index begin = schedule.slab[index];
        const Index first = part(hidden.count(), member.team, member.index);
        const Index last = part(hidden.count(), member.team, member.index + 1);  // blocks of units: this member's
        T* const d[max_states] = {gradient(index, 0), gradient(index, 1)};
        const auto reduction = [&](int gates) {
            return Reduction{hidden.count(), Cell::pre * tape_stride, gates, tape_stride, hidden.last()};
        };
        for (Index t = smaller(schedule.length[begin], b) - 1; t >= a; --t) {
            const Index rows = active(index, t);
            for (Index row = active(index, t + 1); row < rows; ++row)
                read_final_gradient(schedule.order[begin + row], row, first, last, d);
            for (Index block = first; block < last; ++block) pointwise(t, begin, rows, block, d);
            if (member.wait()) return;  // the product needs the gradients of all units
            const T* gates = tape_row(call.tape.gates, schedule.offset[t] + begin, 0);
            if constexpr (Gates<Cell>::reset) {
                T* const d_reset = gradient(index, Cell::states);
                product_of_blocks(first, last, rows, hidden, reduction(Gates<Cell>::reset),
                                  gates + Gates<Cell>::recurrent_first * tape_stride, weights.reset_WhT(0),
                                  ConstPanels<T>{zero, 0, 0}, Panels<T>{d_reset, state_stride});
                for (Index block = first; block < last; ++block) pointwise_reset(t, begin, rows, block, d_reset, d[0]);
                if (member.wait()) return;
            }
            product_of_blocks(first, last, rows, hidden, reduction(Gates<Cell>::plain),
                              gates + Gates<Cell>::plain_first * tape_stride, weights.WhT(0),
                              ConstPanels<T>{d[0], state_stride}, Panels<T>{d[0], state_stride});
        }
    }

    // What is left of a slab: the gradients of the initial states, and padding.
    void finish(Index index) const {
        T* const d[max_states] = {gradient(index, 0), gradient(index, 1)};
        for (Index s = schedule.slab[index]; s < schedule.slab[index + 1]; ++s) {
            const Index sequence = schedule.order[s], length = schedule.length[s], row = s - schedule.slab[index];
            if (length == 0) read_final_gradient(sequence, row, 0, hidden.count(), d);
            for (int k = 0; k < Cell::states; ++k)
                for (Index block = 0; block < hidden.count(); ++block)
                    __builtin_memcpy(call.dinitial[k] + sequence * call.shape.H + block * W,
                                     d[k] + block * state_stride + row * W, sizeof(T) * hidden.units(block));
            for (Index t = length; call.dx && !schedule.packed && t < call.shape.T; ++t)
                fill_zero(call.dx + sequence * call.dx_stride[0] + t * call.dx_stride[1], call.shape.D);
        }
    }

    // Tasks of dx for so many rows: chunks of them and, where these are few, parts of the blocks of inputs.
    Index dx_parts(Index rows) const {
        return smaller(inputs.count(), 2 * schedule.threads * dx_rows / larger(rows, 1) + 1);
    }
    Index dx_tasks(Index rows) const { return call.dx ? (rows + dx_rows - 1) / dx_rows * dx_parts(rows) : 0; }

    // dx = dgates Wx^T for one chunk of the packed rows begin..end-1 and one part of the inputs
    void dx_task(Index begin, Index end, Index task) const {
        if (stopped(schedule.interrupt)) return;
        const Index parts = dx_parts(end - begin);
        const Index first = part(inputs.count(), parts, task % parts);
        const Index last = part(inputs.count(), parts, task % parts + 1);
        begin += task / parts * dx_rows;
        const Index rows = smaller(end - begin, dx_rows), stride = odd(smaller(dx_rows, schedule.rows)) * W;
        const Reduction k{hidden.count(), Cell::pre * tape_stride, Cell::input, tape_stride, hidden.last()};
        product_of_blocks(first, last, rows, inputs, k, tape_row(call.tape.gates, begin, 0), weights.WxT(0),
                          ConstPanels<T>{zero, 0, 0}, Panels<T>{dx_rows_of_task, stride});
        for_rows(schedule, begin, begin + rows, [&](Index row, Index position, Index step) {
            T* const to = row_of(call.dx, call.dx_stride, schedule, position, step);
            for (Index block = first; block < last; ++block)
                Wide::load(dx_rows_of_task + block * stride + (row - begin) * W)
                    .store_partial(to + block * W, inputs.units(block));
        });
    }

    // One part of the rows of x of an update, into xs [input blocks, rows, W].
    void gather_inputs(Index update, Index part_index, Index parts) const {
        const Index first = update * update_rows<T>, rows = update_size(update);
        const Index from = first + part(rows, parts, part_index), to = first + part(rows, parts, part_index + 1);
        if (from < to)
            for_rows(schedule, from, to, [&](Index row, Index position, Index step) {
                pack_input(call.x, inputs, schedule, position, step, xs, xs_stride(), row - first);
            });
    }

    // Tasks of an update: each panel of gates with the blocks of x (one task for ids), those of h, and the bias.
    Index tasks() const { return hidden.count() * Cell::pre * tasks_per_panel(); }

    void update_task(Index update, Index task) const {
        if (stopped(schedule.interrupt)) return;
        const Index panel = task / tasks_per_panel(), first = update * update_rows<T>, rows = update_size(update);
        Index of = task % tasks_per_panel();
        const Index block = panel / Cell::pre, units = hidden.units(block);
        const int p = static_cast<int>(panel % Cell::pre);
        const Index column = Gates<Cell>::weight_block(p) * hidden.n + block * W;
        const Index row_length = Gates<Cell>::weight_blocks * hidden.n;
        const T* g = tape_row(call.tape.gates, first, panel);
        const bool starts = first + rows == schedule.rows;  // the last rows come first
        if (of < input_tasks()) {
            if (p >= Cell::input) return;
            if (call.x.ids) return scatter(rows, units, g, call.x.ids + first, call.dWx + column, row_length);
            const T* x = xs + of * xs_stride();
            return add_product(rows, inputs.units(of), units, x, g, starts, call.dWx, of * W, column, inputs.n,
                               x + xs_stride());
        }
        of -= input_tasks();
        if (of < hidden.count()) {
            if (p < Gates<Cell>::recurrent_first) return;
            const bool resets = Gates<Cell>::reset && p < Gates<Cell>::plain_first;
            const T* h = tape_row(call.tape.state[resets ? int(Cell::states) : 0], first, of);
            return add_product(rows, hidden.units(of), units, h, g, starts, call.dWh, of * W, column, hidden.n,
                               h + tape_stride);
        }
        if (call.db) sum_rows(rows, units, g, starts, call.db + Cell::order[p] * hidden.n + block * W);
    }

    // The product a^T g of an update to rows row.. and columns column.. of a gradient d [n, G*H].
    void add_product(Index rows, Index units, Index columns, const T* a, const T* g, bool starts, T* d, Index row,
                     Index column, Index n, const T* next_a) const {
        const Index row_length = Gates<Cell>::weight_blocks * hidden.n;
        if (call.transposed)  // g^T a: the same sums of the same products
            outer_product(rows, columns, units, g, a, starts, d + column * n + row, n, next_a);
        else
            outer_product(rows, units, columns, a, g, starts, d + row * row_length + column, row_length, next_a);
    }

    Index update_size(Index update) const { return smaller(schedule.rows - update * update_rows<T>, update_rows<T>); }

    Index xs_stride() const { return odd(smaller(update_rows<T>, schedule.rows)) * W; }

    Index input_tasks() const { return call.x.ids ? 1 : inputs.count(); }
    Index tasks_per_panel() const { return input_tasks() + hidden.count() + 1; }

    void read_final_gradient(Index sequence, Index row, Index first, Index last, T* const* d) const {
        for (int k = 0; k < Cell::states; ++k)
            for (Index block = first; block < last; ++block)
                for (Index i = 0; i < W; ++i)
                    d[k][block * state_stride + row * W + i] =
                        call.dstate[k] && i < hidden.units(block)
                            ? call.dstate[k][sequence * call.shape.H + block * W + i]
                            : T(0);
    }

    // The cell on the units of one block, all rows of step t.
    __attribute__((flatten)) void pointwise(Index t, Index begin, Index rows, Index block, T* const* d_panels) const {
        for (Index row = 0; row < rows; ++row) {
            const Index packed_row = schedule.offset[t] + begin + row, local = block * state_stride + row * W;
            T* const gate_panels = tape_row(call.tape.gates, packed_row, block * Cell::pre);
            Wide gate[Cell::pre], previous[Cell::states], d[Cell::states];
            for (int p = 0; p < Cell::pre; ++p) gate[p] = Wide::load(gate_panels + p * tape_stride);
            for (int k = 0; k < Cell::states; ++k) {
                previous[k] = Wide::load(tape_row(call.tape.state[k], packed_row, block));
                d[k] = Wide::load(d_panels[k] + local);
            }
            if (call.dh)
                d[0] = d[0] + Wide::load_partial(row_of(call.dh, call.dh_stride, schedule, begin + row, t) + block * W,
                                                 hidden.units(block));
            Cell::backward(gate, previous, d);
            for (int p = 0; p < Cell::pre; ++p) gate[p].store(gate_panels + p * tape_stride);
            for (int k = 0; k < Cell::states; ++k) d[k].store(d_panels[k] + local);
        }
    }

    // What came through the reset: d_reset, its gradient, [blocks, slab, W], as d, that of h.
    __attribute__((flatten)) void pointwise_reset(Index t, Index begin, Index rows, Index block, const T* d_reset,
                                                  T* d) const {
        for (Index row = 0; row < rows; ++row) {
            const Index packed_row = schedule.offset[t] + begin + row, local = block * state_stride + row * W;
            T* const gate_panels = tape_row(call.tape.gates, packed_row, block * Cell::pre);
            Wide gate[Cell::pre], previous[1] = {Wide::load(tape_row(call.tape.state[0], packed_row, block))};
            Wide d_h[1] = {Wide::load(d + local)};
            for (int p = 0; p < Cell::pre; ++p) gate[p] = Wide::load(gate_panels + p * tape_stride);
            Cell::backward_reset(gate, previous, Wide::load(d_reset + local), d_h);
            for (int p = 0; p < Cell::pre; ++p) gate[p].store(gate_panels + p * tape_stride);
            d_h[0].store(d + local);
        }
    }

    // dWx[id] += g, row after row
    void scatter(Index rows, Index units, const T* g, const Index* ids, T* out, Index out_stride) const {
        for (Index row = 0; row < rows; ++row, g += W) {
            T* to = out + ids[row] * out_stride;
            (Wide::load_partial(to, units) + Wide::load(g)).store_partial(to, units);
        }
    }

    void sum_rows(Index rows, Index units, const T* g, bool first, T* out) const {
        Wide sum(T(0));
        for (Index row = 0; row < rows; ++row, g += W) sum = sum + Wide::load(g);
        if (!first) sum = Wide::load_partial(out, units) + sum;
        sum.store_partial(out, units);
    }
};

template <class Cell, class T>
void backward(const Backward<T>& call) {
    SpinBarrier barriers[max_teams];
    SpinBarrier::prepare(barriers, call.schedule);
#pragma omp parallel num_threads(call.schedule.threads) if (call.schedule.threads > 1)
    {
        const FlushDenormals flush;
        BackwardPass<Cell, T>(call, barriers).run();
    }
}

}  // namespace rnnfast::RNNFAST_ISA
