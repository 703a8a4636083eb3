// arguments.hpp: what Python passes, checked: arrays, weights, inputs, states, lengths. Used by bindings.cpp,
// stream.hpp and process.hpp. Every message names the argument, what was expected and what came. It must not know of
// kernels or tapes.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "problem.hpp"

namespace rnnfast {

namespace py = pybind11;

// ---- single values

inline std::string type_name(const py::object& object) { return py::str(py::type::of(object).attr("__name__")); }

inline Index checked_integer(const py::object& value, const std::string& name, const std::string& expected) {
    const auto index = PyBool_Check(value.ptr()) ? nullptr : PyNumber_Index(value.ptr());
    if (!index) {
        if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_TypeError)) throw py::error_already_set();
        PyErr_Clear();
        throw py::type_error(name + ": expected " + expected + ", got " + std::string(py::repr(value)));
    }
    const Py_ssize_t n = PyNumber_AsSsize_t(index, nullptr);  // clips to the range of Py_ssize_t
    Py_DECREF(index);
    return n;
}

inline bool checked_flag(const py::object& value, const std::string& name) {
    if (PyBool_Check(value.ptr())) return value.ptr() == Py_True;
    if (py::isinstance(value, py::module_::import("numpy").attr("bool_"))) return PyObject_IsTrue(value.ptr()) == 1;
    throw py::type_error(name + ": expected True or False, got " + std::string(py::repr(value)));
}

// ---- arrays

inline std::string tuple_text(const std::vector<std::string>& items) {
    std::string text = "(";
    for (std::size_t i = 0; i < items.size(); ++i) text += (i ? ", " : "") + items[i];
    return text + (items.size() == 1 ? ",)" : ")");
}

inline std::string shape_text(const py::array& array) {
    std::vector<std::string> items;
    for (py::ssize_t i = 0; i < array.ndim(); ++i) items.push_back(std::to_string(array.shape(i)));
    return tuple_text(items);
}

inline std::string dtype_text(const py::array& array) { return py::str(array.dtype()); }

struct Dimension {
    std::string symbol;
    Index size;  // -1: any
};

