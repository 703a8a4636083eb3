// arrays.hpp: NumPy arrays for results. Called by the bindings; it must not know what the numbers mean.
#pragma once

#include <pybind11/numpy.h>

#include <memory>
#include <string>
#include <vector>

#include "memory.hpp"
#include "problem.hpp"

namespace rnnfast {

namespace py = pybind11;

// A new array; a large one on a buffer that goes back to the shelf, because fresh pages cost more than the numbers.
template <class T>
py::array_t<T> new_array(const char* name, const std::vector<py::ssize_t>& shape) {
    constexpr double large = 256 * 1024;
    double bytes = sizeof(T), extent = sizeof(T);
    for (const py::ssize_t size : shape) {
        bytes *= static_cast<double>(size);
        extent *= static_cast<double>(size > 0 ? size : 1);
    }
    if (bytes > 0x1p46 || extent >= 0x1p63) {  // more than any processor addresses, or NumPy counts
        py::set_error(PyExc_MemoryError,
                      (std::string(name) + ": its " + std::to_string(extent / 0x1p30) + " GiB are too many").c_str());
        throw py::error_already_set();
    }
    if (bytes < large) return py::array_t<T>(shape);
    auto buffer = std::make_unique<Buffer>(bytes);
    T* const data = buffer->as<T>();
    const py::capsule owner(buffer.get(), [](void* p) { delete static_cast<Buffer*>(p); });
    buffer.release();
    return py::array_t<T>(shape, data, owner);
}

// An array of the caller's to be written into, of this shape, its rows adjacent inside.
template <class T>
py::array_t<T> rows_to_write(const py::handle& object, const char* name, const std::vector<py::ssize_t>& shape) {
    const auto array = py::reinterpret_borrow<py::array>(object);
    const py::ssize_t item = sizeof(T), last = static_cast<py::ssize_t>(shape.size()) - 1;
    bool fits = py::isinstance<py::array_t<T, 0>>(object) && array.writeable() &&
                shape == std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim());
    for (py::ssize_t axis = 0; fits && array.size() > 0 && axis <= last; ++axis)
        fits = axis < last ? array.strides(axis) % item == 0 : shape[axis] == 1 || array.strides(axis) == item;
    if (!fits) throw py::value_error(std::string("out: expected writeable rows for ") + name);
    return py::reinterpret_borrow<py::array_t<T>>(object);
}

// The strides of rows by sequence and by time; packed rows (R, .) have one.
template <class T>
void set_row_strides(const py::array& rows, Index (&stride)[2]) {
    for (int i = 0; i < 2; ++i) stride[i] = rows.strides(rows.ndim() == 2 ? 0 : i) / static_cast<Index>(sizeof(T));
}

// An array of the caller's to be written into: adjacent, of this type and shape.
template <class T>
py::array_t<T> written_array(const py::handle& object, const char* name, const std::vector<py::ssize_t>& shape) {
    const auto array = py::reinterpret_borrow<py::array>(object);
    if (!py::isinstance<py::array_t<T, py::array::c_style>>(object) || !array.writeable() ||
        shape != std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim()))
        throw py::value_error(std::string("out: expected a writeable C-contiguous ") + name + " of the tape's shape");
    return py::reinterpret_borrow<py::array_t<T>>(object);
}

}  // namespace rnnfast
