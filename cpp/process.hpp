// process.hpp: what bindings.cpp and stream.hpp share: which kernels, how many threads, buffers of numbers.
// It must not know tapes or streams.
#pragma once

#include <algorithm>
#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "arguments.hpp"
#include "memory.hpp"
#include "problem.hpp"
#include "schedule.hpp"

namespace rnnfast {

inline const KernelTable* kernels = nullptr;  // set once, at import
inline std::atomic<int> default_threads{1};
inline std::atomic<int> openmp_threads{1};     // that OpenMP would have taken when default_threads was set, or since
inline std::atomic<bool> forked_child{false};  // the parent's OpenMP team does not exist here, and waiting for it hangs

inline const Cell& find_cell(const py::object& cell) {
    if (!py::isinstance<py::str>(cell) || py::isinstance<py::bytes>(cell))
        throw py::type_error("cell: expected a name, got " + type_name(cell));
    std::string names;
    for (int i = 0; i < kernels->cells; ++i) {
        if (PyUnicode_CompareWithASCIIString(cell.ptr(), kernels->cell[i].name) == 0) return kernels->cell[i];
        names += std::string(i ? ", " : "") + kernels->cell[i].name;
    }
    throw py::value_error("cell: expected one of " + names + ", got " + std::string(py::repr(py::str(cell))));
}

inline int positive_threads(const py::object& value) {
    const Index n = checked_integer(value, "num_threads", "a positive integer");
    if (n < 1) throw py::value_error("num_threads: expected a positive integer, got " + std::string(py::str(value)));
    // Beyond some threads for each processor nothing is gained, and OpenMP ends the process when it can have no more.
    const Index most = std::max<Index>(16, 4 * static_cast<Index>(std::thread::hardware_concurrency()));
    return static_cast<int>(std::min(n, most));
}

inline void set_default_threads(int n) {
    default_threads = n;
    openmp_threads = kernels->openmp_threads();
}

// What was set, or the limit that was put on OpenMP since.
inline int unforked_threads() {
    const int limit = kernels->openmp_threads();
    if (limit > openmp_threads) openmp_threads = limit;
    return limit < openmp_threads ? std::min(limit, default_threads.load()) : default_threads.load();
}

inline int threads_by_default() { return forked_child ? 1 : unforked_threads(); }

// How many of `wanted` threads a region of this thread can have. OpenMP ends the process where the system refuses one
// (memory for a stack, a limit on threads), so that more than any region had before are started here first, once.
inline int startable_threads(int wanted) {
    thread_local int most = 1;
    int found = wanted;
    if (wanted > most) {
        std::mutex all_started;
        std::vector<std::thread> threads;
        all_started.lock();
        try {
            for (found = 1; found < wanted; ++found)
                threads.emplace_back([&] { const std::lock_guard<std::mutex> wait(all_started); });
        } catch (const std::exception&) {  // system_error or bad_alloc: the others will do
        }
        all_started.unlock();
        for (std::thread& thread : threads) thread.join();
    }
    most = std::max(most, found);
    return found;
}

inline int threads_of(const py::object& num_threads) {
    const int n = num_threads.is_none() ? unforked_threads() : positive_threads(num_threads);
    return forked_child ? 1 : n;
}

// ---- sharing and allocation

// 16: what the cell's functions cost, in units of a column of weights
inline double flops_per_row(const Cell& cell, Index D, Index H) {
    return 2.0 * cell.weight_blocks * static_cast<double>(H) * static_cast<double>(D + H + 16);
}

// times: 1 for a forward pass, 2 for a backward pass
inline void share(OwnedSchedule& schedule, int threads, const Cell& cell, Index D, Index H, bool is_double,
                  int times = 1) {
    const double recurrent = flops_per_row(cell, 0, H) * times;
    const double weights = static_cast<double>(cell.weight_blocks) * static_cast<double>(H * H);
    schedule.share(threads, flops_per_row(cell, D, H) * times, recurrent, weights * (is_double ? 8 : 4));
}

// The same for a call that follows: among threads that can be had.
inline void share_startable(OwnedSchedule& schedule, int threads, const Cell& cell, Index D, Index H, bool is_double,
                            int times = 1) {
    share(schedule, threads, cell, D, H, is_double, times);
    const int found = startable_threads(schedule.view().threads);
    if (found < schedule.view().threads) share(schedule, found, cell, D, H, is_double, times);
}

template <class T>
const Kernel<T>& kernel_of(const Cell& cell) {
    if constexpr (std::is_same_v<T, float>)
        return cell.f32;
    else
        return cell.f64;
}

// Calls function(T{}) with T = double or float.
template <class Function>
auto with_type(bool is_double, Function function) {
    return is_double ? function(double{}) : function(float{});
}

template <class T>
Buffer numbers(double count) {
    return Buffer(count * sizeof(T));
}

}  // namespace rnnfast
