// operations.cpp: the table of what a training step does beside the recurrent layers, in float and double. Compiled
// once for each instruction set, under the rules of kernels.cpp, whose table refers to it.
#include "operations.hpp"

#include "dense.hpp"
#include "elementwise.hpp"

namespace rnnfast::RNNFAST_ISA {

template <class T>
constexpr OperationsOf<T> operations_of{cross_entropy<T>, softmax<T>, optimize<T>,       squares<T>,
                                        scale<T>,         clip<T>,    gather<T>,         scatter<T>,
                                        dense_sizes<T>,   dense<T>,   dense_gradient<T>, apply<T>};

extern const Operations operations;
constinit const Operations operations{operations_of<float>, operations_of<double>};

}  // namespace rnnfast::RNNFAST_ISA
