// recurrence.hpp: forward<Cell, T> and backward<Cell, T>, the drivers of every cell: the loop over time, the
// split over threads, lengths, direction, and the gradients of the weights. Instantiated by kernels.cpp.
// It must not know what a cell computes (cells.hpp) nor how a product is formed (matmul.hpp).
//
// A slab, some adjacent sorted positions, is carried by one thread through all steps without a barrier. No
// result depends on the slabs: rows are independent, and the sums over rows (dWx, dWh, db) are split by columns
// and always taken in the order of the packed rows.
#pragma once

#include <omp.h>

#include <cstddef>

#include "cells.hpp"
#include "matmul.hpp"
#include "problem.hpp"
#include "simd.hpp"

namespace rnnfast::RNNFAST_ISA {

// A dimension of n units cut into panels.
template <class T>
struct Blocks {
    static constexpr Index W = panel_width<T>;
    Index n;

    Index count() const { return (n + W - 1) / W; }
    Index units(Index block) const { return block + 1 < count() ? W : n - block * W; }
    Index last() const { return n == 0 ? 0 : units(count() - 1); }
    int registers(Index block) const { return units(block) > Vec<T>::lanes ? 2 : 1; }  // in use in its panel
    Index full() const { return (n + Vec<T>::lanes - 1) / W; }                         // blocks with both in use
};

// Where the gate blocks of a cell stand, in a row of pre-activations and in the caller's weights.
template <class Cell>
struct Gates {
    static constexpr int weight_blocks = Cell::input > Cell::recurrent ? Cell::input : Cell::recurrent;
    static constexpr int recurrent_first = Cell::pre - Cell::recurrent;

    static Index weight_block(int p) { return Cell::order[p] < weight_blocks ? Cell::order[p] : weight_blocks - 1; }
};

// A row of gates holds, for each block of W units, its `pre` panels; consecutive panels are `rows` rows apart.
// The recurrent products of small batches are latency-bound: cells of one block join neighbours (see product).
template <class Cell>
constexpr Index blocks_at_once = Cell::pre == Cell::recurrent && Cell::recurrent < 4 ? 4 / Cell::recurrent : 1;

inline Index odd(Index rows) { return rows | 1; }  // panels an odd number of rows apart fall into different cache sets

template <class T>
inline void fill_zero(T* p, Index count) {
    __builtin_memset(p, 0, static_cast<std::size_t>(count) * sizeof(T));
}

// ---- places: sorted position and step -> sequence and time

inline Index time_of(const Schedule& s, Index position, Index step) {
    return s.reverse ? s.length[position] - 1 - step : step;
}

// Calls visit(row, position, step) for the packed rows first..last-1.
template <class Visit>
inline void for_rows(const Schedule& s, Index first, Index last, Visit visit) {
    Index low = 0, high = s.length[0];  // the step with offset[low] <= first < offset[low + 1]
    while (high - low > 1) {
        const Index middle = (low + high) / 2;
        (s.offset[middle] <= first ? low : high) = middle;
    }
    for (Index row = first, step = low; row < last; ++step)
        for (const Index end = s.offset[step + 1] < last ? s.offset[step + 1] : last; row < end; ++row)
            visit(row, row - s.offset[step], step);
}

// One row of x into row `row` of panels [blocks, panel_stride / W, W].
template <class T>
inline void pack_input(const Input<T>& x, Blocks<T> inputs, Index sequence, Index time, T* panels, Index panel_stride,
                       Index row) {
    constexpr Index W = panel_width<T>;
    const T* from = x.data + sequence * x.stride[0] + time * x.stride[1];
    T* to = panels + row * W;
    for (Index block = 0; block < inputs.count(); ++block, to += panel_stride) {
        if (x.stride[2] == 1 && inputs.units(block) == W)
            __builtin_memcpy(to, from + block * W, sizeof(T) * W);
        else
            for (Index i = 0; i < inputs.units(block); ++i) to[i] = from[(block * W + i) * x.stride[2]];
    }
}

// A product whose result is all the panels of a dimension, the last of them perhaps half in use.
template <class T>
inline void product_of_all(Index rows, Blocks<T> columns, const Reduction& k, const T* a, const T* b,
                           ConstPanels<T> from, Panels<T> out) {
    const Index full = columns.full();
    product(rows, full, 2, k, a, b, from, out);
    if (full == columns.count()) return;
    from.data += full * from.panel_stride;
    out.data += full * out.panel_stride;
    product(rows, Index(1), 1, k, a, b + full * k.size(panel_width<T>) * panel_width<T>, from, out);
}

// ---- packed weights

// [K, W] columns first..first+count-1 of a matrix of K rows; the other columns are 0.
template <class T>
void pack_columns(const Matrix<T>& m, Index K, Index first, Index count, T* out) {
    constexpr Index W = panel_width<T>;
    for (Index k = 0; k < K; ++k, out += W) {
        const T* from = m.data + k * m.row_stride + first * m.column_stride;
        if (m.column_stride == 1 && count == W) {
            __builtin_memcpy(out, from, sizeof(T) * W);
        } else {
            for (Index i = 0; i < count; ++i) out[i] = from[i * m.column_stride];
            for (Index i = count; i < W; ++i) out[i] = T(0);
        }
    }
}

// [blocks, gates, units, W]: the transpose of rows first..first+count-1, its rows in the order in which a row of
// gates is read: the `gates` panels from gate `gate` on, block after block.
template <class Cell, class T>
void pack_transposed(const Matrix<T>& m, Blocks<T> hidden, int gate, int gates, Index first, Index count, T* out) {
    constexpr Index W = panel_width<T>;
    for (Index block = 0; block < hidden.count(); ++block)
        for (int g = gate; g < gate + gates; ++g, out += hidden.units(block) * W) {
            const Index column = Gates<Cell>::weight_block(g) * hidden.n + block * W;
            for (Index i = 0; i < W; ++i)
                for (Index k = 0; k < hidden.units(block); ++k)
                    out[k * W + i] =
                        i < count ? m.data[(first + i) * m.row_stride + (column + k) * m.column_stride] : T(0);
        }
}

// Forward weights: Wx [blocks, input, D, W] (none for token ids), Wh [blocks, recurrent, H, W], b [blocks, pre, W].
template <class Cell, class T>
struct ForwardWeights {
    static constexpr Index W = panel_width<T>;
    Blocks<T> hidden;
    Index D;  // 0 for token ids
    T* data;

