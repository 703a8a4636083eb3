// elementwise.hpp: what a training step does number by number or row by row: softmax and its loss, optimisers, norm and
// clipping of the gradient, rows of an embedding. Called through operations.cpp; knows neither cells nor products.
//
// Bits: a row's results depend on that row alone; sums over rows or pieces are left to the caller, who adds them in
// order. So nothing depends on the number of threads.
#pragma once

#include <cstddef>

#include "operations.hpp"
#include "simd.hpp"

namespace rnnfast::RNNFAST_ISA {

inline Index row_at(const Rows& rows, Index i) { return rows.row ? rows.row[i] : i; }

// The padded rows of out [N*T, width] become `fill` [width], or 0 where that is null. Called by all threads of a
// region.
template <class T>
void fill_padding(const Rows& rows, Index width, const T* fill, T* out) {
    if (!rows.row) return;
#pragma omp for schedule(static) nowait
    for (Index n = 0; n < rows.N; ++n)
        for (Index t = rows.length[n]; t < rows.T; ++t) {
            T* row = out + (n * rows.T + t) * width;
            if (fill)
                __builtin_memcpy(row, fill, static_cast<std::size_t>(width) * sizeof(T));
            else
                __builtin_memset(row, 0, static_cast<std::size_t>(width) * sizeof(T));
        }
}

// Calls body(i, count) for each register of the numbers first..last-1; count is less than a register in the last call.
template <int lanes, class Body>
inline __attribute__((always_inline)) void over_registers(Index first, Index last, Body body) {
    for (; first + lanes <= last; first += lanes) body(first, Index(lanes));
    if (first < last) body(first, last - first);
}

// ---- softmax

template <class T>
constexpr T infinity = static_cast<T>(__builtin_inf());

// The largest of K numbers; NaN is passed over.
template <class T>
inline T row_max(const T* z, Index K) {
    using V = Vec<T, 2>;
    V top(-infinity<T>);
    Index k = 0;
    for (; k + V::lanes <= K; k += V::lanes) {
        const V x = V::load(z + k);
        top = where_less(top, x, x, top);
    }
    T lane[V::lanes];
    top.store(lane);
    for (; k < K; ++k) lane[0] = lane[0] < z[k] ? z[k] : lane[0];
    for (int i = 1; i < V::lanes; ++i) lane[0] = lane[0] < lane[i] ? lane[i] : lane[0];
    return lane[0];
}

// p = exp(z - top), and their sum
template <class T>
__attribute__((flatten)) double row_exp(const T* z, Index K, T top, T* p) {
    using V = Vec<T, 2>;  // two chains that the processor interleaves
    DoubleSum<T, 2> sum;
    Index k = 0;
    for (; k + V::lanes <= K; k += V::lanes) {
        const V e = exp(V::load(z + k) - V(top));
        e.store(p + k);
        sum.add(e);
    }
    if (k < K) {
        T lane[V::lanes];
        for (Index i = 0; i < V::lanes; ++i) lane[i] = i < K - k ? z[k + i] : -infinity<T>;
        const V e = exp(V::load(lane) - V(top));
        e.store_partial(p + k, K - k);
        sum.add(e);
    }
    return sum.total();
}

// p = p factor
template <class T>
inline void row_scale(T* p, Index K, T factor) {
    over_registers<Vec<T>::lanes>(0, K, [&](Index k, Index count) {
        (Vec<T>::load_partial(p + k, count) * Vec<T>(factor)).store_partial(p + k, count);
    });
}

template <class T>
void softmax(const Softmax<T>& call) {
#pragma omp parallel num_threads(call.threads) if (call.threads > 1)
    {
        const FlushDenormals flush;
#pragma omp for schedule(static)
        for (Index i = 0; i < call.rows; ++i) {
            const T* z = call.logits + i * call.K;
            T* p = call.out + i * call.K;
            const double total = row_exp(z, call.K, row_max(z, call.K), p);
            row_scale(p, call.K, static_cast<T>(1 / total));
        }
    }
}

template <class T>
void cross_entropy(const CrossEntropy<T>& call) {
#pragma omp parallel num_threads(call.rows.threads) if (call.rows.threads > 1)
    {
        const FlushDenormals flush;
        fill_padding<T>(call.rows, call.K, nullptr, call.gradient);
#pragma omp for schedule(static)
        for (Index i = 0; i < call.rows.count; ++i) {
            const Index row = row_at(call.rows, i), y = call.target[row];
            const T* z = call.logits + row * call.K;
            T* p = call.gradient + row * call.K;
            double weight = call.sequence_weight[row / call.steps];
            if (call.class_weight) weight *= call.class_weight[y];
            const T top = row_max(z, call.K);
            const double total = row_exp(z, call.K, top, p);
            call.loss[i] = weight * (__builtin_log(total) - static_cast<double>(static_cast<T>(z[y] - top)));
            row_scale(p, call.K, static_cast<T>(weight / total));
            p[y] -= static_cast<T>(weight);
        }
    }
}

// ---- optimisers: one pass over memory; each number by itself

// Calls piece(first, last) for pieces of `size` numbers.
template <class Piece>
inline void over_pieces(Index size, int threads, bool flushed, Piece piece) {
    const Index pieces = (size + square_piece - 1) / square_piece;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const auto all = [&] {
#pragma omp for schedule(static)
            for (Index i = 0; i < pieces; ++i) {
                const Index first = i * square_piece;
                piece(first, first + square_piece < size ? first + square_piece : size);
            }
        };
        if (flushed) {
            const FlushDenormals flush;  // moments of a gradient that stays 0 decay into denormals
            all();
        } else {
            all();
        }
    }
}

