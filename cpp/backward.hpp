// backward.hpp: back-propagation through time of any cell, and the gradients of the weights. Called by kernels.cpp.
//
// First the slabs go back through time and leave the gradients of all pre-activations in the tape. Then dx is a
// product over packed rows, and dWx, dWh, db are sums over packed rows: split over threads by columns, and always
// taken in the order of the rows, so that they do not depend on the threads.
#pragma once

#include <omp.h>

#include "layout.hpp"
#include "team.hpp"

namespace rnnfast::RNNFAST_ISA {

template <class Cell, class T>
class BackwardPass {
    static constexpr Index W = panel_width<T>;
    using Wide = Vec<T, 2>;  // a row of a panel

    const Backward<T>& call;
    const Schedule& schedule;
    const Blocks<T> hidden, inputs;
    const BackwardWeights<Cell, T> weights;
    const Index tape_stride, state_stride;  // of panels, in numbers

  public:
    const Sizes size;

    explicit BackwardPass(const Backward<T>& call)
        : call(call),
          schedule(call.schedule),
          hidden{call.shape.H},
          inputs{call.x.ids ? 0 : call.shape.D},
          weights{hidden, inputs, call.packed},
          tape_stride(odd(schedule.rows) * W),
          state_stride(odd(schedule.slab_rows) * W),
          size(sizes<Cell, T>(call.shape, schedule, call.x.ids != nullptr)) {}

    Index pack_blocks() const { return hidden.count() + (call.dx ? inputs.count() : 0); }
    void pack_block(Index block) const { weights.pack_block(call.weights, block); }

    // Through time: dstate and, in place of the activations, the gradients of the pre-activations.
    void slab(Index index, const Member& member, T* scratch) const {
        const Index begin = schedule.slab[index], end = schedule.slab[index + 1];
        const Index first = part(hidden.count(), member.team, member.index);
        const Index last = part(hidden.count(), member.team, member.index + 1);  // blocks of units: this member's
        const auto active = [&](Index t) {
            const Index a = schedule.active[t] < end ? schedule.active[t] : end;
            return a > begin ? a - begin : 0;
        };
        T* d[max_states] = {scratch, scratch + hidden.count() * state_stride};  // [blocks, slab, W]
        const Reduction k{hidden.count(), Cell::pre * tape_stride, Cell::recurrent, tape_stride, hidden.last()};
        for (Index t = begin < end ? schedule.length[begin] - 1 : -1; t >= 0; --t) {
            const Index rows = active(t), row0 = schedule.offset[t] + begin;
            for (Index row = active(t + 1); row < rows; ++row)
                read_final_gradient(schedule.order[begin + row], row, first, last, d);
            for (Index block = first; block < last; ++block) pointwise(t, begin, rows, block, d);
            member.wait();  // the product needs the gradients of all units
            const T* gates = call.tape.gates + Gates<Cell>::recurrent_first * tape_stride + row0 * W;
            product_of_blocks(first, last, rows, hidden, k, gates, weights.WhT(0), ConstPanels<T>{d[0], state_stride},
                              Panels<T>{d[0], state_stride});
        }
        for (Index row = 0; row < end - begin; ++row) write_initial_gradient(begin + row, row, first, last, d);
        if (call.dx)  // padding
            for (Index s = begin + member.index; s < end; s += member.team) {
                T* past_end = call.dx + (schedule.order[s] * call.shape.T + schedule.length[s]) * call.shape.D;
                fill_zero(past_end, (call.shape.T - schedule.length[s]) * call.shape.D);
            }
    }

    // Tasks of dx: chunks of packed rows and, where these are few, parts of the blocks of inputs.
    Index dx_chunks() const { return call.dx ? (schedule.rows + dx_rows - 1) / dx_rows : 0; }
    Index dx_parts() const { return smaller(inputs.count(), 2 * schedule.threads / larger(dx_chunks(), 1) + 1); }
    Index dx_tasks() const { return dx_chunks() * dx_parts(); }