    T* Wx(Index block, int gate) const { return data + (block * Cell::input + gate) * D * W; }
    T* Wh(Index block, int gate) const {
        return Wx(hidden.count(), 0) + (block * Cell::recurrent + gate) * hidden.n * W;
    }
    T* b(Index block, int gate) const { return Wh(hidden.count(), 0) + (block * Cell::pre + gate) * W; }
    Index size() const { return b(hidden.count(), 0) - data; }

    void pack_block(const Weights<T>& weights, Index block) const {
        const Index units = hidden.units(block);
        for (int p = 0; p < Cell::input && D; ++p)
            pack_columns(weights.Wx, D, Gates<Cell>::weight_block(p) * hidden.n + block * W, units, Wx(block, p));
        for (int p = 0; p < Cell::recurrent; ++p)
            pack_columns(weights.Wh, hidden.n,
                         Gates<Cell>::weight_block(Gates<Cell>::recurrent_first + p) * hidden.n + block * W, units,
                         Wh(block, p));
        for (int p = 0; p < Cell::pre; ++p)
            for (Index i = 0; i < W; ++i)
                b(block, p)[i] = weights.b && i < units ? weights.b[Cell::order[p] * hidden.n + block * W + i] : T(0);
    }
};

// Backward weights: Wh^T [hidden blocks, recurrent * H, W], then Wx^T [input blocks, input * H, W].
template <class Cell, class T>
struct BackwardWeights {
    static constexpr Index W = panel_width<T>;
    Blocks<T> hidden, inputs;
    T* data;

    T* WhT(Index block) const { return data + block * Cell::recurrent * hidden.n * W; }
    T* WxT(Index block) const { return WhT(hidden.count()) + block * Cell::input * hidden.n * W; }
    Index size(bool with_inputs) const { return WxT(with_inputs ? inputs.count() : 0) - data; }

