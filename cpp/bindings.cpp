// bindings.cpp: Python in, Python out: check, allocate, release the GIL, call. The only pybind11, the only
// validation. It must not know how anything is computed: that is one call through the kernel table.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "dispatch.hpp"
#include "memory.hpp"
#include "problem.hpp"
#include "schedule.hpp"

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace py = pybind11;

namespace rnnfast {
namespace {

// ---- the process: which kernels, how many threads

const KernelTable* kernels = nullptr;  // set once, at import
std::atomic<int> default_threads{1};
std::atomic<bool> forked_child{false};  // the parent's OpenMP team does not exist here, and waiting for it hangs

const Cell& find_cell(const std::string& name) {
    std::string names;
    for (int i = 0; i < kernels->cells; ++i) {
        if (name == kernels->cell[i].name) return kernels->cell[i];
        names += std::string(i ? ", " : "") + kernels->cell[i].name;
    }
    throw py::value_error("cell: expected one of " + names + ", got '" + name + "'");
}

int positive_threads(const py::object& value) {
    if (!PyIndex_Check(value.ptr()) || PyBool_Check(value.ptr()))
        throw py::type_error("num_threads: expected a positive integer, got " + std::string(py::repr(value)));
    const Py_ssize_t n = PyNumber_AsSsize_t(value.ptr(), nullptr);  // clips to the range of Py_ssize_t
    if (n == -1 && PyErr_Occurred()) throw py::error_already_set();
    if (n < 1) throw py::value_error("num_threads: expected a positive integer, got " + std::string(py::str(value)));
    constexpr Py_ssize_t most = 1024;
    return static_cast<int>(std::min(n, most));
}

int threads_of(const py::object& num_threads) {
    const int n = num_threads.is_none() ? default_threads.load() : positive_threads(num_threads);
    return forked_child ? 1 : n;
}

// ---- arrays of the caller's

std::string tuple_text(const std::vector<std::string>& items) {
    std::string text = "(";
    for (std::size_t i = 0; i < items.size(); ++i) text += (i ? ", " : "") + items[i];
    return text + (items.size() == 1 ? ",)" : ")");
}

std::string shape_text(const py::array& array) {
    std::vector<std::string> items;
    for (py::ssize_t i = 0; i < array.ndim(); ++i) items.push_back(std::to_string(array.shape(i)));
    return tuple_text(items);
}

std::string dtype_text(const py::array& array) { return py::str(array.dtype()); }

struct Dimension {
    std::string symbol;
    Index size;  // -1: any
};

// "Wh: expected (H, 4*H) = (8, 32) for lstm, got (8, 24)"
void expect_shape(const py::array& array, const std::string& name, const std::vector<Dimension>& expected,
                  const std::string& of = "") {
    bool same = array.ndim() == static_cast<py::ssize_t>(expected.size());
    for (std::size_t i = 0; same && i < expected.size(); ++i)
        same = expected[i].size < 0 || array.shape(static_cast<py::ssize_t>(i)) == expected[i].size;
    if (same) return;
    std::vector<std::string> symbols, numbers;
    for (const auto& [symbol, size] : expected) {
        symbols.push_back(symbol);
        numbers.push_back(size < 0 ? symbol : std::to_string(size));
    }
    throw py::value_error(name + ": expected " + tuple_text(symbols) + " = " + tuple_text(numbers) +
                          (of.empty() ? "" : " for " + of) + ", got " + shape_text(array));
}

Dimension times(int blocks, const char* symbol, Index size) {
    return {blocks == 1 ? symbol : std::to_string(blocks) + "*" + symbol, blocks * size};
}

std::string type_name(const py::object& object) { return py::str(py::type::of(object).attr("__name__")); }

py::array as_array(const py::object& object, const std::string& name) {
    auto array = py::array::ensure(object);
    if (!array) throw py::type_error(name + ": expected an array, got " + type_name(object));
    return array;
}

bool is_integer(const py::array& array) { return array.dtype().kind() == 'i' || array.dtype().kind() == 'u'; }

// An array of native, aligned numbers: the caller's own where it is so already, else a copy.
py::array native(const py::array& array) {
    const auto order = array.dtype().byteorder();
    constexpr char swapped = PY_LITTLE_ENDIAN ? '>' : '<';
    if (order != swapped && (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_)) return array;
    return array.attr("astype")(array.dtype().attr("newbyteorder")("="));
}

// Collects the floating arrays of a call, which must share one dtype.
class FloatingArrays {
  public:
    py::array add(const py::object& object, const std::string& name, const char* expected = "float32 or float64") {
        const py::array array = as_array(object, name);
        const py::dtype type = array.dtype();
        if (type.kind() != 'f' || (type.itemsize() != 4 && type.itemsize() != 8))
            throw py::type_error(name + ": expected " + expected + ", got " + dtype_text(array));
        is_double_ = itemsize_ ? itemsize_ == 8 : type.itemsize() == 8;
        differ_ |= itemsize_ && itemsize_ != type.itemsize();
        itemsize_ = itemsize_ ? itemsize_ : type.itemsize();
        seen_ += (seen_.empty() ? "" : ", ") + name + ": " + (type.itemsize() == 8 ? "float64" : "float32");
        return native(array);
    }

