// layout.hpp: where everything stands: units in panels, gate blocks in a row, packed rows in the caller's arrays,
// packed weights, and how large the buffers are. Shared by forward.hpp, backward.hpp and
// dense.hpp.
// It must not know what a cell computes (cells.hpp).
#pragma once

#include <cstddef>

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
    static_assert(Cell::input == Cell::recurrent, "a block outside a window would have a gradient that nobody writes");
    static constexpr int weight_blocks = Cell::input > Cell::recurrent ? Cell::input : Cell::recurrent;
    static constexpr int recurrent_first = Cell::pre - Cell::recurrent;
    static constexpr int reset = [] {
        if constexpr (requires { Cell::reset; }) return Cell::reset;
        return 0;
    }();
    static constexpr int plain = Cell::recurrent - reset, plain_first = recurrent_first + reset;  // which take h itself
    static constexpr int tape_states = Cell::states + (reset ? 1 : 0);

    static Index weight_block(int p) { return Cell::order[p] < weight_blocks ? Cell::order[p] : weight_blocks - 1; }
};

// A row of gates holds, for each block of W units, its `pre` panels; consecutive panels are odd(rows) rows apart.
// The recurrent products of small batches are latency-bound: cells of one block join neighbours (see product).
template <class Cell>
constexpr Index blocks_at_once = Cell::pre == Cell::recurrent && Cell::recurrent < 4 ? 4 / Cell::recurrent : 1;

inline Index smaller(Index a, Index b) { return a < b ? a : b; }
inline Index larger(Index a, Index b) { return a < b ? b : a; }
inline Index odd(Index rows) { return rows | 1; }  // panels an odd number of rows apart fall into different cache sets

template <class T>
inline void fill_zero(T* p, Index count) {
    __builtin_memset(p, 0, static_cast<std::size_t>(count) * sizeof(T));
}

// ---- places: sorted position and step -> sequence and time

inline Index time_of(const Schedule& s, Index position, Index step) {
    return s.reverse ? s.length[position] - 1 - step : step;
}