    // blocks of Wh, then of Wx
    void pack_block(const Weights<T>& weights, Index block) const {
        if (block < hidden.count())
            return pack_transposed<Cell>(weights.Wh, hidden, Gates<Cell>::recurrent_first, Cell::recurrent, block * W,
                                         hidden.units(block), WhT(block));
        block -= hidden.count();
        pack_transposed<Cell>(weights.Wx, hidden, 0, Cell::input, block * W, inputs.units(block), WxT(block));
    }
};

// ---- sizes

// Rows of gates that forward computes from x before it walks through their steps: as many as stay in the L2 cache.
template <class Cell, class T>
inline Index chunk_rows(Blocks<T> hidden, Index slab_rows) {
    constexpr Index budget = 256 * 1024;
    const Index fitting = budget / (Index(sizeof(T)) * Cell::pre * panel_width<T> * (hidden.count() + 1));
    const Index rows = fitting < 2 * tile_rows ? 2 * tile_rows : fitting;
    return rows < slab_rows ? slab_rows : rows;
}

// Rows of one rank-k update of the weight gradients: a panel of these takes a third of the L1 cache.
template <class T>
constexpr Index update_rows = 12 * 1024 / (panel_width<T> * Index(sizeof(T)));

constexpr Index dx_rows = 16 * tile_rows;

template <class Cell, class T>
Sizes sizes(const Shape& shape, const Schedule& schedule, bool ids) {
    constexpr Index W = panel_width<T>;
    const Blocks<T> hidden{shape.H}, inputs{ids ? 0 : shape.D};
    const Index chunk = chunk_rows<Cell, T>(hidden, schedule.slab_rows), slab = odd(schedule.slab_rows);
    Sizes s;
    s.gates = hidden.count() * Cell::pre * odd(schedule.rows) * W;
    s.state = hidden.count() * odd(schedule.rows) * W;
    s.forward_weights = ForwardWeights<Cell, T>{hidden, inputs.n, nullptr}.size();
    s.forward_scratch =
        W * odd(chunk) * (hidden.count() * Cell::pre + inputs.count()) + W * slab * hidden.count() * (Cell::states + 1);
    s.backward_weights = BackwardWeights<Cell, T>{hidden, inputs, nullptr}.size(!ids);
    s.backward_scratch = W * slab * hidden.count() * Cell::states + W * odd(dx_rows) * inputs.count();
    s.shared_scratch = W * odd(update_rows<T>) * inputs.count();
    return s;
}

// ---- forward

template <class Cell, class T>
class ForwardSlab {
    static constexpr Index W = panel_width<T>;
    using Wide = Vec<T, 2>;  // a row of a panel

    const Forward<T>& call;
    const Schedule& schedule;
    const Index begin, end;  // sorted positions
    const Blocks<T> hidden, inputs;
    const ForwardWeights<Cell, T> weights;
    const Index chunk, gate_stride, state_stride, tape_stride;  // of panels, in numbers
    T *gates, *xs;                                              // [blocks * pre, chunk, W], [input blocks, chunk, W]
    T *h, *h_next, *c;                                          // [blocks, slab, W]

  public:
    ForwardSlab(const Forward<T>& call, Index slab, T* scratch)
        : call(call),
          schedule(call.schedule),
          begin(schedule.slab[slab]),
          end(schedule.slab[slab + 1]),
          hidden{call.shape.H},
          inputs{call.x.ids ? 0 : call.shape.D},
          weights{hidden, inputs.n, call.packed},
          chunk(chunk_rows<Cell, T>(hidden, schedule.slab_rows)),
          gate_stride(odd(chunk) * W),
          state_stride(odd(schedule.slab_rows) * W),
          tape_stride(odd(schedule.rows) * W) {
        gates = scratch;
        xs = gates + hidden.count() * Cell::pre * gate_stride;
        h = xs + inputs.count() * gate_stride;
        h_next = h + hidden.count() * state_stride;
        c = h_next + hidden.count() * state_stride;
    }

    void run() {
        const Index steps = begin < end ? schedule.length[begin] : 0;
        read_initial_state();
        for (Index first = 0, last; first < steps; first = last) {
            Index rows = active(first);
            for (last = first + 1; last < steps && rows + active(last) <= chunk; ++last) rows += active(last);
            input_gates(first, last, rows);
            Index row = 0;
            for (Index t = first; t < last; row += active(t), ++t) step(t, gates + row * W);
        }
        for (Index s = begin; s < end; ++s) {
            T* past_end = call.h + (schedule.order[s] * call.shape.T + schedule.length[s]) * call.shape.H;
            fill_zero(past_end, (call.shape.T - schedule.length[s]) * call.shape.H);
        }
    }