    // One dtype, float64 if true.
    bool is_double() const {
        if (differ_) throw py::type_error("expected one dtype for all floating arrays, got " + seen_);
        return is_double_;
    }

  private:
    py::ssize_t itemsize_ = 0;
    bool is_double_ = false, differ_ = false;
    std::string seen_;
};

// With adjacent numbers along the last axis.
py::array adjacent(const py::array& array) {
    const py::ssize_t last = array.ndim() - 1;
    if (array.shape(last) <= 1 || array.strides(last) == array.itemsize()) return array;
    return array.attr("copy")("C");
}

py::array contiguous(const py::array& array) {
    return array.flags() & py::array::c_style ? array : py::array(array.attr("copy")("C"));
}

template <class T>
Index stride_of(const py::array& array, int axis) {
    return array.shape(axis) <= 1 ? 0 : array.strides(axis) / static_cast<Index>(sizeof(T));
}

template <class T>
const T* data_of(const py::array& array) {
    return static_cast<const T*>(array.data());
}

// Strides that are not a whole number of elements (a field of a packed record) are copied away.
py::array whole_strides(const py::array& array) {
    for (py::ssize_t i = 0; i < array.ndim(); ++i)
        if (array.strides(i) % array.itemsize()) return array.attr("copy")("C");
    return array;
}

// A sequence of one array or None for each state; None stands for all None.
std::vector<py::object> state_items(const py::object& states, const char* name, const Cell& cell) {
    if (states.is_none()) return std::vector<py::object>(cell.states, py::none());
    const std::string expected = std::string(name) + ": expected a tuple " + (cell.states == 1 ? "(h,)" : "(h, c)") +
                                 " of " + std::to_string(cell.states) + " for " + cell.name + ", got ";
    if (!py::isinstance<py::tuple>(states) && !py::isinstance<py::list>(states))
        throw py::type_error(expected + type_name(states));
    std::vector<py::object> items;
    for (const py::handle item : states) items.push_back(py::reinterpret_borrow<py::object>(item));
    if (static_cast<int>(items.size()) != cell.states)
        throw py::value_error(expected + "one of " + std::to_string(items.size()));
    return items;
}

// The states or their gradients as contiguous [N, H], or empty objects.
std::vector<py::object> check_states(const py::object& states, const char* name, const Cell& cell, Index N, Index H,
                                     FloatingArrays& floating) {
    std::vector<py::object> items = state_items(states, name, cell);
    for (std::size_t k = 0; k < items.size(); ++k) {
        if (items[k].is_none()) {
            items[k] = py::object();
            continue;
        }
        const std::string item = std::string(name) + "[" + std::to_string(k) + "]";
        const py::array array = floating.add(items[k], item);
        expect_shape(array, item, {{"N", N}, {"H", H}});
        items[k] = contiguous(array);
    }
    return items;
}

template <class T>
void point_to(const std::vector<py::object>& items, const T* (&pointers)[max_states]) {
    for (std::size_t k = 0; k < max_states; ++k)
        pointers[k] = k < items.size() && items[k] ? data_of<T>(items[k]) : nullptr;
}

std::optional<std::vector<Index>> check_lengths(const py::object& lengths, Index N, Index T) {
    if (lengths.is_none()) return {};
    const py::array array = as_array(lengths, "lengths");
    if (!is_integer(array) && !(array.size() == 0 && N == 0))
        throw py::type_error("lengths: expected integers, got " + dtype_text(array));
    expect_shape(array, "lengths", {{"N", N}});
    const auto numbers = py::array_t<Index, py::array::c_style | py::array::forcecast>(array);
    std::vector<Index> result(numbers.data(), numbers.data() + N);
    for (Index n = 0; n < N; ++n)
        if (result[n] < 0 || result[n] > T)
            throw py::value_error("lengths[" + std::to_string(n) + "] = " + std::string(py::str(array[py::int_(n)])) +
                                  ": expected 0..T = 0.." + std::to_string(T));
    return result;
}

// ---- weights

struct WeightArrays {
    py::array Wx, Wh;
    std::optional<py::array> b;
    Index D, H;