    // dx = dgates Wx^T for one chunk of packed rows and one part of the inputs
    void dx_task(Index task, T* scratch) const {
        const Index begin = task / dx_parts() * dx_rows, rows = smaller(schedule.rows - begin, dx_rows);
        const Index first = part(inputs.count(), dx_parts(), task % dx_parts());
        const Index last = part(inputs.count(), dx_parts(), task % dx_parts() + 1);
        const Index stride = odd(smaller(dx_rows, schedule.rows)) * W;
        const Reduction k{hidden.count(), Cell::pre * tape_stride, Cell::input, tape_stride, hidden.last()};
        static constexpr T zero[W] = {};
        const Panels<T> out{scratch, stride};
        product_of_blocks(first, last, rows, inputs, k, call.tape.gates + begin * W, weights.WxT(0),
                          ConstPanels<T>{zero, 0, 0}, out);
        for_rows(schedule, begin, begin + rows, [&](Index row, Index position, Index step) {
            const Index time = time_of(schedule, position, step);
            T* to = call.dx + (schedule.order[position] * call.shape.T + time) * call.shape.D;
            for (Index block = first; block < last; ++block)
                Wide::load(scratch + block * stride + (row - begin) * W)
                    .store_partial(to + block * W, inputs.units(block));
        });
    }

    Index updates() const { return (schedule.rows + update_rows<T> - 1) / update_rows<T>; }

    // One part of the rows of x of an update, into panels [input blocks, rows, W].
    void gather_inputs(Index update, T* panels, Index part_index, Index parts) const {
        const Index first = update * update_rows<T>, rows = update_size(update);
        const Index from = first + part(rows, parts, part_index), to = first + part(rows, parts, part_index + 1);
        if (from < to)
            for_rows(schedule, from, to, [&](Index row, Index position, Index step) {
                pack_input(call.x, inputs, schedule.order[position], time_of(schedule, position, step), panels,
                           xs_stride(), row - first);
            });
    }

    // Tasks of an update: each panel of gates with the blocks of x (one task for ids), those of h, and the bias.
    Index tasks() const { return hidden.count() * Cell::pre * tasks_per_panel(); }

    void update_task(Index update, Index task, const T* xs) const {
        const Index panel = task / tasks_per_panel(), first = update * update_rows<T>, rows = update_size(update);
        Index of = task % tasks_per_panel();
        const Index block = panel / Cell::pre, units = hidden.units(block);
        const int p = static_cast<int>(panel % Cell::pre);
        const Index column = Gates<Cell>::weight_block(p) * hidden.n + block * W;
        const Index row_length = Gates<Cell>::weight_blocks * hidden.n;
        const T* g = call.tape.gates + panel * tape_stride + first * W;
        if (of < input_tasks()) {
            if (p >= Cell::input) return;
            if (call.x.ids) return scatter(rows, units, g, call.x.ids + first, call.dWx + column, row_length);
            return outer_product(rows, inputs.units(of), units, xs + of * xs_stride(), g, update == 0,
                                 call.dWx + of * W * row_length + column, row_length);
        }
        of -= input_tasks();
        if (of < hidden.count()) {
            if (p < Gates<Cell>::recurrent_first) return;
            return outer_product(rows, hidden.units(of), units, call.tape.state[0] + of * tape_stride + first * W, g,
                                 update == 0, call.dWh + of * W * row_length + column, row_length);
        }
        if (call.db) sum_rows(rows, units, g, update == 0, call.db + Cell::order[p] * hidden.n + block * W);
    }

  private:
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

    void write_initial_gradient(Index position, Index row, Index first, Index last, T* const* d) const {
        const Index sequence = schedule.order[position];
        if (schedule.length[position] == 0) read_final_gradient(sequence, row, first, last, d);
        for (int k = 0; k < Cell::states; ++k)
            for (Index block = first; block < last; ++block)
                __builtin_memcpy(call.dinitial[k] + sequence * call.shape.H + block * W,
                                 d[k] + block * state_stride + row * W, sizeof(T) * hidden.units(block));
    }