  private:
    // Sequences of this slab that have a step t.
    Index active(Index t) const {
        const Index a = schedule.active[t] < end ? schedule.active[t] : end;
        return a > begin ? a - begin : 0;
    }

    T* local_state(int k) const { return k == 0 ? h : c; }

    T* tape_state(int k, Index t, Index row, Index block) const {
        return call.tape.state[k] + block * tape_stride + (schedule.offset[t] + begin + row) * W;
    }

    void read_initial_state() {
        for (int k = 0; k < Cell::states; ++k)
            for (Index row = 0; row < end - begin; ++row)
                for (Index block = 0; block < hidden.count(); ++block) {
                    const Index unit = schedule.order[begin + row] * call.shape.H + block * W;
                    T* local = local_state(k) + block * state_stride + row * W;
                    for (Index i = 0; i < W; ++i)
                        local[i] = call.state[k] && i < hidden.units(block) ? call.state[k][unit + i] : T(0);
                    if (schedule.length[begin + row] == 0)
                        __builtin_memcpy(call.final_state[k] + unit, local, sizeof(T) * hidden.units(block));
                    else if (call.tape.gates)
                        __builtin_memcpy(tape_state(k, 0, row, block), local, sizeof(T) * W);
                }
    }

    // gates = b + x Wx for the steps first..last-1, `rows` rows in all
    void input_gates(Index first, Index last, Index rows) {
        Index row = 0;
        for (Index t = first; t < last; ++t)
            for (Index i = 0; i < active(t); ++i, ++row) {
                if (call.x.ids)
                    embed(call.x.ids[schedule.offset[t] + begin + i], row);
                else
                    pack_input(call.x, inputs, schedule.order[begin + i], time_of(schedule, begin + i, t), xs,
                               gate_stride, row);
            }
        const Reduction k{inputs.count(), gate_stride, 1, 0, inputs.last()};
        for (Index block = 0; block < hidden.count(); ++block) {
            const ConstPanels<T> bias{weights.b(block, 0), W, 0};
            const Panels<T> out{gates + block * Cell::pre * gate_stride, gate_stride};
            if (!call.x.ids)
                product(rows, Index(Cell::input), hidden.registers(block), k, xs, weights.Wx(block, 0), bias, out);
            for (int p = Cell::input; p < Cell::pre; ++p)
                for (Index i = 0; i < rows; ++i) __builtin_memcpy(out.at(i, 2 * p), bias.at(0, 2 * p), sizeof(T) * W);
        }
    }

    // One row of b + Wx[id]: the product with a one-hot row, without the product.
    void embed(Index id, Index row) {
        const Matrix<T>& Wx = call.weights.Wx;
        for (Index block = 0; block < hidden.count(); ++block)
            for (int p = 0; p < Cell::input; ++p) {
                const T* from = Wx.data + id * Wx.row_stride +
                                (Gates<Cell>::weight_block(p) * hidden.n + block * W) * Wx.column_stride;
                const T* b = weights.b(block, p);
                T* to = gates + (block * Cell::pre + p) * gate_stride + row * W;
                if (Wx.column_stride == 1 && hidden.units(block) == W)
                    (Wide::load(b) + Wide::load(from)).store(to);
                else
                    for (Index i = 0; i < W; ++i)
                        to[i] = i < hidden.units(block) ? b[i] + from[i * Wx.column_stride] : T(0);
            }
    }

    // gates of step t [blocks * pre, active(t), W]: pre-activations of the input in
    void step(Index t, T* gates_t) {
        const Index rows = active(t);
        const Reduction k{hidden.count(), state_stride, 1, 0, hidden.last()};
        constexpr Index first = Gates<Cell>::recurrent_first;
        for (Index block = 0, next; block < hidden.count(); block = next) {
            next = block + 1;
            if (rows <= tile_rows / 2 && hidden.registers(block) == 2)
                while (next < hidden.count() && next < block + blocks_at_once<Cell> && hidden.registers(next) == 2)
                    ++next;
            const Panels<T> out{gates_t + (block * Cell::pre + first) * gate_stride, gate_stride};
            product(rows, (next - block) * Cell::recurrent, hidden.registers(block), k, h, weights.Wh(block, 0),
                    ConstPanels<T>{out.data, gate_stride}, out);
            for (Index b = block; b < next; ++b) pointwise(t, b, gates_t + b * Cell::pre * gate_stride);
        }
        T* swapped = h;
        h = h_next;
        h_next = swapped;
    }