    // D: known from x, or -1
    WeightArrays(const Cell& cell, const py::object& Wx_, const py::object& Wh_, const py::object& b_, Index D_,
                 FloatingArrays& floating)
        : Wx(floating.add(Wx_, "Wx")), Wh(floating.add(Wh_, "Wh")) {
        if (!b_.is_none()) b = floating.add(b_, "b");
        floating.is_double();
        const int G = cell.weight_blocks;
        expect_shape(Wh, "Wh", {{"H", -1}, {times(G, "H", 0).symbol, -1}}, cell.name);
        H = Wh.shape(0);
        expect_shape(Wh, "Wh", {{"H", H}, times(G, "H", H)}, cell.name);
        expect_shape(Wx, "Wx", {{"D", D_}, times(G, "H", H)}, cell.name);
        D = Wx.shape(0);
        if (b) expect_shape(*b, "b", {times(cell.bias_blocks, "H", H)}, cell.name);
        Wx = whole_strides(Wx);
        Wh = whole_strides(Wh);
        if (b) b = contiguous(*b);
    }

    template <class T>
    Weights<T> view() const {
        return {{data_of<T>(Wx), stride_of<T>(Wx, 0), stride_of<T>(Wx, 1)},
                {data_of<T>(Wh), stride_of<T>(Wh, 0), stride_of<T>(Wh, 1)},
                b ? data_of<T>(*b) : nullptr};
    }
};

double flops_per_row(const Cell& cell, Index D, Index H) {
    return 2.0 * cell.weight_blocks * static_cast<double>(H) * static_cast<double>(D + H + 16);
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

template <class T>
py::array_t<T> new_array(std::initializer_list<Index> shape) {
    double bytes = sizeof(T);
    for (const Index size : shape) bytes *= static_cast<double>(size);
    if (bytes > 0x1p62) throw std::bad_alloc();
    return py::array_t<T>(std::vector<py::ssize_t>(shape));
}

// ---- x

// x as [N, T, D] numbers, or [N, T] token ids.
class InputArray {
  public:
    InputArray(const py::object& object, FloatingArrays& floating)
        : array_(as_array(object, "x")), is_ids_(is_integer(array_)) {
        if (!is_ids_) array_ = whole_strides(floating.add(array_, "x", "float32, float64 or integer token ids"));
        if (array_.ndim() != (is_ids_ ? 2 : 3))
            throw py::value_error("x: expected (N, T, D) floating or (N, T) integer token ids, got " +
                                  shape_text(array_) + " of " + dtype_text(array_));
    }

    bool is_ids() const { return is_ids_; }
    Index N() const { return array_.shape(0); }
    Index T() const { return array_.shape(1); }
    Index D() const { return is_ids_ ? -1 : array_.shape(2); }

    // Token ids in packed order, checked.
    void pack_ids(const Schedule& schedule, Index D) {
        ids_.reserve(static_cast<std::size_t>(schedule.rows) + 1);
        const auto ids = py::array_t<Index, py::array::forcecast>(array_);
        const auto id = ids.template unchecked<2>();
        for (Index t = 0; schedule.rows > static_cast<Index>(ids_.size()); ++t)
            for (Index i = 0; i < schedule.active[t]; ++i) {
                const Index n = schedule.order[i], time = schedule.reverse ? schedule.length[i] - 1 - t : t;
                if (id(n, time) < 0 || id(n, time) >= D) {
                    const std::string value = py::str(array_[py::make_tuple(n, time)]);
                    throw py::value_error("x[" + std::to_string(n) + ", " + std::to_string(time) + "] = " + value +
                                          ": expected a token id in [0, D) = [0, " + std::to_string(D) + ")");
                }
                ids_.push_back(id(n, time));
            }
        ids_.push_back(0);  // so that data() is never null
    }

    template <class T>
    Input<T> view() const {
        if (is_ids_) return {nullptr, {0, 0, 0}, ids_.data()};
        return {
            data_of<T>(array_), {stride_of<T>(array_, 0), stride_of<T>(array_, 1), stride_of<T>(array_, 2)}, nullptr};
    }

  private:
    py::array array_;
    bool is_ids_;
    std::vector<Index> ids_;  // [R]
};

// ---- forward and backward

// All that backward needs: the caller's arrays, kept alive, and what forward stored.
struct Tape {
    const Cell& cell;
    const bool is_double;
    const Shape shape;
    InputArray x;
    WeightArrays weights;
    OwnedSchedule schedule;
    Buffer gates, state[max_states];
    std::atomic<bool> used{false};

    Tape(const Cell& cell, bool is_double, const Shape& shape, InputArray x, WeightArrays weights,
         OwnedSchedule schedule)
        : cell(cell),
          is_double(is_double),
          shape(shape),
          x(std::move(x)),
          weights(std::move(weights)),
          schedule(std::move(schedule)) {}

    double bytes() const {
        double sum = static_cast<double>(gates.capacity());
        for (const Buffer& s : state) sum += static_cast<double>(s.capacity());
        return sum;
    }

    template <class T>
    TapeRows<T> rows() const {
        return {gates.as<T>(), {state[0].as<T>(), state[1].as<T>()}};
    }
};

template <class T>
py::tuple states_tuple(const std::vector<py::array_t<T>>& states) {
    py::tuple result(states.size());
    for (std::size_t k = 0; k < states.size(); ++k) result[k] = states[k];
    return result;
}

py::tuple forward(const std::string& cell_name, const py::object& x_, const py::object& Wx, const py::object& Wh,
                  const py::object& b, const py::object& state, const py::object& lengths_, bool reverse,
                  bool keep_tape, const py::object& num_threads) {
    const Cell& cell = find_cell(cell_name);
    const int threads = threads_of(num_threads);
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
    OwnedSchedule schedule(shape.N, steps, lengths ? lengths->data() : nullptr, reverse);
    schedule.share(threads, flops_per_row(cell, x.is_ids() ? 0 : shape.D, shape.H));
    if (x.is_ids()) x.pack_ids(schedule.view(), shape.D);

    return with_type(is_double, [&](auto zero) -> py::tuple {
        using T = decltype(zero);
        const Kernel<T>& kernel = kernel_of<T>(cell);
        const Sizes sizes = kernel.sizes(shape, schedule.view(), x.is_ids());
        auto h = new_array<T>({shape.N, shape.T, shape.H});
        std::vector<py::array_t<T>> final_states;
        for (int k = 0; k < cell.states; ++k) final_states.push_back(new_array<T>({shape.N, shape.H}));
        Buffer packed = numbers<T>(static_cast<double>(sizes.forward_weights));
        Buffer scratch = numbers<T>(static_cast<double>(sizes.forward_scratch) * schedule.view().threads);
        std::unique_ptr<Tape> tape;
        if (keep_tape) {
            tape =
                std::make_unique<Tape>(cell, is_double, shape, std::move(x), std::move(weights), std::move(schedule));
            tape->gates = numbers<T>(static_cast<double>(sizes.gates));
            for (int k = 0; k < cell.states; ++k) tape->state[k] = numbers<T>(static_cast<double>(sizes.state));
        }
        Forward<T> call{};
        call.shape = shape;
        call.schedule = tape ? tape->schedule.view() : schedule.view();
        call.x = (tape ? tape->x : x).template view<T>();
        call.weights = (tape ? tape->weights : weights).template view<T>();
        point_to(states, call.state);
        call.h = h.mutable_data();
        for (int k = 0; k < cell.states; ++k) call.final_state[k] = final_states[k].mutable_data();
        if (tape) call.tape = tape->template rows<T>();
        call.packed = packed.as<T>();
        call.scratch = scratch.as<T>();
        {
            const py::gil_scoped_release release;
            kernel.forward(call);
        }
        return py::make_tuple(h, states_tuple(final_states), tape ? py::cast(std::move(tape)) : py::none());
    });
}

py::tuple backward(Tape& tape, const py::object& dh_, const py::object& dstate_, const py::object& num_threads) {
    const Shape& shape = tape.shape;
    const int threads = threads_of(num_threads);
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
        if (!ids) dx = new_array<T>({shape.N, shape.T, shape.D});
        auto dWx = new_array<T>({shape.D, G * shape.H});
        auto dWh = new_array<T>({shape.H, G * shape.H});
        if (tape.weights.b) db = new_array<T>({tape.cell.bias_blocks * shape.H});
        std::vector<py::array_t<T>> dinitial;
        for (int k = 0; k < tape.cell.states; ++k) dinitial.push_back(new_array<T>({shape.N, shape.H}));
        if (tape.used.exchange(true))
            throw std::runtime_error("tape: expected one that is unused, got one that a backward pass has used");
        tape.schedule.share(threads, 2 * flops_per_row(tape.cell, ids ? 0 : shape.D, shape.H));
        const Sizes sizes = kernel.sizes(shape, tape.schedule.view(), ids);
        Buffer packed, scratch;
        try {
            packed = numbers<T>(static_cast<double>(sizes.backward_weights));
            scratch = numbers<T>(static_cast<double>(sizes.backward_scratch) * tape.schedule.view().threads +
                                 static_cast<double>(sizes.shared_scratch));
        } catch (...) {
            tape.used = false;  // nothing was overwritten yet
            throw;
        }
        Backward<T> call{};
        call.shape = shape;
        call.schedule = tape.schedule.view();
        call.x = tape.x.template view<T>();
        call.weights = tape.weights.template view<T>();
        call.tape = tape.template rows<T>();
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
        for (Buffer& state : tape.state) state = Buffer();
        return py::make_tuple(dx ? py::object(*dx) : py::none(), dWx, dWh, db ? py::object(*db) : py::none(),
                              states_tuple(dinitial));
    });
}

// ---- Stream

class Stream {
  public:
    Stream(const std::string& cell_name, const py::object& Wx, const py::object& Wh, const py::object& b,
           Index batch_size)
        : cell_(find_cell(cell_name)),
          weights_(cell_, Wx, Wh, b, -1, floating_),
          N_(batch_size),
          ones_(static_cast<std::size_t>(std::max<Index>(N_, 0)), 1),
          schedule_(check_batch(N_), 1, ones_.data(), false) {
        schedule_.share(threads_of(py::none()), flops_per_row(cell_, weights_.D, weights_.H));
        zero_ = with_type(floating_.is_double(), [&](auto zero) -> py::object {
            using T = decltype(zero);
            auto array = new_array<T>({N_, weights_.H});
            std::fill_n(array.mutable_data(), array.size(), T(0));
            return array;
        });
        reset();
    }

