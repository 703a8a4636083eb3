// kernels.cpp: every cell in float and double, and the table that exports them. The build compiles this file once
// for each instruction set, with RNNFAST_ISA naming it; only dispatch.cpp refers to the result.
// Nothing here may be an inline function or a template outside namespace rnnfast::RNNFAST_ISA: the linker keeps
// one copy of such a symbol, and it could be one that the processor at hand cannot run.
#include "backward.hpp"
#include "cells.hpp"
#include "forward.hpp"

namespace rnnfast::RNNFAST_ISA {

template <class C, class T>
constexpr Kernel<T> kernel{sizes<C, T>, forward<C, T>, backward<C, T>};

template <class List>
struct Registry;

template <class... C>
struct Registry<CellList<C...>> {
    static constexpr Cell cells[] = {{C::name, Gates<C>::weight_blocks, C::pre, C::states, Gates<C>::tape_states,
                                      kernel<C, float>, kernel<C, double>}...};
    static constexpr int count = sizeof...(C);
};

int openmp_threads() { return omp_get_max_threads(); }

// As many independent chains as the accumulators of a tile, nothing but multiply-adds: what products could reach.
double multiply_add_rate(double seconds) {
    const FlushDenormals flush;
    constexpr int repeats = 4096;
    Vec<float> sum[accumulators];
    for (int i = 0; i < accumulators; ++i) sum[i] = Vec<float>(float(i));
    Vec<float> a(0.999f), b(1e-3f);
    double bursts = 0, elapsed;
    const double start = omp_get_wtime();
    do {
        asm volatile("" : "+m"(sum), "+m"(a), "+m"(b));  // the compiler cannot know these numbers
        for (int repeat = 0; repeat < repeats; ++repeat)
#pragma GCC unroll 24
            for (int i = 0; i < accumulators; ++i) sum[i] = fma(sum[i], a, b);
        asm volatile("" : "+m"(sum));
        ++bursts;
        elapsed = omp_get_wtime() - start;
    } while (elapsed < seconds);
    return bursts * 2.0 * Vec<float>::lanes * accumulators * repeats / elapsed;
}

// Sums of loads, in as many independent chains: how fast one thread reads `bytes` bytes that it has read before.
double read_rate(const float* data, Index bytes, double seconds) {
    const FlushDenormals flush;
    constexpr Index lanes = Vec<float>::lanes, chains = 8;
    const Index count = bytes / Index(sizeof(float));
    const Index passes = 1 + (Index(1) << 18) / (count + 1);  // between two looks at the clock
    Vec<float> sum[chains];
    for (int i = 0; i < chains; ++i) sum[i] = Vec<float>(0.0f);
    double bursts = -1, elapsed, start = omp_get_wtime();
    do {
        for (Index pass = 0; pass < passes; ++pass) {
            for (Index k = 0; k + chains * lanes <= count; k += chains * lanes)
#pragma GCC unroll 8
                for (int i = 0; i < chains; ++i) sum[i] = sum[i] + Vec<float>::load(data + k + i * lanes);
            asm volatile("" : "+m"(sum));  // the compiler cannot leave out a pass
        }
        if (++bursts == 0) start = omp_get_wtime();  // the first one brought the numbers near
        elapsed = omp_get_wtime() - start;
    } while (bursts < 1 || elapsed < seconds);
    const Index read = count / (chains * lanes) * (chains * lanes) * Index(sizeof(float));
    return bursts * double(passes) * double(read) / elapsed;
}

#define RNNFAST_STRING_(name) #name
#define RNNFAST_STRING(name) RNNFAST_STRING_(name)

// Initialised by the compiler: code that ran at load time could be code that the processor lacks.
extern const KernelTable table;
extern const Operations operations;  // operations.cpp
constinit const KernelTable table{RNNFAST_STRING(RNNFAST_ISA),
                                  RNNFAST_FLAGS,
                                  Registry<AllCells>::count,
                                  Registry<AllCells>::cells,
                                  openmp_threads,
                                  multiply_add_rate,
                                  read_rate,
                                  &operations};

}  // namespace rnnfast::RNNFAST_ISA
