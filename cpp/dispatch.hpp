// dispatch.hpp: which copy of the kernels to call. Called by bindings.cpp; the only place that asks the processor.
#pragma once

#include <string>
#include <vector>

#include "problem.hpp"

namespace rnnfast {

struct InstructionSet {
    const KernelTable* table;
    bool available;  // this processor has it
};

// Every compiled instruction set, the simplest first.
const std::vector<InstructionSet>& instruction_sets();

// The table named `forced`, or the best available one when `forced` is empty.
// Throws std::runtime_error that names what is missing or unknown.
const KernelTable& choose(const std::string& forced);

}  // namespace rnnfast