// "Wh: expected (H, 4*H) = (8, 32) for lstm, got (8, 24)"
inline void expect_shape(const py::array& array, const std::string& name, const std::vector<Dimension>& expected,
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

inline Dimension times(int blocks, const char* symbol, Index size) {
    return {blocks == 1 ? symbol : std::to_string(blocks) + "*" + symbol, blocks * size};
}

inline py::array as_array(const py::object& object, const std::string& name) {
    if (py::isinstance<py::array>(object)) return py::array::ensure(object);
    try {
        return py::module_::import("numpy").attr("asarray")(object);
    } catch (const py::error_already_set& error) {  // an interrupt, say, is no matter of this argument
        if (!error.matches(PyExc_ValueError) && !error.matches(PyExc_TypeError)) throw;
    }
    throw py::type_error(name + ": expected an array, got " + type_name(object));
}

// The same numbers behind an object of our own: the caller may give the original another shape.
inline py::array own_view(const py::array& array) {
    const auto dimensions = array.ndim();
    return py::array(array.dtype(), std::vector<py::ssize_t>(array.shape(), array.shape() + dimensions),
                     std::vector<py::ssize_t>(array.strides(), array.strides() + dimensions), array.data(), array);
}

inline bool is_integer(const py::array& array) { return array.dtype().kind() == 'i' || array.dtype().kind() == 'u'; }

// Adjacent, native, aligned integers; a conversion copies what is not.
using Integers =
    py::array_t<Index, py::array::c_style | py::array::forcecast | py::detail::npy_api::NPY_ARRAY_ALIGNED_>;

// An array of native, aligned numbers: the caller's own where it is so already, else a copy.
inline py::array native(const py::array& array) {
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
inline py::array adjacent(const py::array& array) {
    const py::ssize_t last = array.ndim() - 1;
    if (array.shape(last) <= 1 || array.strides(last) == array.itemsize()) return array;
    return array.attr("copy")("C");
}

inline py::array contiguous(const py::array& array) {
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
inline py::array whole_strides(const py::array& array) {
    for (py::ssize_t i = 0; i < array.ndim(); ++i)
        if (array.strides(i) % array.itemsize()) return array.attr("copy")("C");
    return array;
}

// A sequence of one array or None for each state; None stands for all None.
inline std::vector<py::object> state_items(const py::object& states, const char* name, const Cell& cell) {
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
inline std::vector<py::object> check_states(const py::object& states, const char* name, const Cell& cell, Index N,
                                            Index H, FloatingArrays& floating) {
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

inline std::optional<std::vector<Index>> check_lengths(const py::object& lengths, Index N, Index T) {
    if (lengths.is_none()) return {};
    const py::array array = as_array(lengths, "lengths");
    if (!is_integer(array) && !(array.size() == 0 && N == 0))
        throw py::type_error("lengths: expected integers, got " + dtype_text(array));
    expect_shape(array, "lengths", {{"N", N}});
    if (N == 0) return std::vector<Index>();  // an empty list's type says nothing
    const auto numbers = Integers(array);
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

    void copy() {
        for (py::array* array : {&Wx, &Wh}) *array = array->attr("copy")();
        if (b) b = b->attr("copy")();
    }

    void hold() {
        for (py::array* array : {&Wx, &Wh}) *array = own_view(*array);
        if (b) b = own_view(*b);
    }

    template <class T>
    Weights<T> view() const {
        return {{data_of<T>(Wx), stride_of<T>(Wx, 0), stride_of<T>(Wx, 1)},
                {data_of<T>(Wh), stride_of<T>(Wh, 0), stride_of<T>(Wh, 1)},
                b ? data_of<T>(*b) : nullptr};
    }
};

// ---- x

// x as [N, T, D] numbers, packed [R, D], or [N, T] token ids.
class InputArray {
  public:
    InputArray(const py::object& object, FloatingArrays& floating, bool packed = false)
        : array_(as_array(object, "x")), is_ids_(is_integer(array_)), is_packed_(packed) {
        if (!is_ids_) array_ = whole_strides(floating.add(array_, "x", "float32, float64 or integer token ids"));
        if (packed && (is_ids_ || array_.ndim() != 2))
            throw py::value_error("x: expected packed rows (R, D) floating, got " + shape_text(array_) + " of " +
                                  dtype_text(array_));
        if (!packed && array_.ndim() != (is_ids_ ? 2 : 3))
            throw py::value_error("x: expected (N, T, D) floating or (N, T) integer token ids, got " +
                                  shape_text(array_) + " of " + dtype_text(array_));
    }

    void hold() { array_ = own_view(array_); }

    bool is_ids() const { return is_ids_; }
    bool is_packed() const { return is_packed_; }
    Index rows() const { return array_.shape(0); }  // R, of packed rows
    Index N() const { return array_.shape(0); }
    Index T() const { return array_.shape(1); }
    Index D() const { return is_ids_ ? -1 : array_.shape(array_.ndim() - 1); }

    // Token ids in packed order, checked.
    void pack_ids(const Schedule& schedule, Index D) {
        ids_.reserve(static_cast<std::size_t>(schedule.rows) + 1);
        if (schedule.rows == 0) return ids_.push_back(0);  // NumPy cannot convert what is empty and huge
        const auto ids = Integers(array_);
        const auto id = ids.template unchecked<2>();
        std::vector<Index> length(static_cast<std::size_t>(N()), 0);
        for (Index i = 0; i < N(); ++i) length[schedule.order[i]] = schedule.length[i];
        for (Index n = 0; n < N(); ++n)
            for (Index t = 0; t < length[n]; ++t)
                if (id(n, t) < 0 || id(n, t) >= D) {
                    const std::string value = py::str(array_[py::make_tuple(n, t)]);
                    throw py::value_error("x[" + std::to_string(n) + ", " + std::to_string(t) + "] = " + value +
                                          ": expected a token id in [0, D) = [0, " + std::to_string(D) + ")");
                }
        for (Index t = 0; schedule.rows > static_cast<Index>(ids_.size()); ++t)
            for (Index i = 0; i < schedule.active[t]; ++i)
                ids_.push_back(id(schedule.order[i], schedule.reverse ? schedule.length[i] - 1 - t : t));
        ids_.push_back(0);  // so that data() is never null
    }

    template <class T>
    Input<T> view() const {
        if (is_ids_) return {nullptr, {0, 0, 0}, ids_.data()};
        const int time = is_packed_ ? 0 : 1;
        return {data_of<T>(array_),
                {stride_of<T>(array_, 0), stride_of<T>(array_, time), stride_of<T>(array_, time + 1)},
                nullptr};
    }

  private:
    py::array array_;
    bool is_ids_, is_packed_;
    std::vector<Index> ids_;  // [R]
};

}  // namespace rnnfast
