// forward.hpp: the forward pass of any cell: the loop over time, lengths, direction, and the split over threads.
// Called by kernels.cpp.
//
// A slab, some adjacent sorted positions, is carried through all steps by one thread without a barrier, or by a team
// of threads, each of which owns some blocks of units (and their weights, which stay in its L2 cache) and waits for the
// others once a step. Every number is computed alike in either case, so that no result depends on the split.
#pragma once

#include <omp.h>

#include "layout.hpp"
#include "team.hpp"

namespace rnnfast::RNNFAST_ISA {

template <class Cell, class T>
class ForwardSlab {
    static constexpr Index W = panel_width<T>;
    using Wide = Vec<T, 2>;  // a row of a panel

    const Forward<T>& call;
    const Schedule& schedule;
    const Index begin, end;  // sorted positions
    Member member;
    const Blocks<T> hidden, inputs;
    const Index first_block, last_block;  // of units: this member's
    const ForwardWeights<Cell, T> weights;
    const Index chunk, gate_stride, state_stride, tape_stride;  // of panels, in numbers
    T *gates, *xs;              // [blocks * pre, chunk, W], [input blocks, chunk, W]: this member's
    T *h, *h_next, *c, *reset;  // [blocks, slab, W]: the team's

  public:
    ForwardSlab(const Forward<T>& call, Index slab, const Member& member, T* scratch, T* team_scratch)
        : call(call),
          schedule(call.schedule),
          begin(schedule.slab[slab]),
          end(schedule.slab[slab + 1]),
          member(member),
          hidden{call.shape.H},
          inputs{call.x.ids ? 0 : call.shape.D},
          first_block(part(hidden.count(), member.team, member.index)),
          last_block(part(hidden.count(), member.team, member.index + 1)),
          weights{hidden, inputs.n, call.packed},
          chunk(chunk_rows<Cell, T>(hidden, inputs, schedule)),
          gate_stride(odd(chunk) * W),
          state_stride(odd(schedule.slab_rows) * W),
          tape_stride(odd(call.tape.rows) * W) {
        gates = scratch;
        xs = gates + hidden.count() * Cell::pre * gate_stride;
        h = team_scratch + (xs - scratch) + inputs.count() * gate_stride;
        h_next = h + hidden.count() * state_stride;
        c = Cell::states > 1 ? h_next + hidden.count() * state_stride : nullptr;
        reset = Gates<Cell>::reset ? h_next + Cell::states * hidden.count() * state_stride : nullptr;
    }

    void run() {
        const Index longest = begin < end ? schedule.length[begin] : 0, steps = smaller(longest, call.last_step);
        read_initial_state();
        if (member.wait()) return;
        for (Index first = call.first_step, last; first < steps; first = last) {
            Index rows = active(first);
            for (last = first + 1; last < steps && rows + active(last) <= chunk; ++last) rows += active(last);
            if (!call.x.ids) gather_inputs(first, last);
            // else step() starts each block while its gates are in L1
            const bool together = last - first > 1 || Gates<Cell>::reset;
            if (together)
                for (Index block = first_block; block < last_block; ++block)
                    input_gates(first, last, rows, block, gates + block * Cell::pre * gate_stride);
            Index row = 0;
            for (Index t = first; t < last; row += active(t), ++t)
                if (step(t, gates + row * W, together)) return;
        }
        if (!call.h || schedule.packed) return;
        for (Index s = begin + member.index; s < end; s += member.team)  // padding
            for (Index t = schedule.length[s]; t < call.shape.T; ++t)
                fill_zero(call.h + schedule.order[s] * call.h_stride[0] + t * call.h_stride[1], call.shape.H);
    }

  private:
    // Sequences of this slab that have a step t.
    Index active(Index t) const {
        const Index a = schedule.active[t] < end ? schedule.active[t] : end;
        return a > begin ? a - begin : 0;
    }

    T* local_state(int k) const { return k == 0 ? h : c; }

    T* tape_row(T* panels, Index t, Index row, Index block) const {
        return panels + block * tape_stride + (schedule.offset[t] + begin + row - call.tape.first_row) * W;
    }

    T* checkpoint_row(int k, Index t, Index row, Index block) const {
        return call.checkpoint[k] + block * odd(checkpoint_rows(schedule)) * W +
               (schedule.checkpoint[t / schedule.every] + begin + row) * W;
    }

    // Units of a state before step t, for backward: on the tape, or at a checkpoint.
    void keep_state(int k, Index t, Index row, Index block, Wide units) const {
        if (call.tape.gates) {
            if (t < call.last_step) units.store(tape_row(call.tape.state[k], t, row, block));
        } else if (call.checkpoint[0] && t % schedule.every == 0) {
            units.store(checkpoint_row(k, t, row, block));
        }
    }

