// released.hpp: without_gil: a call of a kernel while the interpreter goes on, which signals can end. Used by the
// bindings; it must not know what is called.
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <cfenv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "problem.hpp"

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__APPLE__)
#include <pthread.h>
#endif

namespace rnnfast {

namespace py = pybind11;

inline std::atomic<int> forks{0};  // from the first process to this one

// The one thread in which Python's signal handlers run.
inline bool is_main_thread() {
#if defined(__linux__)
    return syscall(SYS_gettid) == getpid();
#elif defined(__APPLE__)
    return pthread_main_np();
#else
    return true;
#endif
}

// While the interpreter shuts down, a thread that asks for its lock is ended by unwinding its stack, through
// destructors that need the lock: such a thread had better sleep.
inline void take_gil(PyThreadState* thread) {
    try {
        PyEval_RestoreThread(thread);
    } catch (...) {
        for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
}

// A handler forked: the child is in the middle of a call whose other threads it does not have.
[[noreturn]] inline void end_forked_child() {
    std::fputs(
        "rnnfast: a signal handler forked during a call on several threads, which the child cannot go on with; "
        "the child ends. Let it exec or os._exit within the handler.\n",
        stderr);
    std::_Exit(70);
}

// call(interrupt), without the GIL, on so many threads. Raises what a signal's handler raised meanwhile:
// KeyboardInterrupt for Ctrl-C.
template <class Call>
void without_gil(int threads, Call call) {
    using Clock = std::chrono::steady_clock;
    struct Caller {
        int threads;
        PyThreadState* thread;
        Clock::time_point asked;
        std::fenv_t environment;
    } caller;
    caller.threads = threads;
    Interrupt interrupt{};
    interrupt.context = &caller;
    interrupt.wanted = [](void* context) {
        Caller& caller = *static_cast<Caller*>(context);
        if (Clock::now() - caller.asked < std::chrono::milliseconds(50)) return false;
        std::fenv_t of_kernel;
        std::fegetenv(&of_kernel);
        std::fesetenv(&caller.environment);  // handlers know denormals
        take_gil(caller.thread);
        const int forks_before = forks;
        const bool raised = PyErr_Occurred() || PyErr_CheckSignals() != 0;
        if (forks != forks_before && caller.threads > 1) end_forked_child();
        caller.thread = PyEval_SaveThread();
        std::fesetenv(&of_kernel);
        caller.asked = Clock::now();
        return raised;
    };
    std::fegetenv(&caller.environment);
    caller.asked = Clock::now();
    caller.thread = PyEval_SaveThread();
    call(is_main_thread() ? &interrupt : nullptr);
    take_gil(caller.thread);
    if (interrupt.stop) throw py::error_already_set();
}

}  // namespace rnnfast
