// schedule.hpp: builds a Schedule from the lengths of a batch: the order of the rows, and who computes them.
// Called by bindings.cpp, stream.hpp and process.hpp; it must not know cells, kernels or Python.
#pragma once

#include <algorithm>
#include <new>
#include <vector>

#include "problem.hpp"

namespace rnnfast {

// A Schedule with the arrays that it points to. Movable: vectors keep their storage.
class OwnedSchedule {
  public:
    OwnedSchedule(OwnedSchedule&&) = default;  // a copy would point into the original

    // lengths: [N], each in 0..T, or null for T everywhere.
    OwnedSchedule(Index N, Index T, const Index* lengths, bool reverse)
        : order_(count(N)), length_(count(N), count(T)) {
        std::vector<Index> of_length(static_cast<std::size_t>(T) + 1, 0);  // sequences of each length
        for (Index n = 0; n < N; ++n) ++of_length[lengths ? lengths[n] : T];
        active_.assign(static_cast<std::size_t>(T) + 1, 0);
        for (Index t = T - 1; t >= 0; --t) active_[t] = active_[t + 1] + of_length[t + 1];
        offset_.assign(static_cast<std::size_t>(T) + 1, 0);
        for (Index t = 0; t < T; ++t) offset_[t + 1] = offset_[t] + active_[t];
        std::vector<Index> next = active_;  // where the next sequence of a length goes: behind all longer ones
        for (Index n = 0; n < N; ++n) {
            const Index length = lengths ? lengths[n] : T, position = next[length]++;
            order_[position] = n;
            length_[position] = length;
        }
        view_ = {};
        view_.reverse = reverse;
        view_.steps = T;
        view_.rows = offset_[T];
        view_.order = order_.data();
        view_.length = length_.data();
        view_.active = active_.data();
        view_.offset = offset_.data();
        view_.threads = view_.team = 1;
    }

    // Keep the states before every `every`-th step, and no tape.
    void checkpoint(Index every) {
        checkpoint_.assign(1, 0);
        for (Index t = 0; t < view_.steps; t += every) checkpoint_.push_back(checkpoint_.back() + active_[t]);
        view_.every = every;
        view_.checkpoint = checkpoint_.data();
    }

    // Cuts the sorted positions into slabs of about equal work for at most `threads` threads: one for each thread, or,
    // where a thread alone would have too few rows to reuse the recurrent weights, one for each team.
    // flops: of one row, of which recurrent_flops in the recurrent product   weight_bytes: of the recurrent weights
    void share(int threads, double flops, double recurrent_flops, double weight_bytes) {
        constexpr Index most_rows = 96;                                // beyond this a slab's states leave the L2 cache
        constexpr double flops_worth_a_thread = 1e6;                   // about 20 microseconds
        constexpr double flops_worth_a_wait = 4e4;                     // of one member in one step
        const Index rows_alone = weight_bytes <= 384 * 1024 ? 2 : 12;  // the weights stay in the L2 cache, or do not
        const Index N = static_cast<Index>(order_.size());
        const double work = flops * static_cast<double>(view_.rows);
        const Index useful = std::max<Index>(1, static_cast<Index>(std::min(work / flops_worth_a_thread, 1e6)));
        const Index teams = std::clamp<Index>(N / rows_alone, 1, std::min<Index>(threads, max_teams));
        const double step = recurrent_flops * static_cast<double>(N);
        const Index team = std::min({threads / teams, useful / teams,
                                     static_cast<Index>(step / static_cast<double>(teams) / flops_worth_a_wait)});
        view_.team = static_cast<int>(std::max<Index>(1, team));
        if (view_.team > 1)
            view_.threads = static_cast<int>(view_.team * teams);
        else
            view_.threads = static_cast<int>(std::min<Index>({threads, useful, std::max<Index>(1, N)}));
        const Index slabs = view_.threads / view_.team;
        const Index wanted =
            view_.team > 1 ? slabs : slabs * std::max<Index>(1, (N + slabs * most_rows - 1) / (slabs * most_rows));
        slab_.assign(1, 0);
        view_.slab_rows = 0;
        double done = 0;  // steps of the sequences in closed slabs
        while (slab_.back() < N) {
            const double left = static_cast<double>(view_.rows) - done;
            const Index slabs_left = std::max<Index>(1, wanted - static_cast<Index>(slab_.size()) + 1);
            Index end = slab_.back();
            double steps = 0;
            do steps += static_cast<double>(length_[end++]);
            while (end < N && (view_.team > 1 || end - slab_.back() < most_rows) &&
                   steps + static_cast<double>(length_[end]) / 2 <= left / static_cast<double>(slabs_left));
            done += steps;
            view_.slab_rows = std::max(view_.slab_rows, end - slab_.back());
            slab_.push_back(end);
        }
        constexpr double flops_worth_asking = 2e6;  // of a slab
        const double step_flops = flops * static_cast<double>(std::max<Index>(1, view_.slab_rows));
        view_.steps_to_ask = static_cast<Index>(std::clamp(flops_worth_asking / step_flops, 1.0, 1024.0));
        view_.slab = slab_.data();
        view_.slabs = static_cast<Index>(slab_.size()) - 1;
    }

    // The caller's rows are packed as this schedule has them.
    void pack_rows() { view_.packed = true; }

    // Backward leaves the tape as it is.
    void keep_tape() { view_.kept = true; }

    const Schedule& view() const { return view_; }

  private:
    // No more sequences or steps than memory can hold: a vector would call the excess by another name.
    static Index count(Index n) {
        if (n >= Index(1) << 43) throw std::bad_alloc();
        return n;
    }

    std::vector<Index> order_, length_, active_, offset_, slab_, checkpoint_;
    Schedule view_{};
};

}  // namespace rnnfast