// With V() numbers: theta (parameters), g, and
//   sgd       theta = keep theta - rate g
//   momentum  v = decay v + g            theta = keep theta - rate v
//   nesterov  v = decay v + g            theta = keep theta - rate (decay v + g)
//   adam      m = decay0 m + gain0 g     v = decay1 v + gain1 g²
//             theta = keep theta - rate m / (sqrt(v) / root_scale + epsilon)
//   adagrad   s = s + g²                 theta = keep theta - rate g / (sqrt(s) + epsilon)
template <Rule rule, class T>
void optimize_by(const OptimizerStep<T>& call) {
    using V = Vec<T>;
    const V keep(call.keep), rate(call.rate), decay(call.decay[0]), decay1(call.decay[1]), gain(call.gain[0]),
        gain1(call.gain[1]), root_scale(call.root_scale), epsilon(call.epsilon);
    over_pieces(call.size, call.threads, true, [&](Index first, Index last) {
        over_registers<V::lanes>(first, last, [&](Index i, Index count) __attribute__((always_inline)) {
            const V g = V::load_partial(call.gradients + i, count);
            V theta = V::load_partial(call.parameters + i, count) * keep, moment, moment1;
            if constexpr (rule != Rule::sgd) moment = V::load_partial(call.moment[0] + i, count);
            if constexpr (rule == Rule::sgd) {
                theta = theta - g * rate;
            } else if constexpr (rule == Rule::momentum) {
                moment = moment * decay + g;
                theta = theta - moment * rate;
            } else if constexpr (rule == Rule::nesterov) {
                moment = moment * decay + g;
                theta = theta - (moment * decay + g) * rate;
            } else if constexpr (rule == Rule::adam) {
                moment1 = V::load_partial(call.moment[1] + i, count);
                moment = moment * decay + g * gain;
                moment1 = moment1 * decay1 + g * g * gain1;
                theta = theta - moment / (sqrt(moment1) / root_scale + epsilon) * rate;
                moment1.store_partial(call.moment[1] + i, count);
            } else {
                moment = moment + g * g;
                theta = theta - g / (sqrt(moment) + epsilon) * rate;
            }
            if constexpr (rule != Rule::sgd) moment.store_partial(call.moment[0] + i, count);
            theta.store_partial(call.parameters + i, count);
        });
    });
}

