// matmul.hpp: the matrix products. Called by forward.hpp, backward.hpp and dense.hpp; knows vectors (simd.hpp) and
// panels, not cells.
//
// A panel is a matrix [rows, W] of W = 2 registers of columns, rows adjacent: one column block of a wider matrix
// [rows, columns], which is stored as [columns / W] panels. Activations, gates, states and packed weights all
// are panels, so that every product reads and writes adjacent memory and needs no other packing.
//
// Bits: each result is one chain  from + a0 b0 + a1 b1 + ...  in ascending order of the reduction, whatever the
// tile that computes it. So they depend neither on the number of rows nor on who computes them.
#pragma once

#include "problem.hpp"
#include "simd.hpp"

namespace rnnfast::RNNFAST_ISA {

template <class T>
constexpr Index panel_width = 2 * Vec<T>::lanes;

// Registers for the accumulators of a tile, of 32 or 16: the others hold two columns of b, one number of a, spares.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int accumulators = 24;
#else
constexpr int accumulators = 12;
#endif
constexpr int tile_rows = accumulators / 2;

// The order in which a product sums: `blocks` blocks of panels, `gates` panels in each, and in every panel
// W numbers (in those of the last block `last`).
struct Reduction {
    Index blocks, block_stride;  // strides in numbers, between the panels of a
    Index gates, gate_stride;
    Index last;

    Index size(Index W) const { return blocks == 0 ? 0 : ((blocks - 1) * W + last) * gates; }
};

// One register tile of R rows and C registers, kept in registers for the whole reduction:
//   out(i, c, sum of row i, register c)    sum[i][c] = from(i, c) + sum over k of a[i, k] b[k, c]
// a: element (i, k) of a panel is at a[i * RowStride + k * StepStride]
// b: [k, W] panels, register c being in panel c / 2 at a distance of b_stride
// ahead: what will be read soon, fetched meanwhile, half a panel's row for each step; anything where R <= 3
template <int R, int C, Index RowStride, Index StepStride, class T, class From, class Out>
inline __attribute__((always_inline)) void tile(const Reduction& k, const T* a, const T* b, Index b_stride, From from,
                                                Out out, const T* ahead) {
    constexpr Index W = panel_width<T>, lanes = Vec<T>::lanes;
    Vec<T> sum[R][C];
#pragma GCC unroll 12
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) sum[i][c] = from(i, c);
    for (Index block = 0; block < k.blocks; ++block) {
        const Index steps = block + 1 == k.blocks ? k.last : W;
        for (Index gate = 0; gate < k.gates; ++gate) {
            const T* a_step = a + block * k.block_stride + gate * k.gate_stride;
            if constexpr (R > 3 && RowStride > 1) {  // the rows two panels on, which may be far away
                const T* const next = a_step + 2 * (k.gates > 1 ? k.gate_stride : k.block_stride);
#pragma GCC unroll 12
                for (int i = 0; i < R; ++i) __builtin_prefetch(next + i * RowStride);
            }
#pragma GCC unroll 2
            for (Index step = 0; step < steps; ++step, a_step += StepStride, b += W) {
                if constexpr (R > 3) {  // in half rows: a branch would cost more than to touch a line twice
                    __builtin_prefetch(ahead);
                    ahead += W / 2;
                }
                Vec<T> column[C];
#pragma GCC unroll 8
                for (int c = 0; c < C; ++c) column[c] = Vec<T>::load(b + (c / 2) * b_stride + (c % 2) * lanes);
#pragma GCC unroll 12
                for (int i = 0; i < R; ++i) {
                    const Vec<T> row(a_step[i * RowStride]);
#pragma GCC unroll 8
                    for (int c = 0; c < C; ++c) sum[i][c] = fma(row, column[c], sum[i][c]);
                }
            }
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) out(i, c, sum[i][c]);
}

// Panels of results: row i, register c of the call's first panel is at data[i * row_stride + (c / 2) * panel_stride].
template <class T, class Pointer = T*>
struct Panels {
    Pointer data;
    Index panel_stride;
    Index row_stride = panel_width<T>;  // 0: the same row for all (a bias)