    void reset() {
        for (int k = 0; k < cell_.states; ++k) {
            states_[k] = zero_.attr("copy")();
            next_[k] = zero_.attr("copy")();
        }
    }

    py::tuple state() const {
        py::tuple result(cell_.states);
        for (int k = 0; k < cell_.states; ++k) result[k] = states_[k].attr("copy")();
        return result;
    }

    void set_state(const py::object& state) {
        FloatingArrays floating;
        floating.add(zero_, "weights");
        const auto items = check_states(state, "state", cell_, N_, weights_.H, floating);
        floating.is_double();
        for (int k = 0; k < cell_.states; ++k) states_[k] = (items[k] ? items[k] : zero_).attr("copy")();
    }

    py::object step(const py::object& x, const py::object& out) {
        if (busy_.exchange(true)) throw std::runtime_error("Stream: step was called from two threads at once");
        struct Done {
            std::atomic<bool>& busy;
            ~Done() { busy = false; }
        } done{busy_};
        return with_type(floating_.is_double(), [&](auto zero) { return step_of<decltype(zero)>(x, out); });
    }

    std::string repr() const {
        std::ostringstream text;
        text << "Stream('" << cell_.name << "', D=" << weights_.D << ", H=" << weights_.H << ", batch_size=" << N_
             << ", " << (floating_.is_double() ? "float64" : "float32") << ")";
        return text.str();
    }