    // The cell on the units of one block, all rows of step t.
    __attribute__((flatten)) void pointwise(Index t, Index block, const T* gate_panels) {
        const Index rows = active(t), continuing = active(t + 1), H = call.shape.H, units = hidden.units(block);
        T* const local[max_states] = {h_next + block * state_stride, c + block * state_stride};
        for (Index row = 0; row < rows; ++row) {
            const Index sequence = schedule.order[begin + row];
            Wide gate[Cell::pre], state[Cell::states];
            for (int p = 0; p < Cell::pre; ++p) gate[p] = Wide::load(gate_panels + p * gate_stride + row * W);
            state[0] = Wide::load(h + block * state_stride + row * W);
            if constexpr (Cell::states > 1) state[1] = Wide::load(local[1] + row * W);
            Cell::forward(gate, state);
            for (int k = 0; k < Cell::states; ++k) state[k].store(local[k] + row * W);
            const Index time = time_of(schedule, begin + row, t);
            state[0].store_partial(call.h + (sequence * call.shape.T + time) * H + block * W, units);
            if (row >= continuing)
                for (int k = 0; k < Cell::states; ++k)
                    state[k].store_partial(call.final_state[k] + sequence * H + block * W, units);
            if (!call.tape.gates) continue;
            for (int p = 0; p < Cell::pre; ++p)
                gate[p].store(call.tape.gates + (block * Cell::pre + p) * tape_stride +
                              (schedule.offset[t] + begin + row) * W);
            if (row < continuing)
                for (int k = 0; k < Cell::states; ++k) state[k].store(tape_state(k, t + 1, row, block));
        }
    }
};

template <class Cell, class T>
void forward(const Forward<T>& call) {
    const Schedule& schedule = call.schedule;
    const Blocks<T> hidden{call.shape.H};
    const bool ids = call.x.ids != nullptr;
    const ForwardWeights<Cell, T> weights{hidden, ids ? 0 : call.shape.D, call.packed};
    const Index scratch = sizes<Cell, T>(call.shape, schedule, ids).forward_scratch;
#pragma omp parallel num_threads(schedule.threads) if (schedule.threads > 1)
    {
        const FlushDenormals flush;
        if (!call.is_packed) {
#pragma omp for schedule(static)
            for (Index block = 0; block < hidden.count(); ++block) weights.pack_block(call.weights, block);
        }
#pragma omp for schedule(dynamic, 1)
        for (Index slab = 0; slab < schedule.slabs; ++slab)
            ForwardSlab<Cell, T>(call, slab, call.scratch + omp_get_thread_num() * scratch).run();
    }
}

// ---- backward

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
    void slab(Index index, T* scratch) const {
        const Index begin = schedule.slab[index], end = schedule.slab[index + 1];
        const auto active = [&](Index t) {
            const Index a = schedule.active[t] < end ? schedule.active[t] : end;
            return a > begin ? a - begin : 0;
        };
        T* d[max_states] = {scratch, scratch + hidden.count() * state_stride};  // [blocks, slab, W]
        const Reduction k{hidden.count(), Cell::pre * tape_stride, Cell::recurrent, tape_stride, hidden.last()};
        for (Index t = begin < end ? schedule.length[begin] - 1 : -1; t >= 0; --t) {
            const Index rows = active(t), row0 = schedule.offset[t] + begin;
            for (Index row = active(t + 1); row < rows; ++row) read_final_gradient(schedule.order[begin + row], row, d);
            for (Index block = 0; block < hidden.count(); ++block) pointwise(t, begin, rows, block, d);
            const T* gates = call.tape.gates + Gates<Cell>::recurrent_first * tape_stride + row0 * W;
            product_of_all(rows, hidden, k, gates, weights.WhT(0), ConstPanels<T>{d[0], state_stride},
                           Panels<T>{d[0], state_stride});
        }
        for (Index row = 0; row < end - begin; ++row) write_initial_gradient(begin + row, row, d);
        if (call.dx)
            for (Index s = begin; s < end; ++s) {
                T* past_end = call.dx + (schedule.order[s] * call.shape.T + schedule.length[s]) * call.shape.D;
                fill_zero(past_end, (call.shape.T - schedule.length[s]) * call.shape.D);
            }
    }