template <class T>
void optimize(const OptimizerStep<T>& call) {
    switch (call.rule) {
        case Rule::sgd:
            return optimize_by<Rule::sgd>(call);
        case Rule::momentum:
            return optimize_by<Rule::momentum>(call);
        case Rule::nesterov:
            return optimize_by<Rule::nesterov>(call);
        case Rule::adam:
            return optimize_by<Rule::adam>(call);
        case Rule::adagrad:
            return optimize_by<Rule::adagrad>(call);
    }
}

// ---- the gradient as a vector

// sums: one for each square_piece numbers of x
template <class T>
void squares(const T* x, Index size, double* sums, int threads) {
    over_pieces(size, threads, false, [&](Index first, Index last) {
        using V = Vec<T, 2>;
        DoubleSum<T, 2> sum;
        over_registers<V::lanes>(first, last, [&](Index i, Index count) __attribute__((always_inline)) {
            sum.add_square(V::load_partial(x + i, count));
        });
        sums[first / square_piece] = sum.total();
    });
}

template <class T>
void scale(T* x, Index size, T factor, int threads) {
    over_pieces(size, threads, false, [&](Index first, Index last) { row_scale(x + first, last - first, factor); });
}

template <class T>
void clip(T* x, Index size, T limit, int threads) {
    using V = Vec<T>;
    over_pieces(size, threads, false, [&](Index first, Index last) {
        over_registers<V::lanes>(first, last, [&](Index i, Index count) __attribute__((always_inline)) {
            max(V(-limit), min(V(limit), V::load_partial(x + i, count))).store_partial(x + i, count);
        });
    });
}

// ---- the functions of simd.hpp by themselves

// In the floating-point environment of the caller: denormals are not flushed.
template <class T>
void apply(Function function, const T* x, Index size, T* out) {
    using V = Vec<T, 2>;
    const auto each = [&](auto f) {
        over_registers<V::lanes>(0, size, [&](Index i, Index count) __attribute__((always_inline)) {
            f(V::load_partial(x + i, count)).store_partial(out + i, count);
        });
    };
    switch (function) {
        case Function::exp:
            return each([](V v) { return exp(v); });
        case Function::tanh:
            return each([](V v) { return tanh(v); });
        case Function::sigmoid:
            return each([](V v) { return sigmoid(v); });
    }
}

// ---- rows of a table

template <class T>
void gather(const Lookup<T>& call) {
    const Rows& rows = call.rows;
    const std::size_t bytes = static_cast<std::size_t>(call.D) * sizeof(T);
#pragma omp parallel num_threads(rows.threads) if (rows.threads > 1)
    {
        fill_padding<T>(rows, call.D, nullptr, call.data);
#pragma omp for schedule(static)
        for (Index i = 0; i < rows.count; ++i) {
            const Index row = row_at(rows, i);
            __builtin_memcpy(call.data + row * call.D, call.table + call.id[row] * call.D, bytes);
        }
    }
}

// Each thread takes the ids of its own part of the table, and for them all rows in order.
template <class T>
void scatter(const Lookup<T>& call) {
    const Rows& rows = call.rows;
    const Index parts = rows.threads;
#pragma omp parallel for num_threads(rows.threads) if (rows.threads > 1) schedule(static, 1)
    for (Index part = 0; part < parts; ++part) {
        const Index first = call.V * part / parts, last = call.V * (part + 1) / parts;
        __builtin_memset(call.table + first * call.D, 0, static_cast<std::size_t>((last - first) * call.D) * sizeof(T));
        for (Index i = 0; i < rows.count; ++i) {
            const Index row = row_at(rows, i), id = call.id[row];
            if (id < first || id >= last) continue;
            T* to = call.table + id * call.D;
            const T* from = call.data + row * call.D;
            over_registers<Vec<T>::lanes>(0, call.D, [&](Index k, Index count) __attribute__((always_inline)) {
                (Vec<T>::load_partial(to + k, count) + Vec<T>::load_partial(from + k, count))
                    .store_partial(to + k, count);
            });
        }
    }
}

}  // namespace rnnfast::RNNFAST_ISA
