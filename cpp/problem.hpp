// problem.hpp: the vocabulary that bindings and kernels share. Plain data only: no function bodies,
// nothing from the standard library but fixed-width integers, so that it means the same in every
// translation unit whatever its instruction set.
//
// Letters: N sequences, T steps, D inputs, H hidden units, G gate blocks in the weights (1, 3, 4),
// P gate blocks in a row of pre-activations (1, 4, 4, 3; the GRU holds r, z and both halves of n),
// R packed rows: one per valid (sequence, step), steps ascending, within a step the longest sequence first.
#pragma once

#include <cstdint>

namespace rnnfast {

using Index = std::int64_t;

constexpr int max_states = 2;  // h, c, or on a tape h and what a cell with a reset makes of it
constexpr int max_teams = 64;

struct Shape {
    Index N, T, D, H;
};

// Ends a long call early: what it returns is then unfinished and of no use. The thread that made the call asks
// `wanted`, which sees to it that asking often costs little; every thread reads `stop`.
struct Interrupt {
    bool (*wanted)(void* context);
    void* context;
    int stop;     // 1 once it was wanted
    int arrived;  // threads that have no slab left
    int ended;    // what `stop` was when all had arrived
};

// Which sequences are active at which step, and who computes them.
struct Schedule {
    bool reverse;         // step t of a sequence of length L reads x[L-1-t] instead of x[t]
    bool packed;          // the caller's rows are packed too, by time: x, h, dh, dx are [R, .]
    bool kept;            // backward leaves the tape as it is, and works on a copy of a segment at a time
    Index steps;          // of the longest sequence
    Index rows;           // R = sum of lengths
    const Index* order;   // [N]    sorted position -> sequence, longest first
    const Index* length;  // [N]    by sorted position
    const Index* active;  // [T+1]  sequences longer than t: the sorted positions 0..active[t]-1
    const Index* offset;  // [T+1]  packed row of sorted position 0 at step t
    const Index* slab;    // [slabs+1] bounds of the sorted positions that one team carries through all steps
    Index slabs;
    Index slab_rows;          // the most rows in a slab
    Index every;              // steps between checkpoints: the states before these are kept, no tape; 0: none
    const Index* checkpoint;  // [ceil(T / every) + 1] row of sorted position 0 before the steps 0, every, 2 every, ...
    int threads;
    int team;              // threads for each slab, which share its units; if more than one, threads = team * slabs
    Index steps_to_ask;    // after which the interrupt is asked for again
    Interrupt* interrupt;  // or null
};

// A strided matrix of the caller's; strides in elements.
template <class T>
struct Matrix {
    const T* data;
    Index row_stride, column_stride;
};

template <class T>
struct Weights {
    Matrix<T> Wx;  // [D, G*H]
    Matrix<T> Wh;  // [H, G*H]
    const T* b;    // [P*H] or null
};

// x: either floating rows or one token id for each packed row.
template <class T>
struct Input {
    const T* data;     // [N, T, D] or null
    Index stride[3];   // of N, T and D, in elements; packed: those of N and T are that of R
    const Index* ids;  // [R] or null
};

// What forward leaves for backward: `rows` packed rows from first_row on, in panels odd(rows) rows apart; W is the
// panel width of the instruction set.
template <class T>
struct TapeRows {
    Index first_row, rows;
    T* gates;              // [blocks*P, odd(rows), W] activations, then, after backward, their gradients
    T* state[max_states];  // [blocks, odd(rows), W]   the states before each step; then r h of a cell with a reset
};

template <class T>
struct Forward {
    Shape shape;
    Schedule schedule;
    Input<T> x;
    Weights<T> weights;
    const T* state[max_states];  // [N, H] in: before the first step, or null for zero
    T* h;                        // [N, T, H] out: 0 past a sequence's length; or null
    Index h_stride[2];           // as of x
    T* final_state[max_states];  // [N, H] out: after the last valid step; or null
    TapeRows<T> tape;            // out, or null pointers
    T* checkpoint[max_states];   // [blocks, odd(checkpoints' rows), W] out; with a tape in; or null
    Index first_step, last_step;
    T* packed;       // forward_weights numbers
    bool is_packed;  // packed already holds these weights (Stream)
    T* scratch;      // threads * forward_scratch numbers
};

template <class T>
struct Backward {
    Shape shape;
    Schedule schedule;
    Input<T> x;
    Weights<T> weights;
    TapeRows<T> tape;             // in: activations; out: gradients of the pre-activations
    TapeRows<T> kept;             // or the activations are here, and `tape` is room for a segment
    Forward<T> again;             // or, where there are checkpoints, the forward pass that computes them again
    const T* dh;                  // [N, T, H] or null
    Index dh_stride[2];           // as of x; units are adjacent
    const T* dstate[max_states];  // [N, H] in: gradient of the final states, or null
    T* dx;                        // [N, T, D] out, or null for token ids
    Index dx_stride[2];           // as of x
    T* dWx;                       // [D, G*H] out
    T* dWh;                       // [H, G*H] out
    bool transposed;              // these two are [G*H, D] and [G*H, H], for floating x alone
    T* db;                        // [P*H] out, or null
    T* dinitial[max_states];      // [N, H] out: gradient of the initial states
    T* packed;                    // backward_weights numbers
    T* scratch;                   // threads * backward_scratch + shared_scratch numbers
};

// How many numbers each buffer holds.
struct Sizes {
    Index tape_rows;  // all, or, with checkpoints, those of a segment and of an update that reaches into the next
    Index gates, state, checkpoint;
    Index forward_weights, forward_scratch;
    Index backward_weights, backward_scratch, shared_scratch;
};

template <class T>
struct Kernel {
    Sizes (*sizes)(const Shape&, const Schedule&, bool ids);
    void (*forward)(const Forward<T>&);
    void (*backward)(const Backward<T>&);
};

struct Cell {
    const char* name;
    int weight_blocks;  // G
    int bias_blocks;    // P
    int states;
    int tape_states;  // and one more with a reset
    Kernel<float> f32;
    Kernel<double> f64;
};

struct Operations;  // what else a training step does: operations.hpp

// All that one instruction set offers.
struct KernelTable {
    const char* isa;
    const char* flags;  // what this copy of kernels.cpp was compiled with
    int cells;
    const Cell* cell;
    int (*openmp_threads)();  // how many OpenMP would take now: others (threadpoolctl) may have said so meanwhile
    double (*multiply_add_rate)(double seconds);  // flop/s of one thread on float32 registers: the attainable peak
    double (*read_rate)(const float* data, Index bytes, double seconds);  // bytes/s of one thread
    const Operations* operations;
};

}  // namespace rnnfast
