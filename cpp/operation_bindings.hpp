// operation_bindings.hpp: what bindings.cpp needs of operation_bindings.cpp.
#pragma once

#include <pybind11/pybind11.h>

#include "operations.hpp"

namespace rnnfast {

// Adds the operations of a training step to the module. threads: how many of those it wants a call may use now
void bind_operations(pybind11::module_& m, const Operations& table, int (*threads)(int wanted));

}  // namespace rnnfast
