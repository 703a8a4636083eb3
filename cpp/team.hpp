// team.hpp: threads that carry one slab together, each some blocks of units, and wait for each other once a step.
// How slabs are shared among threads. Used by forward.hpp and backward.hpp; knows nothing of cells or matrices.
#pragma once

#include <omp.h>
#include <sched.h>
#include <time.h>

#include "problem.hpp"

namespace rnnfast::RNNFAST_ISA {

// Whether the call is to end early. The thread that made it, 0 of the region, asks first.
inline bool stopped(Interrupt* interrupt, bool ask) {
    if (!interrupt) return false;
    if (ask && interrupt->wanted(interrupt->context)) __atomic_store_n(&interrupt->stop, 1, __ATOMIC_RELAXED);
    return __atomic_load_n(&interrupt->stop, __ATOMIC_RELAXED);
}

inline bool stopped(Interrupt* interrupt) { return stopped(interrupt, interrupt && omp_get_thread_num() == 0); }

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

constexpr int spins_before_yield = 500;  // some 10 microseconds

// All members of a team have arrived before any of them goes on. A step is short, so that they spin; but where
// processors are fewer than threads the one who is waited for must get one, so that they soon yield.
class SpinBarrier {
  public:
    // Whether the call is to end early: the last to arrive decides it for all.
    bool wait(int team, Interrupt* interrupt) {
        const int now = __atomic_load_n(&phase, __ATOMIC_RELAXED);
        if (__atomic_add_fetch(&arrived, 1, __ATOMIC_ACQ_REL) == team) {
            stop = stopped(interrupt, false);
            __atomic_store_n(&arrived, 0, __ATOMIC_RELAXED);
            __atomic_store_n(&phase, now + 1, __ATOMIC_RELEASE);
            return stop;
        }
        for (int spin = 0; __atomic_load_n(&phase, __ATOMIC_ACQUIRE) == now; ++spin)
            if (spin < spins_before_yield)
                pause();
            else
                sched_yield();
        return stop;
    }

  private:
    // Not initialised, for there are many: over_slabs is given those that `prepare` has set.
    alignas(128) int arrived;
    alignas(128) int phase;
    bool stop;  // written before the phase changes

  public:
    static void prepare(SpinBarrier* barriers, const Schedule& schedule) {
        for (Index slab = 0; schedule.team > 1 && slab < schedule.slabs; ++slab)
            barriers[slab].arrived = barriers[slab].phase = 0;
    }
};

// One thread's place in a team, or alone.
struct Member {
    int team, index;
    SpinBarrier* barrier;
    Interrupt* interrupt;
    bool asks;  // is the thread that made the call
    Index steps_to_ask, step;

    Member(const Schedule& schedule, int thread)
        : team(1),
          index(0),
          barrier(nullptr),
          interrupt(schedule.interrupt),
          asks(interrupt && thread == 0),
          steps_to_ask(schedule.steps_to_ask),
          step(0) {}

    // All of the team are here. Once a step; true where the call is to end early, for all of them alike.
    bool wait() {
        if (asks && ++step >= steps_to_ask) {
            step = 0;
            stopped(interrupt, true);
        }
        return team > 1 ? barrier->wait(team, interrupt) : stopped(interrupt, false);
    }
};

// The thread that made the call goes on asking while others still work.
inline void wait_for_all(Interrupt* interrupt, int thread, int threads) {
    if (!interrupt) return;
    __atomic_add_fetch(&interrupt->arrived, 1, __ATOMIC_RELEASE);
    if (thread) return;
    for (int spin = 0; __atomic_load_n(&interrupt->arrived, __ATOMIC_ACQUIRE) < threads; ++spin) {
        if (spin < spins_before_yield) {
            pause();
        } else {
            stopped(interrupt, true);
            sched_yield();
            const timespec some{0, 100'000};
            if (spin > 20 * spins_before_yield) nanosleep(&some, nullptr);
        }
    }
    __atomic_store_n(&interrupt->arrived, 0, __ATOMIC_RELAXED);
    interrupt->ended = stopped(interrupt, false);
}

// run(slab, member, leader) for all slabs, by the threads of a parallel region, which meet again at the end; true, for
// all of them alike, where the call is to end early. A team
// needs all its threads: where the region has fewer than were asked for, each slab is carried by one.
template <class Run>
inline bool over_slabs(const Schedule& schedule, SpinBarrier* barriers, Run run) {
    const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
    if (schedule.team > 1 && threads == schedule.threads && threads >= schedule.team) {
        const Index slab = thread / schedule.team;
        Member member(schedule, thread);
        member.team = schedule.team;
        member.index = thread % schedule.team;
        member.barrier = &barriers[slab];
        if (slab < schedule.slabs) run(slab, member, thread - member.index);
    } else {
#pragma omp for schedule(dynamic, 1) nowait
        for (Index slab = 0; slab < schedule.slabs; ++slab) run(slab, Member(schedule, thread), thread);
    }
    wait_for_all(schedule.interrupt, thread, threads);
#pragma omp barrier
    return schedule.interrupt && schedule.interrupt->ended;
}

}  // namespace rnnfast::RNNFAST_ISA
