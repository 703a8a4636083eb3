// dense.hpp: the dense layer y = x W + b and its gradients, on the products of matmul.hpp. Called through
// operations.cpp.
//
// Bits: y and dx are chains in ascending order of the reduction, whatever the chunk or the thread; dW and db sum pieces
// of update_rows rows in order. So a row of y or dx depends on that row alone, and nothing on the number of threads.
#pragma once

#include <omp.h>

#include "elementwise.hpp"
#include "layout.hpp"
#include "operations.hpp"
#include "team.hpp"

namespace rnnfast::RNNFAST_ISA {

constexpr Index dense_rows = 256, dense_depth = 256;  // of a task's left-hand panels: they stay in the L2 cache
constexpr Index dense_panels = 8;                     // results of a task
constexpr Index update_panels = 8;                    // columns of d that a task of dW packs at once
constexpr Index few_rows = 3;                         // for which packing W costs more than it gains

// Rows first..first+count-1 of the valid rows, columns from..from+width-1 of a [N*T, stride] matrix in panels.
template <class T>
void pack_rows(const Rows& rows, const T* data, Index stride, Index first, Index count, Index from, Index width, T* out,
               Index panel_stride) {
    constexpr Index W = panel_width<T>;
    for (Index i = 0; i < count; ++i) {
        const T* row = data + row_at(rows, first + i) * stride + from;
        T* to = out + i * W;
        Index k = 0;
        for (; k + W <= width; k += W, to += panel_stride) __builtin_memcpy(to, row + k, sizeof(T) * W);
        for (Index lane = 0; k < width && lane < W; ++lane) to[lane] = k + lane < width ? row[k + lane] : T(0);
    }
}

// A matrix [depth, columns] in panels, pieces of dense_depth of its rows one after the other.
template <class T>
struct PackedMatrix {
    static constexpr Index W = panel_width<T>;
    Index depth;
    Blocks<T> columns;
    T* data;