// Where the caller's row of a sorted position and step begins.
template <class Pointer>
inline Pointer row_of(Pointer data, const Index* stride, const Schedule& s, Index position, Index step) {
    const Index time = time_of(s, position, step);
    return data + s.order[position] * stride[0] + (s.packed ? s.offset[time] : time) * stride[1];
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

// The row of x of a sorted position and step into row `row` of panels [blocks, panel_stride / W, W].
template <class T>
inline void pack_input(const Input<T>& x, Blocks<T> inputs, const Schedule& s, Index position, Index step, T* panels,
                       Index panel_stride, Index row) {
    constexpr Index W = panel_width<T>;
    const T* from = row_of(x.data, x.stride, s, position, step);
    T* to = panels + row * W;
    for (Index block = 0; block < inputs.count(); ++block, to += panel_stride) {
        if (x.stride[2] == 1 && inputs.units(block) == W)
            __builtin_memcpy(to, from + block * W, sizeof(T) * W);
        else
            for (Index i = 0; i < inputs.units(block); ++i) to[i] = from[(block * W + i) * x.stride[2]];
    }
}

// A product whose result is the panels first..last-1 of a dimension, the last of them perhaps half in use.
template <class T>
inline void product_of_blocks(Index first, Index last, Index rows, Blocks<T> columns, const Reduction& k, const T* a,
                              const T* b, ConstPanels<T> from, Panels<T> out) {
    constexpr Index W = panel_width<T>;
    const Index full = smaller(last, columns.full());
    const auto part_of = [&](Index begin, Index end, int registers) {
        product(rows, end - begin, registers, k, a, b + begin * k.size(W) * W,
                ConstPanels<T>{from.data + begin * from.panel_stride, from.panel_stride, from.row_stride},
                Panels<T>{out.data + begin * out.panel_stride, out.panel_stride});
    };
    if (first < full) part_of(first, full, 2);
    if (larger(first, full) < last) part_of(larger(first, full), last, 1);
}

// ---- packed weights

// [columns, W]: the transpose of `rows` rows and `columns` columns of a matrix; the other columns of the panel are 0.
template <class T>
void pack_transposed(const Matrix<T>& m, Index rows, Index columns, T* out) {
    constexpr Index W = panel_width<T>, lanes = Vec<T>::lanes;
    for (Index i = 0; i < W; i += lanes)
        for (Index k = 0, next; k < columns; k = next) {
            next = smaller(k + lanes, columns);
            const T* from = m.data + i * m.row_stride + k * m.column_stride;
            if (m.column_stride == 1 && i + lanes <= rows && k + lanes <= columns) {
                Vec<T> square[lanes];
                for (Index row = 0; row < lanes; ++row) square[row] = Vec<T>::load(from + row * m.row_stride);
                transpose(square);
                for (Index row = 0; row < lanes; ++row) square[row].store(out + (k + row) * W + i);
            } else {
                for (Index row = 0; row < lanes; ++row)
                    for (Index j = 0; j < next - k; ++j)
                        out[(k + j) * W + i + row] =
                            i + row < rows ? from[row * m.row_stride + j * m.column_stride] : T(0);
            }
        }
}

// [rows, W] columns first..first+count-1 of the rows k..k+rows-1 of a matrix; the other columns are 0.
template <class T>
void pack_columns(const Matrix<T>& m, Index k, Index rows, Index first, Index count, T* out) {
    constexpr Index W = panel_width<T>;
    const T* from = m.data + k * m.row_stride + first * m.column_stride;
    if (m.row_stride == 1 && m.column_stride != 1)  // the transpose of an ordinary matrix
        return pack_transposed(Matrix<T>{from, m.column_stride, m.row_stride}, count, rows, out);
    for (Index row = 0; row < rows; ++row, from += m.row_stride, out += W) {
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
void pack_gates_transposed(const Matrix<T>& m, Blocks<T> hidden, int gate, int gates, Index first, Index count,
                           T* out) {
    constexpr Index W = panel_width<T>;
    for (Index block = 0; block < hidden.count(); ++block)
        for (int g = gate; g < gate + gates; ++g, out += hidden.units(block) * W) {
            const Index column = Gates<Cell>::weight_block(g) * hidden.n + block * W;
            pack_transposed({m.data + first * m.row_stride + column * m.column_stride, m.row_stride, m.column_stride},
                            count, hidden.units(block), out);
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

    // The blocks first..last-1. Few rows at a time go to all panels: a row of the caller's is read from end to end.
    void pack(const Weights<T>& weights, Index first, Index last) const {
        constexpr Index rows = Vec<T>::lanes < 8 ? 8 : Vec<T>::lanes;
        const auto columns = [&](const Matrix<T>& m, Index k, Index count, Index block, int p, T* panel) {
            pack_columns(m, k, count, Gates<Cell>::weight_block(p) * hidden.n + block * W, hidden.units(block),
                         panel + k * W);
        };
        for (Index k = 0; k < D; k += rows)
            for (int p = 0; p < Cell::input; ++p)
                for (Index block = first; block < last; ++block)
                    columns(weights.Wx, k, smaller(rows, D - k), block, p, Wx(block, p));
        for (Index k = 0; k < hidden.n; k += rows)
            for (int p = 0; p < Cell::recurrent; ++p)
                for (Index block = first; block < last; ++block)
                    columns(weights.Wh, k, smaller(rows, hidden.n - k), block, Gates<Cell>::recurrent_first + p,
                            Wh(block, p));
        for (Index block = first; block < last; ++block)
            for (int p = 0; p < Cell::pre; ++p)
                for (Index i = 0; i < W; ++i)
                    b(block, p)[i] = weights.b && i < hidden.units(block)
                                         ? weights.b[Cell::order[p] * hidden.n + block * W + i]
                                         : T(0);
    }
};

// Backward weights: Wh^T [hidden blocks, plain * H, W], of the reset's blocks [hidden blocks, reset * H, W], then
// Wx^T [input blocks, input * H, W].
template <class Cell, class T>
struct BackwardWeights {
    static constexpr Index W = panel_width<T>;
    Blocks<T> hidden, inputs;
    T* data;

    T* WhT(Index block) const { return data + block * Gates<Cell>::plain * hidden.n * W; }
    T* reset_WhT(Index block) const { return WhT(hidden.count()) + block * Gates<Cell>::reset * hidden.n * W; }
    T* WxT(Index block) const { return reset_WhT(hidden.count()) + block * Cell::input * hidden.n * W; }
    Index size(bool with_inputs) const { return WxT(with_inputs ? inputs.count() : 0) - data; }

    // blocks of Wh, then of Wx
    void pack_block(const Weights<T>& weights, Index block) const {
        if (block < hidden.count()) {
            const auto pack = [&](int gate, int gates, T* out) {
                pack_gates_transposed<Cell>(weights.Wh, hidden, gate, gates, block * W, hidden.units(block), out);
            };
            pack(Gates<Cell>::recurrent_first, Gates<Cell>::reset, reset_WhT(block));
            return pack(Gates<Cell>::plain_first, Gates<Cell>::plain, WhT(block));
        }
        block -= hidden.count();
        pack_gates_transposed<Cell>(weights.Wx, hidden, 0, Cell::input, block * W, inputs.units(block), WxT(block));
    }
};

// ---- sizes

// Rows of gates that forward computes from x before it walks through their steps: as many as stay in the L2 cache
// (with few units those of x count), but a step of a slab at least, and no more than there are. Where Wx weighs much
// more than the gates of a step, it is read for more of them at once, at the price of gates that wait in L3.
template <class Cell, class T>
inline Index chunk_rows(Blocks<T> hidden, Blocks<T> inputs, const Schedule& schedule) {
    constexpr Index l2 = 512 * 1024, x_bytes = 1024 * 1024, row = panel_width<T> * Index(sizeof(T));
    const bool heavy = inputs.n > 4 * schedule.slab_rows && inputs.n * hidden.n * Cell::input > l2 / Index(sizeof(T));
    const Index gate_bytes = (heavy ? 4096 : 256) * 1024;
    const Index fitting =
        smaller(gate_bytes / (row * Cell::pre * (hidden.count() + 1)), x_bytes / (row * (inputs.count() + 1)));
    return larger(smaller(larger(fitting, 2 * tile_rows), schedule.rows), schedule.slab_rows);
}

// Rows of one rank-k update of the weight gradients: a panel of these takes a third of the L1 cache.
template <class T>
constexpr Index update_rows = 12 * 1024 / (panel_width<T> * Index(sizeof(T)));

template <class T>
constexpr Index segment_rows = 4 * update_rows<T>;

constexpr Index dx_rows = 16 * tile_rows;

// Backward goes through time by segments, the steps a..b-1: back to the last checkpoint, or, with a tape of all rows,
// far enough to make a few updates while the gradients are still in a cache.
template <class T>
inline Index segment_start(const Schedule& s, Index b) {
    if (s.every) return (b - 1) / s.every * s.every;
    Index a = b - 1;
    while (a > 0 && s.offset[b] - s.offset[a] < segment_rows<T>) --a;
    return a;
}

inline Index checkpoint_rows(const Schedule& s) {
    return s.every ? s.checkpoint[(s.steps + s.every - 1) / s.every] : 0;
}

template <class Cell, class T>
Sizes sizes(const Shape& shape, const Schedule& schedule, bool ids) {
    constexpr Index W = panel_width<T>;
    const Blocks<T> hidden{shape.H}, inputs{ids ? 0 : shape.D};
    const Index chunk = chunk_rows<Cell, T>(hidden, inputs, schedule), slab = odd(schedule.slab_rows);
    Sizes s;
    s.tape_rows = schedule.rows;
    if (schedule.every || schedule.kept) {
        Index most = 0;
        for (Index b = schedule.steps, a; b > 0; b = a) {
            a = segment_start<T>(schedule, b);
            most = larger(most, schedule.offset[b] - schedule.offset[a]);
        }
        s.tape_rows = smaller(most + update_rows<T>, schedule.rows);
    }
    s.gates = hidden.count() * Cell::pre * odd(s.tape_rows) * W;
    s.state = hidden.count() * odd(s.tape_rows) * W;
    s.checkpoint = hidden.count() * odd(checkpoint_rows(schedule)) * W;
    s.forward_weights = ForwardWeights<Cell, T>{hidden, inputs.n, nullptr}.size();
    s.forward_scratch = W * odd(chunk) * (hidden.count() * Cell::pre + inputs.count()) +
                        W * slab * hidden.count() * (Gates<Cell>::tape_states + 1);
    s.backward_weights = BackwardWeights<Cell, T>{hidden, inputs, nullptr}.size(!ids);
    s.backward_scratch = W * odd(smaller(dx_rows, schedule.rows)) * inputs.count();
    s.shared_scratch = W * schedule.slabs * slab * hidden.count() * Gates<Cell>::tape_states +
                       W * odd(smaller(update_rows<T>, schedule.rows)) * inputs.count();
    return s;
}

}  // namespace rnnfast::RNNFAST_ISA
