// stream.hpp: rnnfast.Stream, one step at a time on weights that are packed once. Used by bindings.cpp.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "arguments.hpp"
#include "arrays.hpp"
#include "memory.hpp"
#include "problem.hpp"
#include "process.hpp"
#include "released.hpp"
#include "schedule.hpp"

namespace rnnfast {

inline constexpr const char* stream_doc = R"(One step at a time, with the state kept inside and the weights packed once.

Each step computes what a step of rnnfast.forward does, to the bit.

Parameters
----------
cell : str
    One of rnnfast.cells().
Wx : array, (D, G*H)
Wh : array, (H, G*H)
b : array, (G*H,), for gru (4*H,), optional
    As for rnnfast.forward. The stream keeps copies.
batch_size : int
    N, how many sequences walk side by side.

Attributes
----------
state : tuple of arrays (N, H)
    (h,), for lstm (h, c), as copies; assign a tuple, or None for zero, to continue from elsewhere.

Methods
-------
step(x_t, out=None)
    h after the step, (N, H), for x_t (N, D) floating or (N,) token ids. Nothing is allocated but this array, and not
    even that when `out`, a C-contiguous (N, H) array, is given. A stream serves one thread at a time: a second one
    gets a RuntimeError.
reset()
    The state becomes zero.

Raises
------
ValueError, TypeError
    As rnnfast.forward.

Examples
--------
>>> import numpy as np, rnnfast
>>> rng = np.random.default_rng(0)
>>> x, Wx, Wh = rng.normal(size=(1, 5, 3)), rng.normal(size=(3, 8)), rng.normal(size=(2, 8))
>>> stream = rnnfast.Stream("lstm", Wx, Wh)
>>> h = [stream.step(x[:, t]) for t in range(5)]
>>> bool((np.stack(h, axis=1) == rnnfast.forward("lstm", x, Wx, Wh).h).all())
True
)";

class Stream {
  public:
    // Zeros, by which methods know an object of Stream.__new__ alone.
    static void* operator new(std::size_t bytes) { return std::memset(::operator new(bytes), 0, bytes); }
    static void operator delete(void* stream) { ::operator delete(stream); }

    Stream(const py::object& cell_name, const py::object& Wx, const py::object& Wh, const py::object& b,
           const py::object& batch_size)
        : cell_(find_cell(cell_name)),
          weights_(cell_, Wx, Wh, b, -1, floating_),
          N_(check_batch(batch_size, weights_.H)),
          schedule_(N_, 1, nullptr, false) {
        weights_.copy();  // later changes of the caller's do not reach the stream
        share(schedule_, threads_of(py::none()), cell_, weights_.D, weights_.H, floating_.is_double());
        worth_a_release_ = flops_per_row(cell_, weights_.D, weights_.H) * static_cast<double>(N_) > 1e6;
        zero_ = with_type(floating_.is_double(), [&](auto zero) -> py::object {
            using T = decltype(zero);
            auto array = new_array<T>("state", {N_, weights_.H});
            std::fill_n(array.mutable_data(), array.size(), T(0));
            return array;
        });
        reset();
    }

    void reset() { set_state(py::none()); }

    py::tuple state() {
        const Busy busy(*this);
        py::tuple result(cell_.states);
        for (int k = 0; k < cell_.states; ++k) result[k] = states_[k].attr("copy")();
        return result;
    }

    void set_state(const py::object& state) {
        expect_made();
        FloatingArrays floating;
        floating.add(zero_, "weights");
        const auto items = check_states(state, "state", cell_, N_, weights_.H, floating);
        floating.is_double();
        const Busy busy(*this);
        py::array states[max_states], next[max_states];  // all or none
        for (int k = 0; k < cell_.states; ++k) {
            states[k] = (items[k] ? items[k] : zero_).attr("copy")();
            next[k] = zero_.attr("copy")();
        }
        for (int k = 0; k < cell_.states; ++k) {
            std::swap(states_[k], states[k]);
            std::swap(next_[k], next[k]);
        }
    }

    py::object step(const py::object& x, const py::object& out) {
        const Busy busy(*this);
        return with_type(floating_.is_double(), [&](auto zero) { return step_of<decltype(zero)>(x, out); });
    }

    std::string repr() {
        if (!is_made_) return "<Stream, not made>";
        return std::string("Stream('") + cell_.name + "', D=" + std::to_string(weights_.D) +
               ", H=" + std::to_string(weights_.H) + ", batch_size=" + std::to_string(N_) + ", " +
               (floating_.is_double() ? "float64" : "float32") + ")";
    }

  private:
    // One call at a time: a step may have released the GIL. What was under way in another thread when the process
    // forked goes on in the parent alone, and the state here is that before it.
    struct Busy {
        std::atomic<int>& flag;  // 0, or 1 + how often the process had forked
        explicit Busy(Stream& stream) : flag(stream.busy_) {
            stream.expect_made();
            const int mine = 1 + forks, found = flag.exchange(mine);
            if (found == mine) throw std::runtime_error("Stream: expected one thread at a time, got two at once");
        }
        ~Busy() { flag = 0; }
    };

    void expect_made() const {
        if (!is_made_) throw py::type_error("Stream: expected one that Stream(...) made");
    }