  private:
    static Index check_batch(Index N) {
        if (N < 0) throw py::value_error("batch_size: expected 0 or more, got " + std::to_string(N));
        return N;
    }

    // Weights packed for token ids leave Wx out. Packed at the first step of the kind, then kept.
    template <class T>
    void prepare(bool ids) {
        const Shape shape{N_, 1, weights_.D, weights_.H};
        sizes_ = kernel_of<T>(cell_).sizes(shape, schedule_.view(), ids);
        packed_[ids] = numbers<T>(static_cast<double>(sizes_.forward_weights));
        scratch_[ids] = numbers<T>(static_cast<double>(sizes_.forward_scratch) * schedule_.view().threads);
    }

    template <class T>
    py::object step_of(const py::object& x, const py::object& out) {
        const py::array array = as_array(x, "x_t");
        const bool ids = is_integer(array);
        Input<T> input{};
        py::array numbers_of_x;
        if (ids) {
            expect_shape(array, "x_t", {{"N", N_}});
            const auto id = py::array_t<Index, py::array::forcecast>(array);
            ids_.assign(static_cast<std::size_t>(N_) + 1, 0);
            for (Index n = 0; n < N_; ++n) {
                ids_[n] = id.data()[n * (N_ > 1 ? id.strides(0) / static_cast<Index>(sizeof(Index)) : 0)];
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
            h = new_array<T>({N_, weights_.H});
        } else {
            h = as_array(out, "out");
            expect_type<T>(h, "out", "");
            expect_shape(h, "out", {{"N", N_}, {"H", weights_.H}});
            if (!(h.flags() & py::array::c_style) || !h.writeable() || h.ptr() != native(h).ptr() ||
                h.ptr() != out.ptr())
                throw py::value_error("out: expected a writeable C-contiguous array");
        }
        const bool first = !packed_[ids].capacity() && !was_packed_[ids];
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
        if (call.schedule.threads > 1) {
            const py::gil_scoped_release release;
            kernel_of<T>(cell_).forward(call);
        } else {
            kernel_of<T>(cell_).forward(call);  // a step of a few microseconds is not worth a release
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
    std::vector<Index> ones_, ids_;
    OwnedSchedule schedule_;
    py::object zero_;
    py::array states_[max_states], next_[max_states];
    Sizes sizes_{};
    Buffer packed_[2], scratch_[2];
    bool was_packed_[2] = {false, false};
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
    py::class_<Stream>(m, "Stream")
        .def(py::init<const std::string&, const py::object&, const py::object&, const py::object&, Index>(),
             py::arg("cell"), py::arg("Wx"), py::arg("Wh"), py::arg("b") = py::none(), py::arg("batch_size") = 1)
        .def("step", &Stream::step, py::arg("x_t"), py::arg("out") = py::none())
        .def("reset", &Stream::reset)
        .def_property("state", &Stream::state, &Stream::set_state)
        .def("__repr__", &Stream::repr);
    m.def("cells", [] {
        py::list names;
        for (int i = 0; i < kernels->cells; ++i) names.append(kernels->cell[i].name);
        return names;
    });
    m.def("cell_blocks", [](const std::string& name) {
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
}

}  // namespace
}  // namespace rnnfast
