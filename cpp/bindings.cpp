// bindings.cpp: Python in, Python out: check (arguments.hpp), allocate, release the GIL, call.
// It must not know how anything is computed: that is one call through the kernel table.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "arguments.hpp"
#include "arrays.hpp"
#include "dispatch.hpp"
#include "memory.hpp"
#include "operation_bindings.hpp"
#include "problem.hpp"
#include "process.hpp"
#include "released.hpp"
#include "schedule.hpp"
#include "stream.hpp"

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace rnnfast {
namespace {

// ---- forward and backward

// All that backward needs: the caller's arrays, kept alive, and what forward stored.
struct Tape {
    const Cell& cell;
    const bool is_double;
    const Shape shape;
    InputArray x;
    WeightArrays weights;
    OwnedSchedule schedule;
    Buffer gates, state[max_states];  // of a tape of all rows
    Buffer checkpoint[max_states];    // or the states before some steps
    py::object kept;                  // or all rows in an array of the caller's, for any number of backward passes
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
        for (int k = 0; k < cell.tape_states; ++k) state[k] = numbers<T>(static_cast<double>(sizes.state));
        return rows<T>(sizes);
    }

    // The rows in the caller's array `numbers`: gates, then states.
    template <class T>
    static TapeRows<T> rows_in(const py::object& numbers, const Cell& cell, const Sizes& sizes) {
        const py::array array = written_array<T>(numbers, "tape", {tape_numbers(cell, sizes)});
        T* const data = static_cast<T*>(const_cast<void*>(array.data()));
        return {0, sizes.tape_rows, data, {data + sizes.gates, data + sizes.gates + sizes.state}};
    }

    static Index tape_numbers(const Cell& cell, const Sizes& sizes) {
        return sizes.gates + cell.tape_states * sizes.state;
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

// Weights that are packed once, for many passes without a tape.
struct PackedWeights {
    const Cell& cell;
    FloatingArrays floating;
    WeightArrays arrays;
    Buffer packed[2];  // for floating x, for token ids, which leave Wx out; each packed by the first pass of its kind
    bool ready[2] = {false, false};

    // Packs for an input of that kind, once; holds the GIL meanwhile, so that nobody else does.
    template <class T>
    void pack(bool ids, int threads) {
        if (ready[ids]) return;
        OwnedSchedule nothing(0, 0, nullptr, false);
        nothing.share(threads, 0, 0, 0);
        Forward<T> call{};
        call.shape = {0, 0, arrays.D, arrays.H};
        call.schedule = nothing.view();
        call.schedule.threads = threads;
        if (ids) call.x.ids = reinterpret_cast<const Index*>(this);  // no row is read
        call.weights = arrays.view<T>();
        const Kernel<T>& kernel = kernel_of<T>(cell);
        packed[ids] = numbers<T>(static_cast<double>(kernel.sizes(call.shape, call.schedule, ids).forward_weights));
        call.packed = packed[ids].template as<T>();
        if (arrays.H > 0) kernel.forward(call);
        ready[ids] = true;
    }

    PackedWeights(const py::object& cell, const py::object& Wx, const py::object& Wh, const py::object& b)
        : cell(find_cell(cell)), arrays(this->cell, Wx, Wh, b, -1, floating) {
        arrays.copy();  // later changes of the caller's do not reach it
    }

    WeightArrays for_input(const InputArray& x, FloatingArrays& floating_of_call) const {
        floating_of_call.add(arrays.Wx, "weights");
        if (!x.is_ids() && x.D() != arrays.D)
            throw py::value_error("x: expected (N, T, D) with D = " + std::to_string(arrays.D) +
                                  ", as the weights, got D = " + std::to_string(x.D()));
        return arrays;
    }
};

// Python objects of our own. pybind11 registers an object, which allocates, when it owns the value already: by its own
// ways, a failure frees the value twice (cast) or ends the process (init).
template <class T>
py::object object_of(std::unique_ptr<T> value) {
    py::object object = py::cast(value.get(), py::return_value_policy::reference);  // registered, owns nothing
    auto* const instance = reinterpret_cast<py::detail::instance*>(object.ptr());
    instance->owned = true;
    py::detail::get_type_info(typeid(T))->init_instance(instance, &value);  // moves the value in
    return object;
}

template <class T, class... Arguments>
void construct(py::detail::value_and_holder& self, const Arguments&... arguments) {
    auto value = std::make_unique<T>(arguments...);
    self.value_ptr() = value.get();
    try {
        self.type->init_instance(self.inst, nullptr);
    } catch (...) {
        self.value_ptr() = nullptr;
        throw;
    }
    value.release();
}

// The order of the rows of a batch; sets N and T of `shape`.
OwnedSchedule schedule_of(const InputArray& x, const py::object& lengths_, bool reverse, Shape& shape) {
    if (x.is_packed()) shape.T = x.rows();
    const std::optional<std::vector<Index>> lengths = check_lengths(lengths_, shape.N, shape.T);
    Index steps = shape.N ? shape.T : 0;  // of the longest sequence: padding beyond it costs nothing
    if (lengths) {
        steps = 0;
        for (const Index length : *lengths) steps = std::max(steps, length);
    }
    OwnedSchedule schedule(shape.N, steps, lengths ? lengths->data() : nullptr, reverse);
    if (x.is_packed()) {
        if (!lengths || !std::is_sorted(lengths->rbegin(), lengths->rend()) || schedule.view().rows != x.rows())
            throw py::value_error("lengths: expected descending ones, whose sum is the number of packed rows of x");
        shape.T = steps;
        schedule.pack_rows();
    }
    return schedule;
}

Index sequences_of(const InputArray& x, const py::object& lengths) {
    return x.is_packed() ? static_cast<Index>(as_array(lengths, "lengths").size()) : x.N();
}

// N, T as the caller's rows have them, before the last axis
std::vector<py::ssize_t> rows_shape(const Schedule& schedule, const Shape& shape, Index columns) {
    if (schedule.packed) return {schedule.rows, columns};
    return {shape.N, shape.T, columns};
}

// cell_name: a name, or PackedWeights instead of it, Wx, Wh and b   out: None, or the array to write h into
// packed: x and h are rows [R, .] as in a PackedSequence   numbers: None, or the array that becomes the tape
py::tuple forward(const py::object& cell_name, const py::object& x_, const py::object& Wx, const py::object& Wh,
                  const py::object& b, const py::object& state, const py::object& lengths_, const py::object& reverse,
                  const py::object& keep_tape, const py::object& num_threads, const py::object& recompute,
                  const py::object& out, bool packed_rows, const py::object& numbers_of_tape) {
    PackedWeights* const handle = py::isinstance<PackedWeights>(cell_name) ? cell_name.cast<PackedWeights*>() : nullptr;
    const Cell& cell = handle ? handle->cell : find_cell(cell_name);
    const int threads = threads_of(num_threads);
    const Index every = recompute.is_none() ? 0 : checked_integer(recompute, "recompute", "a positive integer");
    if (!recompute.is_none() && every < 1)
        throw py::value_error("recompute: expected a positive integer, got " + std::string(py::str(recompute)));
    const bool backwards = checked_flag(reverse, "reverse"), with_tape = checked_flag(keep_tape, "keep_tape");
    FloatingArrays floating;
    InputArray x(x_, floating, packed_rows);
    WeightArrays weights = handle ? handle->for_input(x, floating) : WeightArrays(cell, Wx, Wh, b, x.D(), floating);
    Shape shape{sequences_of(x, lengths_), x.T(), weights.D, weights.H};
    const std::vector<py::object> states = check_states(state, "state", cell, shape.N, shape.H, floating);
    const bool is_double = floating.is_double();
    OwnedSchedule schedule = schedule_of(x, lengths_, backwards, shape);
    const Index steps = schedule.view().steps;
    share_startable(schedule, threads, cell, x.is_ids() ? 0 : shape.D, shape.H, is_double);
    if (with_tape && every > 0) schedule.checkpoint(std::min(every, std::max<Index>(steps, 1)));
    if (x.is_ids()) x.pack_ids(schedule.view(), shape.D);

    return with_type(is_double, [&](auto zero) -> py::tuple {
        using T = decltype(zero);
        const Kernel<T>& kernel = kernel_of<T>(cell);
        const Sizes sizes = kernel.sizes(shape, schedule.view(), x.is_ids());
        const auto h_shape = rows_shape(schedule.view(), shape, shape.H);
        py::array_t<T> h = out.is_none() ? new_array<T>("h", h_shape) : rows_to_write<T>(out, "h", h_shape);
        std::vector<py::array_t<T>> final_states;
        for (int k = 0; k < cell.states; ++k) final_states.push_back(new_array<T>("state", {shape.N, shape.H}));
        const bool ids = x.is_ids();
        Buffer packed;
        if (handle)
            handle->pack<T>(ids, schedule.view().threads);
        else
            packed = numbers<T>(static_cast<double>(sizes.forward_weights));
        Buffer scratch = numbers<T>(static_cast<double>(sizes.forward_scratch) * schedule.view().threads);
        std::unique_ptr<Tape> tape;
        if (with_tape) {
            tape =
                std::make_unique<Tape>(cell, is_double, shape, std::move(x), std::move(weights), std::move(schedule));
            if (!tape->schedule.view().every) {
                tape->template allocate<T>(sizes);
            } else {
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
        set_row_strides<T>(h, call.h_stride);
        for (int k = 0; k < cell.states; ++k) call.final_state[k] = final_states[k].mutable_data();
        if (tape && !tape->schedule.view().every) call.tape = tape->template rows<T>(sizes);
        if (!numbers_of_tape.is_none()) call.tape = Tape::rows_in<T>(numbers_of_tape, cell, sizes);
        for (int k = 0; k < cell.states && tape; ++k) call.checkpoint[k] = tape->checkpoint[k].template as<T>();
        call.last_step = steps;
        call.packed = (handle ? handle->packed[ids] : packed).template as<T>();
        call.is_packed = handle;
        call.scratch = scratch.as<T>();
        without_gil(call.schedule.threads, [&](Interrupt* interrupt) {
            call.schedule.interrupt = interrupt;
            if (shape.H > 0) kernel.forward(call);
        });
        return py::make_tuple(h, states_tuple(final_states), tape ? object_of(std::move(tape)) : py::none());
    });
}

// The tape that a forward pass left in `numbers`; the arguments are those of that pass.
py::object kept_tape(const py::object& cell_name, const py::object& x_, const py::object& Wx, const py::object& Wh,
                     const py::object& b, const py::object& lengths, bool reverse, bool packed_rows,
                     const py::object& numbers) {
    const Cell& cell = find_cell(cell_name);
    FloatingArrays floating;
    InputArray x(x_, floating, packed_rows);
    WeightArrays weights(cell, Wx, Wh, b, x.D(), floating);
    Shape shape{sequences_of(x, lengths), x.T(), weights.D, weights.H};
    OwnedSchedule schedule = schedule_of(x, lengths, reverse, shape);
    share(schedule, 1, cell, x.is_ids() ? 0 : shape.D, shape.H, floating.is_double());
    if (x.is_ids()) x.pack_ids(schedule.view(), shape.D);
    with_type(floating.is_double(), [&](auto zero) {
        using T = decltype(zero);
        Tape::rows_in<T>(numbers, cell, kernel_of<T>(cell).sizes(shape, schedule.view(), x.is_ids()));
    });
    schedule.keep_tape();
    auto tape = std::make_unique<Tape>(cell, floating.is_double(), shape, std::move(x), std::move(weights),
                                       std::move(schedule));
    tape->kept = numbers;
    return object_of(std::move(tape));
}

// out: None, or a tuple of dWx, dWh, db, and perhaps dx to write into   transposed: dWx is (G*H, D), dWh (G*H, H)
py::tuple backward(Tape& tape, const py::object& dh_, const py::object& dstate_, const py::object& num_threads,
                   const py::object& dx_wanted, const py::object& out, bool transposed) {
    const Shape& shape = tape.shape;
    const int threads = threads_of(num_threads);
    const bool with_dx = checked_flag(dx_wanted, "dx");
    FloatingArrays floating;
    std::optional<py::array> dh;
    if (!dh_.is_none()) {
        dh = floating.add(dh_, "dh");
        if (tape.schedule.view().packed)
            expect_shape(*dh, "dh", {{"R", tape.schedule.view().rows}, {"H", shape.H}});
        else
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
        const auto dx_shape = rows_shape(tape.schedule.view(), shape, shape.D);
        if (!ids && with_dx)
            dx = py::len_hint(out) > 3 ? rows_to_write<T>(out[py::int_(3)], "dx", dx_shape)
                                       : new_array<T>("dx", dx_shape);
        const auto weight_gradient = [&](int i, const char* name, const std::vector<py::ssize_t>& size) {
            return out.is_none() ? new_array<T>(name, size) : written_array<T>(out[py::int_(i)], name, size);
        };
        if (transposed && ids) throw py::value_error("transposed: expected False for token ids");
        const auto weight_shape = [&](Index n) {
            return transposed ? std::vector<py::ssize_t>{G * shape.H, n} : std::vector<py::ssize_t>{n, G * shape.H};
        };
        auto dWx = weight_gradient(0, "dWx", weight_shape(shape.D));
        auto dWh = weight_gradient(1, "dWh", weight_shape(shape.H));
        if (tape.weights.b) db = weight_gradient(2, "db", {tape.cell.bias_blocks * shape.H});
        std::vector<py::array_t<T>> dinitial;
        for (int k = 0; k < tape.cell.states; ++k) dinitial.push_back(new_array<T>("dstate", {shape.N, shape.H}));
        if (!tape.kept && tape.used.exchange(true))
            throw std::runtime_error("tape: expected one that is unused, got one that a backward pass has used");
        const bool again = tape.schedule.view().every > 0;
        Sizes sizes;
        Buffer packed, scratch, forward_packed, forward_scratch;
        try {
            share_startable(tape.schedule, threads, tape.cell, ids ? 0 : shape.D, shape.H, tape.is_double, 2);
            sizes = kernel.sizes(shape, tape.schedule.view(), ids);
            const double of_threads = tape.schedule.view().threads;
            packed = numbers<T>(static_cast<double>(sizes.backward_weights));
            scratch = numbers<T>(static_cast<double>(sizes.backward_scratch) * of_threads +
                                 static_cast<double>(sizes.shared_scratch));
            if (again) {
                forward_packed = numbers<T>(static_cast<double>(sizes.forward_weights));
                forward_scratch = numbers<T>(static_cast<double>(sizes.forward_scratch) * of_threads);
            }
            if (again || tape.kept) tape.template allocate<T>(sizes);
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
        if (tape.kept) {
            Schedule whole = call.schedule;
            whole.kept = false;
            call.kept = Tape::rows_in<T>(tape.kept, tape.cell, kernel.sizes(shape, whole, ids));
        }
        if (again) {
            call.again.shape = shape;
            call.again.schedule = call.schedule;
            call.again.x = call.x;
            call.again.weights = call.weights;
            for (int k = 0; k < tape.cell.states; ++k) call.again.checkpoint[k] = tape.checkpoint[k].template as<T>();
            call.again.packed = forward_packed.as<T>();
            call.again.scratch = forward_scratch.as<T>();
        }
        if (dh) {
            call.dh = data_of<T>(*dh);
            set_row_strides<T>(*dh, call.dh_stride);
        }
        point_to(dstate, call.dstate);
        call.dx = dx ? dx->mutable_data() : nullptr;
        if (dx) set_row_strides<T>(*dx, call.dx_stride);
        call.dWx = dWx.mutable_data();
        call.dWh = dWh.mutable_data();
        call.db = db ? db->mutable_data() : nullptr;
        call.transposed = transposed;
        for (int k = 0; k < tape.cell.states; ++k) call.dinitial[k] = dinitial[k].mutable_data();
        call.packed = packed.as<T>();
        call.scratch = scratch.as<T>();
        without_gil(call.schedule.threads, [&](Interrupt* interrupt) {
            call.schedule.interrupt = call.again.schedule.interrupt = interrupt;
            if (shape.H > 0) kernel.backward(call);
        });
        if (dx && shape.H == 0) dx->attr("fill")(0);  // nothing depends on x
        tape.gates = Buffer();                        // back to the shelf, for the next forward pass
        for (int k = 0; k < max_states; ++k) tape.state[k] = Buffer(), tape.checkpoint[k] = Buffer();
        return py::make_tuple(dx ? py::object(*dx) : py::none(), dWx, dWh, db ? py::object(*db) : py::none(),
                              states_tuple(dinitial));
    });
}

// ---- how much memory a training step takes

// Bytes of: the tape between the passes, the buffers of the forward pass, those of the backward pass
py::tuple buffer_bytes(const py::object& cell_name, Index N, Index T, Index D, Index H, bool is_double, bool ids,
                       Index recompute, const py::object& num_threads) {
    const Cell& cell = find_cell(cell_name);
    const int threads = threads_of(num_threads);
    const Shape shape{N, T, D, H};
    return with_type(is_double, [&](auto zero) {
        using T_ = decltype(zero);
        OwnedSchedule schedule(N, N ? T : 0, nullptr, false);
        if (recompute > 0) schedule.checkpoint(std::min(recompute, std::max<Index>(T, 1)));
        share(schedule, threads, cell, ids ? 0 : D, H, is_double);
        const Sizes forward = kernel_of<T_>(cell).sizes(shape, schedule.view(), ids);
        const double forward_threads = schedule.view().threads;
        share(schedule, threads, cell, ids ? 0 : D, H, is_double, 2);
        const Sizes backward = kernel_of<T_>(cell).sizes(shape, schedule.view(), ids);
        const double backward_threads = schedule.view().threads;
        const auto of_forward = [](const Sizes& s, double threads) {
            return static_cast<double>(s.forward_weights) + static_cast<double>(s.forward_scratch) * threads;
        };
        const double tape = static_cast<double>(forward.gates) + static_cast<double>(forward.state) * cell.tape_states;
        const double checkpoints = static_cast<double>(forward.checkpoint) * cell.states;
        const double again = recompute > 0 ? tape + of_forward(backward, backward_threads) : 0;
        const double back = static_cast<double>(backward.backward_weights + backward.shared_scratch) +
                            static_cast<double>(backward.backward_scratch) * backward_threads;
        return py::make_tuple((recompute > 0 ? checkpoints : tape) * sizeof(T_),
                              of_forward(forward, forward_threads) * sizeof(T_), (back + again) * sizeof(T_));
    });
}

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

PYBIND11_MODULE(_core, m) {
    const char* forced = std::getenv("RNNFAST_ISA");
    try {
        kernels = &choose(forced ? forced : "");
    } catch (const std::runtime_error& error) {
        throw py::import_error(error.what());
    }
#if !defined(_WIN32)
    pthread_atfork(nullptr, nullptr, [] {
        forked_child = true;
        ++forks;
    });
#endif

    py::class_<Tape> tape(m, "Tape", "What a forward pass leaves for one backward pass.");
    tape.def_property_readonly("nbytes", &Tape::bytes, "Bytes of stored activations.")
        .def_property_readonly("used", [](const Tape& tape) { return tape.used.load(); })
        .def("__repr__", [](const Tape& tape) {
            const auto& [N, T, D, H] = tape.shape;
            return std::string("<Tape of ") + tape.cell.name + ", N=" + std::to_string(N) + ", T=" + std::to_string(T) +
                   ", D=" + std::to_string(D) + ", H=" + std::to_string(H) + (tape.used ? ", used>" : ">");
        });
    tape.attr("__new__") = py::staticmethod(py::cpp_function(
        [](const py::args&, const py::kwargs&) { throw py::type_error("Tape: expected one from rnnfast.forward"); }));
    m.def("buffer_bytes", &buffer_bytes);
    py::class_<PackedWeights>(m, "PackedWeights")
        .def("__init__", &construct<PackedWeights, py::object, py::object, py::object, py::object>,
             py::detail::is_new_style_constructor());
    m.def("forward", &forward, py::arg("cell"), py::arg("x"), py::arg("Wx"), py::arg("Wh"), py::arg("b"),
          py::arg("state"), py::arg("lengths"), py::arg("reverse"), py::arg("keep_tape"), py::arg("num_threads"),
          py::arg("recompute"), py::arg("out"), py::arg("packed") = false, py::arg("numbers") = py::none());
    m.def("kept_tape", &kept_tape);
    // The tape of R rows has ceil(H / W) * panels * (R | 1) * W numbers: W and panels.
    m.def("tape_panels", [](const py::object& name, bool is_double) {
        const Cell& cell = find_cell(name);
        OwnedSchedule one(1, 1, nullptr, false);
        one.share(1, 0, 0, 0);
        const Index W = with_type(is_double, [&](auto zero) {
            return kernel_of<decltype(zero)>(cell).sizes({1, 1, 1, 1}, one.view(), false).state;
        });
        return py::make_tuple(W, cell.bias_blocks + cell.tape_states);
    });
    m.def("backward", &backward, py::arg("tape"), py::arg("dh"), py::arg("dstate"), py::arg("num_threads"),
          py::arg("dx"), py::arg("out"), py::arg("transposed") = false);
    py::class_<Stream>(m, "Stream", stream_doc)
        .def("__init__", &construct<Stream, py::object, py::object, py::object, py::object, py::object>,
             py::detail::is_new_style_constructor(), py::arg("cell"), py::arg("Wx"), py::arg("Wh"),
             py::arg("b") = py::none(), py::arg("batch_size") = py::int_(1))
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
    m.def("set_num_threads", [](const py::object& n) { set_default_threads(positive_threads(n)); });
    m.def("get_num_threads", [] { return unforked_threads(); });
    m.def("instruction_sets", &instruction_set_list);
    m.def("compiler", &compiler);
    m.def("multiply_add_rate", [](double seconds) {
        double rate = 0;
        without_gil(1, [&](Interrupt*) { rate = kernels->multiply_add_rate(seconds); });
        return rate;
    });
    m.def("read_rate", [](Index bytes, double seconds) {
        if (bytes < 1024) throw py::value_error("bytes: expected at least 1024, got " + std::to_string(bytes));
        py::array_t<char> data(bytes + 64);  // NumPy's, not a buffer that is kept
        const auto place = reinterpret_cast<std::uintptr_t>(data.mutable_data());
        auto* const numbers = reinterpret_cast<float*>((place + 63) / 64 * 64);  // as packed weights are
        double rate = 0;
        without_gil(1, [&](Interrupt*) {
            for (Index i = 0; i < bytes / static_cast<Index>(sizeof(float)); ++i) numbers[i] = 1.0f;
            rate = kernels->read_rate(numbers, bytes, seconds);
        });
        return rate;
    });
    bind_operations(m, *kernels->operations,
                    [](int wanted) { return startable_threads(std::min(wanted, threads_by_default())); });
}

}  // namespace
}  // namespace rnnfast