    void read_initial_state() {
        const Index t = call.first_step;
        const bool again = call.tape.gates && call.checkpoint[0];  // for backward, from a checkpoint
        for (int k = 0; k < Cell::states; ++k)
            for (Index row = 0; row < (again ? active(t) : end - begin); ++row)
                for (Index block = first_block; block < last_block; ++block) {
                    const Index units = hidden.units(block);
                    const Index unit = schedule.order[begin + row] * call.shape.H + block * W;
                    Wide state(T(0));
                    if (again)
                        state = Wide::load(checkpoint_row(k, t, row, block));
                    else if (call.state[k])
                        state = Wide::load_partial(call.state[k] + unit, units);
                    state.store(local_state(k) + block * state_stride + row * W);
                    if (schedule.length[begin + row] > 0)
                        keep_state(k, t, row, block, state);
                    else if (call.final_state[k])
                        state.store_partial(call.final_state[k] + unit, units);
                }
    }

    // Rows of x of the steps first..last-1.
    void gather_inputs(Index first, Index last) {
        Index row = 0;
        for (Index t = first; t < last; ++t)
            for (Index i = 0; i < active(t); ++i, ++row)
                pack_input(call.x, inputs, schedule, begin + i, t, xs, gate_stride, row);
    }

    // out = b + x Wx [pre, rows, W]: one block, the steps first..last-1, `rows` rows in all
    void input_gates(Index first, Index last, Index rows, Index block, T* out_panels) {
        const ConstPanels<T> bias{weights.b(block, 0), W, 0};
        const Panels<T> out{out_panels, gate_stride};
        const Reduction k{inputs.count(), gate_stride, 1, 0, inputs.last()};
        if (!call.x.ids) {
            product(rows, Index(Cell::input), hidden.registers(block), k, xs, weights.Wx(block, 0), bias, out);
        } else {
            Index row = 0;
            for (Index t = first; t < last; ++t)
                for (Index i = 0; i < active(t); ++i, ++row)
                    embed(call.x.ids[schedule.offset[t] + begin + i], block, out_panels + row * W);
        }
        for (int p = Cell::input; p < Cell::pre; ++p)
            for (Index i = 0; i < rows; ++i) __builtin_memcpy(out.at(i, 2 * p), bias.at(0, 2 * p), sizeof(T) * W);
    }

    // One row of b + Wx[id]: the product with a one-hot row, without the product.
    void embed(Index id, Index block, T* out) {
        const Matrix<T>& Wx = call.weights.Wx;
        for (int p = 0; p < Cell::input; ++p, out += gate_stride) {
            const T* from =
                Wx.data + id * Wx.row_stride + (Gates<Cell>::weight_block(p) * hidden.n + block * W) * Wx.column_stride;
            const T* b = weights.b(block, p);
            if (Wx.column_stride == 1 && hidden.units(block) == W)
                (Wide::load(b) + Wide::load(from)).store(out);
            else
                for (Index i = 0; i < W; ++i)
                    out[i] = i < hidden.units(block) ? b[i] + from[i * Wx.column_stride] : T(0);
        }
    }

    // gates_t [blocks * pre, active(t), W]: with_input, what x contributes is there; else one block's space is used
    // for all, one after the other. True where the call is to end early.
    bool step(Index t, T* gates_t, bool with_input) {
        const Index rows = active(t);
        const Reduction k{hidden.count(), state_stride, 1, 0, hidden.last()};
        if constexpr (Gates<Cell>::reset) return step_with_reset(t, rows, k, gates_t);
        constexpr Index first = Gates<Cell>::recurrent_first;
        for (Index block = first_block, next; block < last_block; block = next) {
            next = block + 1;
            if (rows <= tile_rows / 2 && hidden.registers(block) == 2)
                while (next < last_block && next < block + blocks_at_once<Cell> && hidden.registers(next) == 2) ++next;
            T* const panels = gates_t + (with_input ? block * Cell::pre * gate_stride : 0);
            const auto panels_of = [&](Index b) { return panels + (b - block) * Cell::pre * gate_stride; };
            if (!with_input)
                for (Index b = block; b < next; ++b) input_gates(t, t + 1, rows, b, panels_of(b));
            const Panels<T> out{panels + first * gate_stride, gate_stride};
            product(rows, (next - block) * Cell::recurrent, hidden.registers(block), k, h, weights.Wh(block, 0),
                    ConstPanels<T>{out.data, gate_stride}, out);
            for (Index b = block; b < next; ++b) pointwise(t, b, panels_of(b));
        }
        return next_step();
    }

    bool next_step() {
        if (member.wait()) return true;  // from here on h_next is complete and h no longer read
        T* swapped = h;
        h = h_next;
        h_next = swapped;
        return false;
    }