    // The cell on the units of one block, all rows of step t.
    __attribute__((flatten)) void pointwise(Index t, Index begin, Index rows, Index block, T* const* d_panels) const {
        for (Index row = 0; row < rows; ++row) {
            const Index tape = (schedule.offset[t] + begin + row) * W, local = block * state_stride + row * W;
            T* const gate_panels = call.tape.gates + block * Cell::pre * tape_stride + tape;
            Wide gate[Cell::pre], previous[Cell::states], d[Cell::states];
            for (int p = 0; p < Cell::pre; ++p) gate[p] = Wide::load(gate_panels + p * tape_stride);
            for (int k = 0; k < Cell::states; ++k) {
                previous[k] = Wide::load(call.tape.state[k] + block * tape_stride + tape);
                d[k] = Wide::load(d_panels[k] + local);
            }
            if (call.dh)
                d[0] = d[0] + Wide::load_partial(call.dh + schedule.order[begin + row] * call.dh_stride[0] +
                                                     time_of(schedule, begin + row, t) * call.dh_stride[1] + block * W,
                                                 hidden.units(block));
            Cell::backward(gate, previous, d);
            for (int p = 0; p < Cell::pre; ++p) gate[p].store(gate_panels + p * tape_stride);
            for (int k = 0; k < Cell::states; ++k) d[k].store(d_panels[k] + local);
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
    const Schedule& schedule = call.schedule;
    const BackwardPass<Cell, T> pass(call);
    const Index row_length = Gates<Cell>::weight_blocks * call.shape.H;
    T* const shared = call.scratch + schedule.threads * pass.size.backward_scratch;  // [input blocks, update rows, W]
    if (schedule.rows == 0) {
        fill_zero(call.dWx, call.shape.D * row_length);
        fill_zero(call.dWh, call.shape.H * row_length);
        if (call.db) fill_zero(call.db, Cell::pre * call.shape.H);
    }
    SpinBarrier barriers[max_teams];
#pragma omp parallel num_threads(schedule.threads) if (schedule.threads > 1)
    {
        const FlushDenormals flush;
        const int thread = omp_get_thread_num();
        T* const scratch = call.scratch + thread * pass.size.backward_scratch;
#pragma omp for schedule(static)
        for (Index block = 0; block < pass.pack_blocks(); ++block) pass.pack_block(block);
        if (schedule.team > 1 && omp_get_num_threads() == schedule.threads) {
            const Index slab = thread / schedule.team;
            if (slab < schedule.slabs)
                pass.slab(slab, {schedule.team, thread % schedule.team, &barriers[slab]}, scratch);
#pragma omp barrier
        } else {
#pragma omp for schedule(dynamic, 1)
            for (Index slab = 0; slab < schedule.slabs; ++slab) pass.slab(slab, {}, scratch);
        }
#pragma omp for schedule(dynamic, 1) nowait
        for (Index task = 0; task < pass.dx_tasks(); ++task) pass.dx_task(task, scratch);
        if (call.x.ids) {
#pragma omp for schedule(static)
            for (Index token = 0; token < call.shape.D; ++token) fill_zero(call.dWx + token * row_length, row_length);
        }
        for (Index update = 0; update < pass.updates(); ++update) {
            if (!call.x.ids) {
#pragma omp for schedule(static)
                for (Index i = 0; i < schedule.threads; ++i) pass.gather_inputs(update, shared, i, schedule.threads);
            }
#pragma omp for schedule(static)
            for (Index task = 0; task < pass.tasks(); ++task) pass.update_task(update, task, shared);
        }
    }
}

}  // namespace rnnfast::RNNFAST_ISA
