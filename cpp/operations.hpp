// operations.hpp: what a training step does beside the recurrent layers, as bindings and kernels share it: dense layer,
// embedding, loss, clipping, optimisers. Plain data only, like problem.hpp.
//
// Letters: N sequences, T steps, K classes or columns, H inputs of a dense layer, M valid rows.
#pragma once

#include "problem.hpp"

namespace rnnfast {

// The rows n*T + t of a padded batch that hold a step, in this order.
struct Rows {
    Index count;          // M
    const Index* row;     // [M], or null where all N*T rows are valid
    Index N, T;           // only where row is given
    const Index* length;  // [N], the same
    int threads;
    Interrupt* interrupt;  // or null; only dense and dense_gradient take so long that they ask
};

// loss = -w log softmax(logits)[target], w = sequence_weight * class_weight, and its gradient; 0 in the padded rows
template <class T>
struct CrossEntropy {
    Rows rows;
    Index steps;  // T: row n*T + t is of sequence n
    Index K;
    const T* logits;                // [N*T, K]
    const Index* target;            // [N*T]
    const double* sequence_weight;  // [N]
    const double* class_weight;     // [K] or null
    T* gradient;                    // [N*T, K] out
    double* loss;                   // [M] out, to be added up in this order
};

template <class T>
struct Softmax {
    Index rows, K;
    const T* logits;  // [rows, K]
    T* out;           // [rows, K]
    int threads;
};

// What an optimiser does to each number; the formulas are in elementwise.hpp.
enum class Rule { sgd, momentum, nesterov, adam, adagrad };

template <class T>
struct OptimizerStep {
    Rule rule;
    Index size;
    T* parameters;       // [size] in, out
    const T* gradients;  // [size]
    T* moment[2];        // [size] in, out: velocity; m, v; squares
    T keep;              // what weight decay leaves of a parameter: 1 - learning_rate * weight_decay
    T rate;              // adam: learning_rate / (1 - beta1^t)
    T decay[2];          // momentum; beta1, beta2
    T gain[2];           // 1 - decay, as rounded by the caller
    T root_scale;        // adam: sqrt(1 - beta2^t)
    T epsilon;
    int threads;
};

// Sums of squares of pieces, to be added up in this order by the caller.
constexpr Index square_piece = 16384;

// A table [V, D] read, or summed into, at the ids of the valid rows.
template <class T>
struct Lookup {
    Rows rows;
    Index V, D;
    const Index* id;  // [N*T]
    T* table;         // [V, D] gather: in; scatter: out
    T* data;          // [N*T, D] gather: out, 0 in the padded rows; scatter: in
};

// y = x W + b on the valid rows, b in the padded ones.
template <class T>
struct Dense {
    Rows rows;
    Index H, K;
    const T* x;  // [N*T, H]
    const T* W;  // [H, K]
    const T* b;  // [K]
    T* y;        // [N*T, K] out
    T* packed;   // dense_sizes().weights numbers
    T* scratch;  // threads * dense_sizes().scratch numbers
};

// dx = d W^T (0 in the padded rows), dW = x^T d, db = sum of d
template <class T>
struct DenseGradient {
    Rows rows;
    Index H, K;
    const T* x;  // [N*T, H]
    const T* W;  // [H, K]
    const T* d;  // [N*T, K]
    T* dx;       // [N*T, H] out
    T* dW;       // [H, K] out
    T* db;       // [K] out
    T* packed;   // max(dense_sizes().weights of the transpose, dense_sizes().rows) numbers
    T* scratch;  // threads * dense_sizes().scratch numbers
};

struct DenseSizes {
    Index weights, transposed;  // W and its transpose in panels
    Index rows;                 // x in panels
    Index scratch;              // of a thread
};

// What simd.hpp computes for cells and losses, to be measured by itself.
enum class Function { exp, tanh, sigmoid };

template <class T>
struct OperationsOf {
    void (*cross_entropy)(const CrossEntropy<T>&);
    void (*softmax)(const Softmax<T>&);
    void (*optimize)(const OptimizerStep<T>&);
    void (*squares)(const T* x, Index size, double* sums, int threads);
    void (*scale)(T* x, Index size, T factor, int threads);
    void (*clip)(T* x, Index size, T limit, int threads);
    void (*gather)(const Lookup<T>&);
    void (*scatter)(const Lookup<T>&);
    DenseSizes (*dense_sizes)(Index M, Index H, Index K);
    void (*dense)(const Dense<T>&);
    void (*dense_gradient)(const DenseGradient<T>&);
    void (*apply)(Function function, const T* x, Index size, T* out);
};

struct Operations {
    OperationsOf<float> f32;
    OperationsOf<double> f64;
};

}  // namespace rnnfast