    // Two products with the cell's own in between, for which the team waits once more. What x contributes is there.
    bool step_with_reset(Index t, Index rows, const Reduction& k, T* gates_t) {
        const auto panels_of = [&](Index block) { return gates_t + block * Cell::pre * gate_stride; };
        const auto multiply = [&](Index block, int first, int count, const T* by) {
            const Panels<T> out{panels_of(block) + first * gate_stride, gate_stride};
            product(rows, Index(count), hidden.registers(block), k, by,
                    weights.Wh(block, first - Gates<Cell>::recurrent_first), ConstPanels<T>{out.data, gate_stride},
                    out);
        };
        for (Index block = first_block; block < last_block; ++block) {
            multiply(block, Gates<Cell>::plain_first, Gates<Cell>::plain, h);
            pointwise_reset(t, block, panels_of(block));
        }
        if (member.wait()) return true;  // from here on `reset` is complete
        for (Index block = first_block; block < last_block; ++block) {
            multiply(block, Gates<Cell>::recurrent_first, Gates<Cell>::reset, reset);
            pointwise(t, block, panels_of(block));
        }
        return next_step();
    }

    // What the cell makes of h for the reset's blocks, the units of one block, all rows of step t.
    __attribute__((flatten)) void pointwise_reset(Index t, Index block, T* gate_panels) {
        for (Index row = 0; row < active(t); ++row) {
            Wide gate[Cell::pre], state[Cell::states];
            for (int p = 0; p < Cell::pre; ++p) gate[p] = Wide::load(gate_panels + p * gate_stride + row * W);
            state[0] = Wide::load(h + block * state_stride + row * W);
            const Wide made = Cell::forward_reset(gate, state);
            for (int p = 0; p < Cell::pre; ++p) gate[p].store(gate_panels + p * gate_stride + row * W);
            made.store(reset + block * state_stride + row * W);
            if (call.tape.gates) made.store(tape_row(call.tape.state[Cell::states], t, row, block));
        }
    }

    // The cell on the units of one block, all rows of step t.
    __attribute__((flatten)) void pointwise(Index t, Index block, const T* gate_panels) {
        const Index rows = active(t), continuing = active(t + 1), H = call.shape.H, units = hidden.units(block);
        T* const local[max_states] = {h_next + block * state_stride,
                                      Cell::states > 1 ? c + block * state_stride : nullptr};
        for (Index row = 0; row < rows; ++row) {
            const Index sequence = schedule.order[begin + row];
            Wide gate[Cell::pre], state[Cell::states];
            for (int p = 0; p < Cell::pre; ++p) gate[p] = Wide::load(gate_panels + p * gate_stride + row * W);
            state[0] = Wide::load(h + block * state_stride + row * W);
            if constexpr (Cell::states > 1) state[1] = Wide::load(local[1] + row * W);
            Cell::forward(gate, state);
            for (int k = 0; k < Cell::states; ++k) state[k].store(local[k] + row * W);
            if (call.h)
                state[0].store_partial(row_of(call.h, call.h_stride, schedule, begin + row, t) + block * W, units);
            if (row >= continuing && call.final_state[0])
                for (int k = 0; k < Cell::states; ++k)
                    state[k].store_partial(call.final_state[k] + sequence * H + block * W, units);
            if (call.tape.gates)
                for (int p = 0; p < Cell::pre; ++p)
                    gate[p].store(tape_row(call.tape.gates, t, row, block * Cell::pre + p));
            if (row < continuing)
                for (int k = 0; k < Cell::states; ++k) keep_state(k, t + 1, row, block, state[k]);
        }
    }
};

// All slabs, by the threads of a parallel region. scratch_size: of a thread, in numbers
template <class Cell, class T>
bool forward_slabs(const Forward<T>& call, Index scratch_size, SpinBarrier* barriers) {
    T* const scratch = call.scratch + omp_get_thread_num() * scratch_size;
    return over_slabs(call.schedule, barriers, [&](Index slab, const Member& member, int leader) {
        ForwardSlab<Cell, T>(call, slab, member, scratch, call.scratch + leader * scratch_size).run();
    });
}

// The weights, by the same threads: where all are one team, each packs the blocks that it owns.
template <class Cell, class T>
void pack_forward(const Forward<T>& call) {
    const Blocks<T> hidden{call.shape.H};
    const Index threads = omp_get_num_threads(), thread = omp_get_thread_num();
    ForwardWeights<Cell, T>{hidden, call.x.ids ? 0 : call.shape.D, call.packed}.pack(
        call.weights, part(hidden.count(), threads, thread), part(hidden.count(), threads, thread + 1));
#pragma omp barrier
}

template <class Cell, class T>
void forward(const Forward<T>& call) {
    const Index scratch_size = sizes<Cell, T>(call.shape, call.schedule, call.x.ids != nullptr).forward_scratch;
    SpinBarrier barriers[max_teams];
    SpinBarrier::prepare(barriers, call.schedule);
#pragma omp parallel num_threads(call.schedule.threads) if (call.schedule.threads > 1)
    {
        const FlushDenormals flush;
        if (!call.is_packed) pack_forward<Cell>(call);
        forward_slabs<Cell>(call, scratch_size, barriers);
    }
}

}  // namespace rnnfast::RNNFAST_ISA
