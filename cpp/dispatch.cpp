// dispatch.cpp: see dispatch.hpp. Compiled for any processor of its kind.
#include "dispatch.hpp"

#include <stdexcept>

namespace rnnfast {

// One line for each copy of kernels.cpp that CMakeLists.txt compiles.
namespace scalar {
extern const KernelTable table;
}
namespace baseline {
extern const KernelTable table;
}
#if defined(__x86_64__)
namespace avx2 {
extern const KernelTable table;
}
namespace avx512 {
extern const KernelTable table;
}
#endif

const std::vector<InstructionSet>& instruction_sets() {
#if defined(__x86_64__)
    static const std::vector<InstructionSet> sets = [] {
        __builtin_cpu_init();
#if defined(__clang__) && __clang_major__ < 18  // knows no levels, and not all features of one
        const bool v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
        const bool v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
        const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
#else
        const bool v2 = __builtin_cpu_supports("x86-64-v2"), v3 = __builtin_cpu_supports("x86-64-v3"),
                   v4 = __builtin_cpu_supports("x86-64-v4");
#endif
        return std::vector<InstructionSet>{
            {&scalar::table, true}, {&baseline::table, v2}, {&avx2::table, v3}, {&avx512::table, v4}};
    }();
#else
    static const std::vector<InstructionSet> sets{{&scalar::table, true}, {&baseline::table, true}};
#endif
    return sets;
}

const KernelTable& choose(const std::string& forced) {
    const KernelTable* best = nullptr;
    std::string names;
    for (const auto& [table, available] : instruction_sets()) {
        if (available && forced.empty()) best = table;
        if (available && forced == table->isa) return *table;
        names += std::string(names.empty() ? "" : ", ") + table->isa + (available ? "" : " (not on this processor)");
    }
    if (best) return *best;
    throw std::runtime_error("RNNFAST_ISA: expected one of " + names + ", got '" + forced + "'");
}

}  // namespace rnnfast