    static Index check_batch(const py::object& batch_size, Index H) {
        const Index N = checked_integer(batch_size, "batch_size", "an integer of 0 or more");
        if (N < 0) throw py::value_error("batch_size: expected an integer of 0 or more, got " + std::to_string(N));
        new_array<double>("batch_size", {N, std::max<Index>(H, 1)});
        return N;
    }

    // Weights packed for token ids leave Wx out. Packed at the first step of the kind, then kept.
    template <class T>
    void prepare(bool ids) {
        const Shape shape{N_, 1, weights_.D, weights_.H};
        const Sizes sizes = kernel_of<T>(cell_).sizes(shape, schedule_.view(), ids);
        packed_[ids] = numbers<T>(static_cast<double>(sizes.forward_weights));
        scratch_[ids] = numbers<T>(static_cast<double>(sizes.forward_scratch) * schedule_.view().threads);
    }

    template <class T>
    py::object step_of(const py::object& x, const py::object& out) {
        const py::array array = as_array(x, "x_t");
        const bool ids = is_integer(array);
        Input<T> input{};
        py::array numbers_of_x;
        if (ids) {
            expect_shape(array, "x_t", {{"N", N_}});
            const auto id = Integers(array);
            ids_.assign(static_cast<std::size_t>(N_) + 1, 0);
            for (Index n = 0; n < N_; ++n) {
                ids_[n] = id.data()[n];
                if (ids_[n] < 0 || ids_[n] >= weights_.D)
                    throw py::value_error("x_t[" + std::to_string(n) +
                                          "] = " + std::string(py::str(array[py::int_(n)])) +
                                          ": expected a token id in [0, D) = [0, " + std::to_string(weights_.D) + ")");
            }
            input.ids = ids_.data();
        } else {
            expect_type<T>(array, "x_t", "or integer token ids, ");
            expect_shape(array, "x_t", {{"N", N_}, {"D", weights_.D}});
            numbers_of_x = whole_strides(native(array));
            input.data = data_of<T>(numbers_of_x);
            input.stride[0] = stride_of<T>(numbers_of_x, 0);
            input.stride[2] = stride_of<T>(numbers_of_x, 1);
        }
        py::array h;
        if (out.is_none()) {
            h = new_array<T>("h", {N_, weights_.H});
        } else {
            h = as_array(out, "out");
            expect_type<T>(h, "out", "");
            expect_shape(h, "out", {{"N", N_}, {"H", weights_.H}});
            if (!(h.flags() & py::array::c_style) || !h.writeable() || h.ptr() != native(h).ptr() ||
                h.ptr() != out.ptr())
                throw py::value_error("out: expected a writeable C-contiguous array");
            if (!ids && py::module_::import("numpy").attr("may_share_memory")(numbers_of_x, h).cast<bool>()) {
                numbers_of_x = numbers_of_x.attr("copy")("C");
                input.data = data_of<T>(numbers_of_x);
                input.stride[0] = stride_of<T>(numbers_of_x, 0);
                input.stride[2] = stride_of<T>(numbers_of_x, 1);
            }
        }
        const bool first = !was_packed_[ids];
        if (first) prepare<T>(ids);
        Forward<T> call{};
        call.shape = {N_, 1, weights_.D, weights_.H};
        call.schedule = schedule_.view();
        if (forked_child || startable_threads(call.schedule.threads) < call.schedule.threads)
            call.schedule.threads = call.schedule.team = 1;
        call.x = input;
        call.weights = weights_.template view<T>();
        call.h = static_cast<T*>(h.mutable_data());
        for (int k = 0; k < cell_.states; ++k) {
            call.state[k] = data_of<T>(states_[k]);
            call.final_state[k] = static_cast<T*>(next_[k].mutable_data());
        }
        call.packed = packed_[ids].template as<T>();
        call.is_packed = !first;
        call.scratch = scratch_[ids].template as<T>();
        call.last_step = 1;
        call.h_stride[0] = call.h_stride[1] = weights_.H;
        if (worth_a_release_)
            without_gil(1, [&](Interrupt*) { kernel_of<T>(cell_).forward(call); });
        else if (weights_.H > 0)  // a step of a few microseconds is not
            kernel_of<T>(cell_).forward(call);
        was_packed_[ids] = true;
        for (int k = 0; k < cell_.states; ++k) std::swap(states_[k], next_[k]);
        return h;
    }

    template <class T>
    void expect_type(const py::array& array, const char* name, const char* alternative) const {
        const char* expected = sizeof(T) == 8 ? "float64" : "float32";
        if (array.dtype().kind() != 'f' || array.itemsize() != static_cast<py::ssize_t>(sizeof(T)))
            throw py::type_error(std::string(name) + ": expected " + expected + ", as the weights, " + alternative +
                                 "got " + dtype_text(array));
    }

    const Cell& cell_;
    FloatingArrays floating_;
    WeightArrays weights_;
    Index N_;
    std::vector<Index> ids_;
    OwnedSchedule schedule_;
    py::object zero_;
    py::array states_[max_states], next_[max_states];
    Buffer packed_[2], scratch_[2];
    bool was_packed_[2] = {false, false};  // for floating x, for token ids
    bool worth_a_release_ = false;
    std::atomic<int> busy_{0};
    bool is_made_ = true;
};

}  // namespace rnnfast
