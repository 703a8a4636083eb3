// bindings.cpp: Python in, Python out: check (arguments.hpp), allocate, release the GIL, call.
// It must not know how anything is computed: that is one call through the kernel table.
#include <atomic>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "arguments.hpp"
#include "arrays.hpp"
#include "dispatch.hpp"
#include "memory.hpp"
#include "operation_bindings.hpp"
#include "problem.hpp"
#include "schedule.hpp"

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace rnnfast {
namespace {

// ---- the process: which kernels, how many threads

const KernelTable* kernels = nullptr;  // set once, at import
std::atomic<int> default_threads{1};
std::atomic<bool> forked_child{false};  // the parent's OpenMP team does not exist here, and waiting for it hangs

const Cell& find_cell(const py::object& cell) {
    if (!py::isinstance<py::str>(cell) || py::isinstance<py::bytes>(cell))
        throw py::type_error("cell: expected a name, got " + type_name(cell));
    const std::string name = py::str(cell);
    std::string names;
    for (int i = 0; i < kernels->cells; ++i) {
        if (name == kernels->cell[i].name) return kernels->cell[i];
        names += std::string(i ? ", " : "") + kernels->cell[i].name;
    }
    throw py::value_error("cell: expected one of " + names + ", got '" + name + "'");
}

int positive_threads(const py::object& value) {
    const Index n = checked_integer(value, "num_threads", "a positive integer");
    if (n < 1) throw py::value_error("num_threads: expected a positive integer, got " + std::string(py::str(value)));
    // Beyond some threads for each processor nothing is gained, and OpenMP ends the process when it can have no more.
    const Index most = std::max<Index>(16, 4 * static_cast<Index>(std::thread::hardware_concurrency()));
    return static_cast<int>(std::min(n, most));
}

int threads_of(const py::object& num_threads) {
    const int n = num_threads.is_none() ? default_threads.load() : positive_threads(num_threads);
    return forked_child ? 1 : n;
}

// ---- allocation and calls

double flops_per_row(const Cell& cell, Index D, Index H) {
    return 2.0 * cell.weight_blocks * static_cast<double>(H) * static_cast<double>(D + H + 16);
}

// times: 1 for a forward pass, 2 for a backward pass
void share(OwnedSchedule& schedule, int threads, const Cell& cell, Index D, Index H, bool is_double, int times = 1) {
    const double recurrent = flops_per_row(cell, 0, H) * times;
    const double weight_bytes = static_cast<double>(cell.weight_blocks) * static_cast<double>(H * H);
    schedule.share(threads, flops_per_row(cell, D, H) * times, recurrent, weight_bytes * (is_double ? 8 : 4));
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

// ---- forward and backward

// All that backward needs: the caller's arrays, kept alive, and what forward stored.
struct Tape {
    const Cell& cell;
    const bool is_double;
    const Shape shape;
    InputArray x;
    WeightArrays weights;
    OwnedSchedule schedule;
    std::vector<py::object> initial;  // states, kept for a forward pass that is run again
    Buffer gates, state[max_states];  // of a tape of all rows
    Buffer checkpoint[max_states];    // or the states before some steps
    std::atomic<bool> used{false};

    Tape(const Cell& cell, bool is_double, const Shape& shape, InputArray x, WeightArrays weights,
         OwnedSchedule schedule)
        : cell(cell),
          is_double(is_double),
          shape(shape),
          x(std::move(x)),
          weights(std::move(weights)),
          schedule(std::move(schedule)) {
        this->x.hold();
        this->weights.hold();
    }

    std::size_t bytes() const {
        std::size_t sum = gates.capacity();
        for (int k = 0; k < max_states; ++k) sum += state[k].capacity() + checkpoint[k].capacity();
        return sum;
    }

    // Room for the rows that `sizes` says, from now on.
    template <class T>
    TapeRows<T> allocate(const Sizes& sizes) {
        gates = numbers<T>(static_cast<double>(sizes.gates));
        for (int k = 0; k < cell.states; ++k) state[k] = numbers<T>(static_cast<double>(sizes.state));
        return rows<T>(sizes);
    }

    template <class T>
    TapeRows<T> rows(const Sizes& sizes) const {
        return {0, sizes.tape_rows, gates.as<T>(), {state[0].as<T>(), state[1].as<T>()}};
    }
};

template <class T>
py::tuple states_tuple(const std::vector<py::array_t<T>>& states) {
    py::tuple result(states.size());
    for (std::size_t k = 0; k < states.size(); ++k) result[k] = states[k];
    return result;
}

// out: None, or the array to write h into
py::tuple forward(const py::object& cell_name, const py::object& x_, const py::object& Wx, const py::object& Wh,
                  const py::object& b, const py::object& state, const py::object& lengths_, const py::object& reverse,
                  const py::object& keep_tape, const py::object& num_threads, const py::object& recompute,
                  const py::object& out) {
    const Cell& cell = find_cell(cell_name);
    const int threads = threads_of(num_threads);
    const Index every = recompute.is_none() ? 0 : checked_integer(recompute, "recompute", "a positive integer");
    if (!recompute.is_none() && every < 1)
        throw py::value_error("recompute: expected a positive integer, got " + std::string(py::str(recompute)));
    const bool backwards = checked_flag(reverse, "reverse"), with_tape = checked_flag(keep_tape, "keep_tape");
    FloatingArrays floating;
    InputArray x(x_, floating);
    WeightArrays weights(cell, Wx, Wh, b, x.D(), floating);
    const Shape shape{x.N(), x.T(), weights.D, weights.H};
    const std::vector<py::object> states = check_states(state, "state", cell, shape.N, shape.H, floating);
    const bool is_double = floating.is_double();
    const std::optional<std::vector<Index>> lengths = check_lengths(lengths_, shape.N, shape.T);
    Index steps = shape.N ? shape.T : 0;  // of the longest sequence: padding beyond it costs nothing
    if (lengths) {
        steps = 0;
        for (const Index length : *lengths) steps = std::max(steps, length);
    }
    OwnedSchedule schedule(shape.N, steps, lengths ? lengths->data() : nullptr, backwards);
    share(schedule, threads, cell, x.is_ids() ? 0 : shape.D, shape.H, is_double);
    if (with_tape && every > 0) schedule.checkpoint(every);
    if (x.is_ids()) x.pack_ids(schedule.view(), shape.D);

    return with_type(is_double, [&](auto zero) -> py::tuple {
        using T = decltype(zero);
        const Kernel<T>& kernel = kernel_of<T>(cell);
        const Sizes sizes = kernel.sizes(shape, schedule.view(), x.is_ids());
        Index h_stride = shape.H;
        py::array_t<T> h = out.is_none() ? new_array<T>("h", {shape.N, shape.T, shape.H})
                                         : rows_to_write<T>(out, "h", {shape.N, shape.T, shape.H}, h_stride);
        std::vector<py::array_t<T>> final_states;
        for (int k = 0; k < cell.states; ++k) final_states.push_back(new_array<T>("state", {shape.N, shape.H}));
        Buffer packed = numbers<T>(static_cast<double>(sizes.forward_weights));
        Buffer scratch = numbers<T>(static_cast<double>(sizes.forward_scratch) * schedule.view().threads);
        std::unique_ptr<Tape> tape;
        if (with_tape) {
            tape =
                std::make_unique<Tape>(cell, is_double, shape, std::move(x), std::move(weights), std::move(schedule));
            if (!tape->schedule.view().every) {
                tape->template allocate<T>(sizes);
            } else {
                tape->initial = states;
                for (int k = 0; k < cell.states; ++k)
                    tape->checkpoint[k] = numbers<T>(static_cast<double>(sizes.checkpoint));
            }
        }
        Forward<T> call{};
        call.shape = shape;
        call.schedule = tape ? tape->schedule.view() : schedule.view();
        call.x = (tape ? tape->x : x).template view<T>();
        call.weights = (tape ? tape->weights : weights).template view<T>();
        point_to(states, call.state);
        call.h = h.mutable_data();
        call.h_stride = h_stride;
        for (int k = 0; k < cell.states; ++k) call.final_state[k] = final_states[k].mutable_data();
        if (tape && !tape->schedule.view().every) call.tape = tape->template rows<T>(sizes);
        for (int k = 0; k < cell.states && tape; ++k) call.checkpoint[k] = tape->checkpoint[k].template as<T>();
        call.last_step = steps;
        call.packed = packed.as<T>();
        call.scratch = scratch.as<T>();
        {
            const py::gil_scoped_release release;
            kernel.forward(call);
        }
        return py::make_tuple(h, states_tuple(final_states), tape ? py::cast(std::move(tape)) : py::none());
    });
}

// out: None, or a tuple of dWx, dWh, db to write into
py::tuple backward(Tape& tape, const py::object& dh_, const py::object& dstate_, const py::object& num_threads,
                   const py::object& dx_wanted, const py::object& out) {
    const Shape& shape = tape.shape;
    const int threads = threads_of(num_threads);
    const bool with_dx = checked_flag(dx_wanted, "dx");
    FloatingArrays floating;
    std::optional<py::array> dh;
    if (!dh_.is_none()) {
        dh = floating.add(dh_, "dh");
        expect_shape(*dh, "dh", {{"N", shape.N}, {"T", shape.T}, {"H", shape.H}});
        dh = adjacent(whole_strides(*dh));
    }
    const std::vector<py::object> dstate = check_states(dstate_, "dstate", tape.cell, shape.N, shape.H, floating);
    const bool any = dh || std::any_of(dstate.begin(), dstate.end(), [](const py::object& d) { return bool(d); });
    if (any && floating.is_double() != tape.is_double)
        throw py::type_error(std::string("dh, dstate: expected ") + (tape.is_double ? "float64" : "float32") +
                             ", as in the forward pass, got " + (tape.is_double ? "float32" : "float64"));

    return with_type(tape.is_double, [&](auto zero) -> py::tuple {
        using T = decltype(zero);
        const Kernel<T>& kernel = kernel_of<T>(tape.cell);
        const int G = tape.cell.weight_blocks;
        const bool ids = tape.x.is_ids();
        std::optional<py::array_t<T>> dx, db;
        if (!ids && with_dx) dx = new_array<T>("dx", {shape.N, shape.T, shape.D});
        const auto weight_gradient = [&](int i, const char* name, const std::vector<py::ssize_t>& size) {
            return out.is_none() ? new_array<T>(name, size) : written_array<T>(out[py::int_(i)], name, size);
        };
        auto dWx = weight_gradient(0, "dWx", {shape.D, G * shape.H});
        auto dWh = weight_gradient(1, "dWh", {shape.H, G * shape.H});
        if (tape.weights.b) db = weight_gradient(2, "db", {tape.cell.bias_blocks * shape.H});
        std::vector<py::array_t<T>> dinitial;
        for (int k = 0; k < tape.cell.states; ++k) dinitial.push_back(new_array<T>("dstate", {shape.N, shape.H}));
        if (tape.used.exchange(true))
            throw std::runtime_error("tape: expected one that is unused, got one that a backward pass has used");
        share(tape.schedule, threads, tape.cell, ids ? 0 : shape.D, shape.H, tape.is_double, 2);
        const Sizes sizes = kernel.sizes(shape, tape.schedule.view(), ids);
        const double team = tape.schedule.view().threads;
        const bool again = tape.schedule.view().every > 0;
        Buffer packed, scratch, forward_packed, forward_scratch;
        try {
            packed = numbers<T>(static_cast<double>(sizes.backward_weights));
            scratch = numbers<T>(static_cast<double>(sizes.backward_scratch) * team +
                                 static_cast<double>(sizes.shared_scratch));
            if (again) {
                forward_packed = numbers<T>(static_cast<double>(sizes.forward_weights));
                forward_scratch = numbers<T>(static_cast<double>(sizes.forward_scratch) * team);
                tape.template allocate<T>(sizes);
            }
        } catch (...) {
            tape.used = false;  // nothing was overwritten yet
            throw;
        }
        Backward<T> call{};
        call.shape = shape;
        call.schedule = tape.schedule.view();
        call.x = tape.x.template view<T>();
        call.weights = tape.weights.template view<T>();
        call.tape = tape.template rows<T>(sizes);
        if (again) {
            call.again.shape = shape;
            call.again.schedule = call.schedule;
            call.again.x = call.x;
            call.again.weights = call.weights;
            point_to(tape.initial, call.again.state);
            for (int k = 0; k < tape.cell.states; ++k) call.again.checkpoint[k] = tape.checkpoint[k].template as<T>();
            call.again.packed = forward_packed.as<T>();
            call.again.scratch = forward_scratch.as<T>();
        }
        if (dh) {
            call.dh = data_of<T>(*dh);
            for (int i = 0; i < 2; ++i) call.dh_stride[i] = stride_of<T>(*dh, i);
        }
        point_to(dstate, call.dstate);
        call.dx = dx ? dx->mutable_data() : nullptr;
        call.dWx = dWx.mutable_data();
        call.dWh = dWh.mutable_data();
        call.db = db ? db->mutable_data() : nullptr;
        for (int k = 0; k < tape.cell.states; ++k) call.dinitial[k] = dinitial[k].mutable_data();
        call.packed = packed.as<T>();
        call.scratch = scratch.as<T>();
        {
            const py::gil_scoped_release release;
            kernel.backward(call);
        }
        tape.gates = Buffer();  // back to the shelf, for the next forward pass
        for (int k = 0; k < max_states; ++k) tape.state[k] = Buffer(), tape.checkpoint[k] = Buffer();
        return py::make_tuple(dx ? py::object(*dx) : py::none(), dWx, dWh, db ? py::object(*db) : py::none(),
                              states_tuple(dinitial));
    });
}

// ---- Stream

class Stream {
  public:
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
        const Busy busy(busy_);
        py::tuple result(cell_.states);
        for (int k = 0; k < cell_.states; ++k) result[k] = states_[k].attr("copy")();
        return result;
    }

    void set_state(const py::object& state) {
        FloatingArrays floating;
        floating.add(zero_, "weights");
        const auto items = check_states(state, "state", cell_, N_, weights_.H, floating);
        floating.is_double();
        const Busy busy(busy_);
        for (int k = 0; k < cell_.states; ++k) {
            states_[k] = (items[k] ? items[k] : zero_).attr("copy")();
            next_[k] = zero_.attr("copy")();
        }
    }

    py::object step(const py::object& x, const py::object& out) {
        const Busy busy(busy_);
        return with_type(floating_.is_double(), [&](auto zero) { return step_of<decltype(zero)>(x, out); });
    }

    std::string repr() const {
        std::ostringstream text;
        text << "Stream('" << cell_.name << "', D=" << weights_.D << ", H=" << weights_.H << ", batch_size=" << N_
             << ", " << (floating_.is_double() ? "float64" : "float32") << ")";
        return text.str();
    }

  private:
    // One call at a time: a step may have released the GIL.
    struct Busy {
        std::atomic<bool>& flag;
        explicit Busy(std::atomic<bool>& flag) : flag(flag) {
            if (flag.exchange(true)) throw std::runtime_error("Stream: expected one thread at a time, got two at once");
        }
        ~Busy() { flag = false; }
    };

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
            const auto id = py::array_t<Index, py::array::c_style | py::array::forcecast>(array);
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
        if (forked_child) call.schedule.threads = 1;
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
        call.h_stride = weights_.H;
        {
            std::optional<py::gil_scoped_release> release;
            if (worth_a_release_) release.emplace();  // a step of a few microseconds is not
            kernel_of<T>(cell_).forward(call);
        }
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
    std::atomic<bool> busy_{false};
};

// ---- the module

py::list instruction_set_list() {
    py::list result;
    for (const auto& [table, available] : instruction_sets()) {
        py::dict entry;
        entry["name"] = table->isa;
        entry["flags"] = table->flags;
        entry["available"] = available;
        entry["chosen"] = table == kernels;
        result.append(entry);
    }
    return result;
}

const char* compiler() {
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown";
#endif
}

constexpr const char* stream_doc = R"(One step at a time, with the state kept inside and the weights packed once.

Each step computes what a step of rnnfast.forward does, to the bit.

Parameters
----------
cell : str
    One of rnnfast.cells().
Wx : array, (D, G*H)
Wh : array, (H, G*H)
b : array, (G*H,), for gru (4*H,), optional
    As for rnnfast.forward. Do not change them while the stream lives.
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

PYBIND11_MODULE(_core, m) {
    const char* forced = std::getenv("RNNFAST_ISA");
    try {
        kernels = &choose(forced ? forced : "");
    } catch (const std::runtime_error& error) {
        throw py::import_error(error.what());
    }
    default_threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
#if !defined(_WIN32)
    pthread_atfork(nullptr, nullptr, [] { forked_child = true; });
#endif

    py::class_<Tape>(m, "Tape", "What a forward pass leaves for one backward pass.")
        .def_property_readonly("nbytes", &Tape::bytes, "Bytes of stored activations.")
        .def_property_readonly("used", [](const Tape& tape) { return tape.used.load(); })
        .def("__repr__", [](const Tape& tape) {
            std::ostringstream text;
            text << "<Tape of " << tape.cell.name << ", N=" << tape.shape.N << ", T=" << tape.shape.T
                 << ", D=" << tape.shape.D << ", H=" << tape.shape.H << (tape.used ? ", used>" : ">");
            return text.str();
        });
    m.def("forward", &forward);
    m.def("backward", &backward);
    py::class_<Stream>(m, "Stream", stream_doc)
        .def(py::init<const py::object&, const py::object&, const py::object&, const py::object&, const py::object&>(),
             py::arg("cell"), py::arg("Wx"), py::arg("Wh"), py::arg("b") = py::none(),
             py::arg("batch_size") = py::int_(1))
        .def("step", &Stream::step, py::arg("x_t"), py::arg("out") = py::none())
        .def("reset", &Stream::reset)
        .def_property("state", &Stream::state, &Stream::set_state)
        .def("__repr__", &Stream::repr);
    m.def("cells", [] {
        py::list names;
        for (int i = 0; i < kernels->cells; ++i) names.append(kernels->cell[i].name);
        return names;
    });
    m.def("cell_blocks", [](const py::object& name) {
        const Cell& cell = find_cell(name);
        return py::make_tuple(cell.weight_blocks, cell.bias_blocks, cell.states);
    });
    m.def("set_num_threads", [](const py::object& n) { default_threads = positive_threads(n); });
    m.def("get_num_threads", [] { return default_threads.load(); });
    m.def("instruction_sets", &instruction_set_list);
    m.def("compiler", &compiler);
    m.def("multiply_add_rate", [](double seconds) {
        const py::gil_scoped_release release;
        return kernels->multiply_add_rate(seconds);
    });
    m.def("read_rate", [](Index bytes, double seconds) {
        if (bytes < 1024) throw py::value_error("bytes: expected at least 1024, got " + std::to_string(bytes));
        py::array_t<char> data(bytes + 64);  // NumPy's, not a buffer that is kept
        const auto place = reinterpret_cast<std::uintptr_t>(data.mutable_data());
        auto* const numbers = reinterpret_cast<float*>((place + 63) / 64 * 64);  // as packed weights are
        const py::gil_scoped_release release;
        for (Index i = 0; i < bytes / static_cast<Index>(sizeof(float)); ++i) numbers[i] = 1.0f;
        return kernels->read_rate(numbers, bytes, seconds);
    });
    bind_operations(m, *kernels->operations, [] { return threads_of(py::none()); });
}

}  // namespace
}  // namespace rnnfast