    Index dx_chunks() const { return call.dx ? (schedule.rows + dx_rows - 1) / dx_rows : 0; }

    // dx = dgates Wx^T for one chunk of packed rows
    void dx_chunk(Index index, T* scratch) const {
        const Index first = index * dx_rows, rows = schedule.rows - first < dx_rows ? schedule.rows - first : dx_rows;
        const Index stride = odd(dx_rows) * W;
        const Reduction k{hidden.count(), Cell::pre * tape_stride, Cell::input, tape_stride, hidden.last()};
        static constexpr T zero[W] = {};
        const Panels<T> out{scratch, stride};
        product_of_all(rows, inputs, k, call.tape.gates + first * W, weights.WxT(0), ConstPanels<T>{zero, 0, 0}, out);
        for_rows(schedule, first, first + rows, [&](Index row, Index position, Index step) {
            const Index time = time_of(schedule, position, step);
            T* to = call.dx + (schedule.order[position] * call.shape.T + time) * call.shape.D;
            for (Index block = 0; block < inputs.count(); ++block)
                Wide::load(scratch + block * stride + (row - first) * W)
                    .store_partial(to + block * W, inputs.units(block));
        });
    }

    Index updates() const { return (schedule.rows + update_rows<T> - 1) / update_rows<T>; }

    // The rows of x of one update, one block of inputs, into panels [rows, W].
    void gather_inputs(Index update, T* panels, Index part_index, Index parts) const {
        const Index first = update * update_rows<T>, rows = update_size(update);
        const Index from = first + part(rows, parts, part_index), to = first + part(rows, parts, part_index + 1);
        if (from < to)
            for_rows(schedule, from, to, [&](Index row, Index position, Index step) {
                pack_input(call.x, inputs, schedule.order[position], time_of(schedule, position, step), panels,
                           odd(update_rows<T>) * W, row - first);
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
            return outer_product(rows, inputs.units(of), units, xs + of * odd(update_rows<T>) * W, g, update == 0,
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
    Index update_size(Index update) const {
        const Index left = schedule.rows - update * update_rows<T>;
        return left < update_rows<T> ? left : update_rows<T>;
    }

    Index input_tasks() const { return call.x.ids ? 1 : inputs.count(); }
    Index tasks_per_panel() const { return input_tasks() + hidden.count() + 1; }

    void read_final_gradient(Index sequence, Index row, T* const* d) const {
        for (int k = 0; k < Cell::states; ++k)
            for (Index block = 0; block < hidden.count(); ++block)
                for (Index i = 0; i < W; ++i)
                    d[k][block * state_stride + row * W + i] =
                        call.dstate[k] && i < hidden.units(block)
                            ? call.dstate[k][sequence * call.shape.H + block * W + i]
                            : T(0);
    }

    void write_initial_gradient(Index position, Index row, T* const* d) const {
        const Index sequence = schedule.order[position];
        if (schedule.length[position] == 0) read_final_gradient(sequence, row, d);
        for (int k = 0; k < Cell::states; ++k)
            for (Index block = 0; block < hidden.count(); ++block)
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
        if (call.dWx) fill_zero(call.dWx, call.shape.D * row_length);
        fill_zero(call.dWh, call.shape.H * row_length);
        if (call.db) fill_zero(call.db, Cell::pre * call.shape.H);
    }
#pragma omp parallel num_threads(schedule.threads) if (schedule.threads > 1)
    {
        const FlushDenormals flush;
        T* const scratch = call.scratch + omp_get_thread_num() * pass.size.backward_scratch;
#pragma omp for schedule(static)
        for (Index block = 0; block < pass.pack_blocks(); ++block) pass.pack_block(block);
#pragma omp for schedule(dynamic, 1)
        for (Index slab = 0; slab < schedule.slabs; ++slab) pass.slab(slab, scratch);
#pragma omp for schedule(dynamic, 1) nowait
        for (Index chunk = 0; chunk < pass.dx_chunks(); ++chunk) pass.dx_chunk(chunk, scratch);
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