    Pointer at(Index row, int c) const {
        return data + row * row_stride + (c / 2) * panel_stride + (c % 2) * Vec<T>::lanes;
    }
};

template <class T>
using ConstPanels = Panels<T, const T*>;

// R rows of C registers of a product whose a is panels of rows: element (i, k) at i * W + k.
template <int R, int C, class T>
void row_tile(const Reduction& k, const T* a, const T* b, Index b_stride, ConstPanels<T> from, Panels<T> out,
              const T* ahead) {
    tile<R, C, panel_width<T>, 1>(
        k, a, b, b_stride, [&](int i, int c) { return Vec<T>::load(from.at(i, c)); },
        [&](int i, int c, Vec<T> sum) { sum.store(out.at(i, c)); }, ahead);
}

// Calls row_tile<rows, C> for a number of rows known at run time, 1..R.
template <int R, int C, class T>
inline void row_tile_of(Index rows, const Reduction& k, const T* a, const T* b, Index b_stride, ConstPanels<T> from,
                        Panels<T> out, const T* ahead) {
    if constexpr (R > 1)
        if (rows < R) return row_tile_of<R - 1, C>(rows, k, a, b, b_stride, from, out, ahead);
    row_tile<R, C>(k, a, b, b_stride, from, out, ahead);
}

// The bounds of part i of `count` parts of n that differ by one at the most.
inline Index part(Index n, Index count, Index i) { return n / count * i + (i < n % count ? i : n % count); }

constexpr Index l1_panel_bytes = 16 * 1024;

// out[p][i] = from[p][i] + sum over k of a[i, k] b[p][k]   for `rows` rows and the panels p < panels
// a: panels [rows, W] as k says   b: panels [K, W], adjacent   registers: 2, or 1 where only the first half of
// these panels is in use (what stands in the other half is of no account)
template <class T>
void product(Index rows, Index panels, int registers, const Reduction& k, const T* a, const T* b, ConstPanels<T> from,
             Panels<T> out) {
    constexpr Index W = panel_width<T>;
    if (rows == 0 || panels == 0) return;
    const Index b_stride = k.size(W) * W;
    // Tiles that share a panel of b walk together through pieces of it, each of which stays in the L1 cache.
    const Index piece = rows <= tile_rows ? k.blocks : l1_panel_bytes / (W * W * Index(sizeof(T)) * k.gates) + 1;
    Index p = 0;
    const auto many = [&]<int R, int C>() {  // all rows against C / 2 panels at once
        const Index tiles = (rows + R - 1) / R;
        const Panels<T> result{out.data + p * out.panel_stride, out.panel_stride};
        ConstPanels<T> start{from.data + p * from.panel_stride, from.panel_stride, from.row_stride};
        for (Index first = 0; first == 0 || first < k.blocks; first += piece) {
            const bool last = first + piece >= k.blocks;
            const Reduction k_piece{last ? k.blocks - first : piece, k.block_stride, k.gates, k.gate_stride,
                                    last ? k.last : W};
            const T* const b_piece = b + p * b_stride + first * k.gates * W * W;
            const Index size = k_piece.size(W) * W;
            const T* const next = last ? b + (p + (C + 1) / 2) * b_stride : b_piece + size;
            for (Index i = 0; i < tiles; ++i) {
                const Index row = part(rows, tiles, i);
                // the first two tiles fetch the two halves of the weights behind this piece: the next ones in use
                const T* const ahead = i < 2 ? next + i * (size / 2) : b_piece;
                row_tile_of<R, C>(part(rows, tiles, i + 1) - row, k_piece, a + first * k.block_stride + row * W,
                                  b_piece, b_stride, {start.at(row, 0), start.panel_stride, start.row_stride},
                                  {result.at(row, 0), result.panel_stride}, ahead);
            }
            if (last) break;
            start = {result.data, result.panel_stride};
        }
    };
    if (registers == 1 && rows > tile_rows / 2)
        for (; p < panels; ++p) many.template operator()<tile_rows, 1>();
    // Few rows leave registers idle and the chains too few to hide the latency: take more panels at once.
    if (rows <= tile_rows / 4)
        for (; p + 4 <= panels; p += 4) many.template operator()<tile_rows / 4, 8>();
    if (rows <= tile_rows / 3 && (panels - p) % 3 == 0)
        for (; p < panels; p += 3) many.template operator()<tile_rows / 3, 6>();
    if (rows <= tile_rows / 2)
        for (; p + 2 <= panels; p += 2) many.template operator()<tile_rows / 2, 4>();
    for (; p < panels; ++p) many.template operator()<tile_rows, 2>();
}

// out[k][column] (+)= sum over r of a[r, k] g[r, column]   for `units` rows k of out and `columns` columns
// a, g: one panel [rows, W] each   out: row stride out_stride, overwritten if `first`
// The sum of these rows is formed first and then added, so that a long sum is one of sums.
// next_a: the panel of the next call, fetched meanwhile
template <class T>
void outer_product(Index rows, Index units, Index columns, const T* a, const T* g, bool first, T* out, Index out_stride,
                   const T* next_a) {
    constexpr Index W = panel_width<T>;
    constexpr int lanes = Vec<T>::lanes;
    const Reduction k{1, 0, 1, 0, rows};
    const auto store = [&](T* row, int c, Vec<T> sum) {
        const Index count = columns - c * lanes;
        T* p = row + c * lanes;
        if (!first) sum = Vec<T>::load_partial(p, count) + sum;
        sum.store_partial(p, count);
    };
    const auto rows_of = [&]<int R, int C>(auto&& self, Index unit, Index count) -> void {
        if constexpr (R > 1)
            if (count < R) return self.template operator()<R - 1, C>(self, unit, count);
        for (int i = 0; i < R; ++i) {  // a row of the caller's may lie on two cache lines
            __builtin_prefetch(out + (unit + i) * out_stride, 1);
            __builtin_prefetch(out + (unit + i) * out_stride + columns - 1, 1);
        }
        tile<R, C, 1, W>(
            k, a + unit, g, 0, [](int, int) { return Vec<T>(T(0)); },
            [&](int i, int c, Vec<T> sum) { store(out + (unit + i) * out_stride, c, sum); },
            unit < tile_rows ? next_a : next_a + rows / 2 * W);
    };
    const Index tiles = (units + tile_rows - 1) / tile_rows;
    for (Index i = 0; i < tiles; ++i) {
        const Index unit = part(units, tiles, i), count = part(units, tiles, i + 1) - unit;
        if (columns > lanes)
            rows_of.template operator()<tile_rows, 2>(rows_of, unit, count);
        else
            rows_of.template operator()<tile_rows, 1>(rows_of, unit, count);
    }
}

}  // namespace rnnfast::RNNFAST_ISA
