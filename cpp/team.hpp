// team.hpp: threads that carry one slab together, each some blocks of units, and wait for each other once a step.
// How slabs are shared among threads. Used by forward.hpp and backward.hpp; knows nothing of cells or matrices.
#pragma once

#include <omp.h>
#include <sched.h>

#include "problem.hpp"

namespace rnnfast::RNNFAST_ISA {

// All members of a team have arrived before any of them goes on. A step is short, so that they spin; but where
// processors are fewer than threads the one who is waited for must get one, so that they soon yield.
class SpinBarrier {
  public:
    void wait(int team) {
        const int now = __atomic_load_n(&phase, __ATOMIC_RELAXED);
        if (__atomic_add_fetch(&arrived, 1, __ATOMIC_ACQ_REL) == team) {
            __atomic_store_n(&arrived, 0, __ATOMIC_RELAXED);
            __atomic_store_n(&phase, now + 1, __ATOMIC_RELEASE);
            return;
        }
        for (int spin = 0; __atomic_load_n(&phase, __ATOMIC_ACQUIRE) == now; ++spin)
            if (spin < spins_before_yield)
                pause();
            else
                sched_yield();
    }

  private:
    static constexpr int spins_before_yield = 500;  // some 10 microseconds

    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }

    // Not initialised, for there are many: over_slabs is given those that `prepare` has set.
    alignas(128) int arrived;
    alignas(128) int phase;

  public:
    static void prepare(SpinBarrier* barriers, const Schedule& schedule) {
        for (Index slab = 0; schedule.team > 1 && slab < schedule.slabs; ++slab)
            barriers[slab].arrived = barriers[slab].phase = 0;
    }
};

// One thread's place in a team; alone by default.
struct Member {
    int team = 1, index = 0;
    SpinBarrier* barrier = nullptr;

    void wait() const {
        if (team > 1) barrier->wait(team);
    }
};

// run(slab, member, leader) for all slabs, by the threads of a parallel region, which meet again at the end. A team
// needs all its threads: where the region has fewer than were asked for, each slab is carried by one.
template <class Run>
inline void over_slabs(const Schedule& schedule, SpinBarrier* barriers, Run run) {
    const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
    if (schedule.team > 1 && threads == schedule.threads && threads >= schedule.team) {
        const Index slab = thread / schedule.team;
        const Member member{schedule.team, thread % schedule.team, &barriers[slab]};
        if (slab < schedule.slabs) run(slab, member, thread - member.index);
#pragma omp barrier
    } else {
#pragma omp for schedule(dynamic, 1)
        for (Index slab = 0; slab < schedule.slabs; ++slab) run(slab, Member{}, thread);
    }
}

}  // namespace rnnfast::RNNFAST_ISA