    Index size() const { return depth * columns.count() * W; }
    Index pieces() const { return (depth + dense_depth - 1) / dense_depth; }
    Index length(Index piece) const { return smaller(dense_depth, depth - piece * dense_depth); }
    T* panel(Index piece, Index block) const {
        return data + (piece * dense_depth * columns.count() + block * length(piece)) * W;
    }
    void pack(const Matrix<T>& m, Index block) const {
        for (Index piece = 0; piece < pieces(); ++piece)
            pack_columns(m, piece * dense_depth, length(piece), block * W, columns.units(block), panel(piece, block));
    }
};

// The valid rows of c [N*T, columns] = bias + a [N*T, depth] matrix, by all threads of a region.
// bias: [columns], or null for 0   scratch: of this thread
template <class T>
void rows_product(const Rows& rows, const T* a, const PackedMatrix<T>& matrix, const T* bias, T* c, T* scratch) {
    constexpr Index W = panel_width<T>;
    const Blocks<T> columns = matrix.columns;
    const Index depth = matrix.depth;
    const Index threads = rows.threads, wanted = (rows.count + dense_rows - 1) / dense_rows;
    const Index chunks = smaller(rows.count, (wanted + threads - 1) / threads * threads);
    const Index groups = (columns.count() + dense_panels - 1) / dense_panels;
    const Index stride = odd(dense_rows) * W;
    T* const left = scratch;
    T* const result = left + (dense_depth / W) * stride;
    T* const start = result + dense_panels * stride;
#pragma omp for schedule(dynamic, 1)
    for (Index task = 0; task < chunks * groups; ++task) {
        if (stopped(rows.interrupt)) continue;
        const Index group = task / chunks, chunk = task % chunks;  // neighbours share the panels of a group
        const Index first = part(rows.count, chunks, chunk), count = part(rows.count, chunks, chunk + 1) - first;
        const Index block = group * dense_panels, panels = smaller(dense_panels, columns.count() - block);
        const Blocks<T> some{smaller(columns.n - block * W, panels * W)};
        fill_zero(start, panels * W);
        if (bias) __builtin_memcpy(start, bias + block * W, static_cast<std::size_t>(some.n) * sizeof(T));
        ConstPanels<T> from{start, W, 0};
        for (Index piece = 0; piece == 0 || piece < matrix.pieces(); ++piece) {
            const Blocks<T> steps{depth == 0 ? 0 : matrix.length(piece)};
            pack_rows(rows, a, depth, first, count, piece * dense_depth, steps.n, left, stride);
            product_of_blocks(0, some.count(), count, some, Reduction{steps.count(), stride, 1, 0, steps.last()}, left,
                              matrix.panel(piece, block), from, Panels<T>{result, stride});
            from = {result, stride};
        }
        for (Index i = 0; i < count; ++i) {
            T* to = c + row_at(rows, first + i) * columns.n + block * W;
            for (Index p = 0; p < panels; ++p)
                if (some.units(p) == W)
                    __builtin_memcpy(to + p * W, result + p * stride + i * W, sizeof(T) * W);
                else
                    for (Index lane = 0; lane < some.units(p); ++lane)
                        to[p * W + lane] = result[p * stride + i * W + lane];
        }
    }
}

// The same for few rows: reads the matrix [depth, columns] once, unpacked. Each result is the same chain.
template <class T>
void few_rows_product(const Rows& rows, const T* a, Index depth, const T* matrix, Index columns, const T* bias, T* c) {
    using V = Vec<T>;
    constexpr Index strip = 8 * V::lanes;
#pragma omp for schedule(static)
    for (Index s = 0; s < (columns + strip - 1) / strip; ++s) {
        const Index first = s * strip, width = smaller(strip, columns - first);
        T* y[few_rows];
        for (Index i = 0; i < rows.count; ++i) {
            y[i] = c + row_at(rows, i) * columns + first;
            __builtin_memcpy(y[i], bias + first, static_cast<std::size_t>(width) * sizeof(T));
        }
        for (Index k = 0; k < depth; ++k)
            for (Index i = 0; i < rows.count; ++i) {
                const V x(a[row_at(rows, i) * depth + k]);
                over_registers<V::lanes>(0, width, [&](Index j, Index count) __attribute__((always_inline)) {
                    fma(x, V::load_partial(matrix + k * columns + first + j, count), V::load_partial(y[i] + j, count))
                        .store_partial(y[i] + j, count);
                });
            }
    }
}

// dW = xT d and db, on the valid rows, by all threads of a region.
// x: panels [blocks of H, odd(M), W]   scratch: of this thread
template <class T>
void weight_gradients(const DenseGradient<T>& call, const T* x, T* scratch) {
    constexpr Index W = panel_width<T>, most = update_rows<T>;
    const Index M = call.rows.count, x_stride = odd(M) * W;
    const Blocks<T> inputs{call.H}, columns{call.K};
    const Index groups = (columns.count() + update_panels - 1) / update_panels;
    const Index threads = call.rows.threads;
    const Index parts = threads == 1 ? 1 : smaller(inputs.count(), (2 * threads + groups - 1) / groups);
#pragma omp for schedule(dynamic, 1)
    for (Index task = 0; task < groups * parts; ++task) {
        if (stopped(call.rows.interrupt)) continue;
        const Index group = task / parts, block = group * update_panels;
        const Index panels = smaller(update_panels, columns.count() - block);
        const Blocks<T> some{smaller(call.K - block * W, panels * W)};
        const Index first_unit = part(inputs.count(), parts, task % parts);
        const Index last_unit = part(inputs.count(), parts, task % parts + 1);
        for (Index first = 0; first == 0 || first < M; first += most) {
            if (stopped(call.rows.interrupt)) break;
            const Index count = smaller(most, M - first);
            pack_rows(call.rows, call.d, call.K, first, count, block * W, some.n, scratch, most * W);
            for (Index p = 0; p < panels; ++p) {
                const T* d = scratch + p * most * W;
                for (Index unit = first_unit; unit < last_unit; ++unit)
                    outer_product(count, inputs.units(unit), some.units(p), x + unit * x_stride + first * W, d,
                                  first == 0, call.dW + unit * W * call.K + (block + p) * W, call.K,
                                  x + (unit + 1) * x_stride + first * W);
                if (task % parts) continue;
                using V = Vec<T, 2>;
                V sum(T(0));
                for (Index i = 0; i < count; ++i) sum = sum + V::load(d + i * W);
                T* const db = call.db + (block + p) * W;
                if (first) sum = V::load_partial(db, some.units(p)) + sum;
                sum.store_partial(db, some.units(p));
            }
        }
    }
}

template <class T>
DenseSizes dense_sizes(Index M, Index H, Index K) {
    constexpr Index W = panel_width<T>;
    const Index rows = odd(dense_rows) * (dense_depth + dense_panels * W) + dense_panels * W;
    return {PackedMatrix<T>{H, {K}, nullptr}.size(), PackedMatrix<T>{K, {H}, nullptr}.size(),
            Blocks<T>{H}.count() * odd(M) * W, larger(rows, update_panels * update_rows<T> * W)};
}

template <class T>
void dense(const Dense<T>& call) {
    const PackedMatrix<T> matrix{call.H, {call.K}, call.packed};
    const Index scratch = dense_sizes<T>(call.rows.count, call.H, call.K).scratch;
#pragma omp parallel num_threads(call.rows.threads) if (call.rows.threads > 1)
    {
        const FlushDenormals flush;
        fill_padding(call.rows, call.K, call.b, call.y);
        if (call.rows.count <= few_rows) {
            few_rows_product(call.rows, call.x, call.H, call.W, call.K, call.b, call.y);
        } else {
#pragma omp for schedule(static)
            for (Index block = 0; block < matrix.columns.count(); ++block)
                matrix.pack(Matrix<T>{call.W, call.K, 1}, block);
            rows_product(call.rows, call.x, matrix, call.b, call.y, call.scratch + omp_get_thread_num() * scratch);
        }
    }
}

template <class T>
void dense_gradient(const DenseGradient<T>& call) {
    constexpr Index W = panel_width<T>;
    const PackedMatrix<T> transposed{call.K, {call.H}, call.packed};
    const Index M = call.rows.count, scratch = dense_sizes<T>(M, call.H, call.K).scratch;
    const Index pieces = (M + update_rows<T> - 1) / update_rows<T>;
#pragma omp parallel num_threads(call.rows.threads) if (call.rows.threads > 1)
    {
        const FlushDenormals flush;
        T* const mine = call.scratch + omp_get_thread_num() * scratch;
        fill_padding<T>(call.rows, call.H, nullptr, call.dx);
#pragma omp for schedule(static)
        for (Index block = 0; block < transposed.columns.count(); ++block)
            transposed.pack(Matrix<T>{call.W, 1, call.K}, block);
        rows_product<T>(call.rows, call.d, transposed, nullptr, call.dx, mine);
#pragma omp for schedule(static)
        for (Index piece = 0; piece < pieces; ++piece) {  // over the weights, which are no longer needed
            const Index first = piece * update_rows<T>;
            pack_rows(call.rows, call.x, call.H, first, smaller(update_rows<T>, M - first), Index(0), call.H,
                      call.packed + first * W, odd(M) * W);
        }
        weight_gradients(call, call.packed, mine);
    }
}

}  // namespace rnnfast::RNNFAST_ISA
