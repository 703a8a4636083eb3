"""Who may know whom (docs/design.md, section 4), read from the sources, and what the compiler makes of kernels.cpp.

A new file must be entered in a table below. Dropping an include or an import needs no change here.
"""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import rnnfast
from rnnfast import _core, reference

ROOT = Path(__file__).parent.parent
CPP, PYTHON = ROOT / "cpp", ROOT / "python" / "rnnfast"

# file -> the project's headers that it may include
INCLUDES = {
    "problem.hpp": set(),
    "cells.hpp": set(),
    "simd.hpp": {"problem.hpp"},
    "matmul.hpp": {"simd.hpp", "problem.hpp"},
    "layout.hpp": {"matmul.hpp", "simd.hpp", "problem.hpp"},
    "team.hpp": {"problem.hpp"},
    "forward.hpp": {"layout.hpp", "team.hpp"},
    "backward.hpp": {"forward.hpp"},
    "kernels.cpp": {"cells.hpp", "forward.hpp", "backward.hpp"},
    "operations.hpp": {"problem.hpp"},
    "elementwise.hpp": {"operations.hpp", "simd.hpp"},
    "dense.hpp": {"elementwise.hpp", "layout.hpp", "operations.hpp", "team.hpp"},
    "operations.cpp": {"dense.hpp", "elementwise.hpp", "operations.hpp"},
    "operation_bindings.hpp": {"operations.hpp"},
    "operation_bindings.cpp": {"arrays.hpp", "memory.hpp", "operation_bindings.hpp", "released.hpp"},
    "memory.hpp": set(),
    "arrays.hpp": {"memory.hpp", "problem.hpp"},
    "schedule.hpp": {"problem.hpp"},
    "dispatch.hpp": {"problem.hpp"},
    "dispatch.cpp": {"dispatch.hpp"},
    "arguments.hpp": {"problem.hpp"},
    "process.hpp": {"arguments.hpp", "memory.hpp", "problem.hpp", "schedule.hpp"},
    "released.hpp": {"problem.hpp"},
    "stream.hpp": {
        "arguments.hpp",
        "arrays.hpp",
        "memory.hpp",
        "problem.hpp",
        "process.hpp",
        "released.hpp",
        "schedule.hpp",
    },
    "bindings.cpp": {
        "arguments.hpp",
        "arrays.hpp",
        "dispatch.hpp",
        "memory.hpp",
        "operation_bindings.hpp",
        "problem.hpp",
        "process.hpp",
        "released.hpp",
        "schedule.hpp",
        "stream.hpp",
    },
}
KERNEL_FILES = ["kernels.cpp", "operations.cpp"]  # compiled once for each instruction set
# what files compiled once for each instruction set may include of the system: nothing with templates or inline code
KERNEL_HEADERS = {"cstddef", "cstdint", "immintrin.h", "omp.h", "sched.h", "time.h", "utility"}

# module -> the package's modules that it may import; all but the reference may import checks
IMPORTS = {
    "checks": set(),
    "_threads": {"_core"},
    "reference": set(),
    "functions": {"_core", "reference"},
    "passes": set(),
    "finite": {"_core"},
    "torch": {"_core"},
    "random_rows": set(),
    "parallel": {"_core", "_threads", "random_rows"},
    "layers": {"_core", "finite", "passes", "random_rows"},
    "network": {"layers", "passes", "random_rows"},
    "losses": {"_core"},
    "optimizers": {"_core"},
    "preprocessing": set(),
    "metrics": set(),
    "files": set(),
    "callbacks": set(),
    "sequences": set(),
    "checkpoint": {"callbacks", "files"},
    "trainer": {"callbacks", "checkpoint", "finite", "optimizers", "parallel"},
    "training": {
        "callbacks",
        "checkpoint",
        "finite",
        "losses",
        "optimizers",
        "parallel",
        "passes",
        "preprocessing",
        "sequences",
        "trainer",
    },
    "encoder_decoder": {"_core", "finite", "layers", "losses", "network", "random_rows", "sequences"},
    "layouts": {"layers", "network"},
    "convert": {"files", "layers", "layouts", "network"},
    "sampling": {"losses", "preprocessing"},
    "music": {"files"},
    "diagnostics": {"functions", "layers", "losses", "network", "trainer", "training"},
    "plots": {"metrics"},
    "datasets.fetching": set(),
    "datasets.readers": set(),
    **{f"datasets.loaders_{name}": {"datasets.fetching", "metrics"} for name in ("text", "words", "series")},
    "datasets": {
        f"datasets.{name}" for name in ("fetching", "readers", "loaders_text", "loaders_words", "loaders_series")
    },
    "streaming.sources": set(),
    "streaming.spool": {"preprocessing", "streaming.sources"},
    "streaming.tables": {"datasets.readers", "preprocessing", "streaming.sources", "streaming.spool"},
    "streaming.text": {"datasets.readers", "preprocessing", "streaming.sources"},
    "streaming": {f"streaming.{name}" for name in ("sources", "spool", "tables", "text")},
    "estimators.encoding": {"preprocessing", "streaming"},
    "estimators.base": {
        "_threads",
        "callbacks",
        "estimators.encoding",
        "files",
        "network",
        "optimizers",
        "preprocessing",
        "streaming",
        "training",
    },
    "estimators.labels": set(),
    "estimators.conditions": {"estimators.encoding", "estimators.labels", "preprocessing"},
    "estimators.tokens": {"estimators.encoding", "preprocessing"},
    **{
        f"estimators.{name}": {
            "estimators.base",
            "estimators.encoding",
            "network",
            "parallel",
            "preprocessing",
            "sequences",
            "streaming",
            *others,
        }
        for name, others in {
            "classifier": {"estimators.labels", "losses"},
            "tagger": {"estimators.labels", "losses", "metrics"},
            "regressor": {"training"},
            "generator": {
                "estimators.conditions",
                "estimators.labels",
                "estimators.tokens",
                "functions",
                "losses",
                "sampling",
            },
            "transducer": {"encoder_decoder", "metrics", "sampling"},
        }.items()
    },
    "estimators": {"files"}
    | {f"estimators.{name}" for name in ["base", "classifier", "tagger", "regressor", "generator", "transducer"]},
    "onnx": {"convert", "estimators", "estimators.base", "files", "functions", "layers", "layouts", "network"},
    "examples.example": set(),
    "examples.baselines": {"metrics", "preprocessing"},
    "examples.language_baselines": {"metrics", "preprocessing"},
    **{
        f"examples.{name}": {
            "datasets",
            "diagnostics",
            "estimators",
            "examples.baselines",
            "examples.example",
            "examples.language_baselines",
            "metrics",
            "music",
            "plots",
            "preprocessing",
        }
        for name in ("classification", "tagging", "forecasting", "generation", "transduction")
    },
    "examples": {
        f"examples.{name}"
        for name in ("example", "classification", "tagging", "forecasting", "generation", "transduction")
    },
    "benchmark.grid": set(),
    "benchmark.contender": {"benchmark.grid"},
    "benchmark.onednn": {"benchmark.contender", "benchmark.grid"},
    "benchmark.own": {"benchmark.contender", "benchmark.grid"},
    "benchmark.pytorch": {"benchmark.contender", "benchmark.grid", "benchmark.own"},
    "benchmark.peers": {f"benchmark.{name}" for name in ("contender", "grid", "onednn", "own", "pytorch")},
    "benchmark.measure": {"_core", "benchmark.contender", "benchmark.grid", "benchmark.own", "benchmark.peers"},
    "benchmark.report": {"benchmark.grid"},
    "benchmark": {"_core", "benchmark.grid", "benchmark.measure", "benchmark.peers"},
    "tasks": {"datasets", "estimators", "examples", "metrics", "plots", "preprocessing"},
    "commands": {
        "callbacks",
        "checkpoint",
        "datasets",
        "estimators",
        "examples",
        "files",
        "metrics",
        "music",
        "parallel",
        "plots",
        "tasks",
    },
    "__main__": {"benchmark", "commands", "datasets", "estimators", "files", "functions", "tasks"},
}
# beside numpy; own and pytorch use rnnfast as its users do
THIRD_PARTY = {
    "files": {"safetensors"},
    "convert": {"safetensors"},
    "commands": {"matplotlib", "mpi4py", "tqdm"},
    "benchmark.own": {"rnnfast"},
    "benchmark.peers": {"jax", "onnx", "onnxruntime", "thinc"},
    "benchmark.pytorch": {"rnnfast", "torch"},
    "torch": {"torch"},
    "parallel": {"mpi4py", "torch"},
    "onnx": {"onnx"},
    "plots": {"matplotlib"},
    "estimators.base": {"sklearn"},
    "estimators.labels": {"sklearn"},
    "examples.baselines": {"sklearn"},
    "benchmark.report": {"matplotlib"},
}

CPP_FILES = sorted(path.name for path in CPP.iterdir())
FILES = {
    ".".join(path.relative_to(PYTHON).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PYTHON.rglob("*.py")
    if path != PYTHON / "__init__.py"
}
MODULES = sorted(FILES)


def code(name: str) -> str:
    """A C++ file without its comments."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", (CPP / name).read_text(encoding="utf-8"), flags=re.DOTALL)


def files_with(pattern: str) -> set[str]:
    return {name for name in CPP_FILES if re.search(pattern, code(name))}


def test_every_file_is_in_the_tables() -> None:
    assert set(CPP_FILES) <= set(INCLUDES)
    assert set(MODULES) <= set(IMPORTS)


@pytest.mark.parametrize("name", CPP_FILES)
def test_includes(name: str) -> None:
    assert set(re.findall(r'#\s*include\s+"([^"]+)"', code(name))) <= INCLUDES[name]


def test_cells_include_nothing() -> None:
    assert "#" not in code("cells.hpp")


def test_headers_of_the_kernels() -> None:
    reached, waiting = set(), set(KERNEL_FILES)
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= INCLUDES[name] - reached
    for name in reached:
        assert set(re.findall(r"#\s*include\s+<([^>]+)>", code(name))) <= KERNEL_HEADERS, name
    allowed = {"uint32_t", "uint64_t", "int64_t", "size_t", "integer_sequence", "make_integer_sequence"}  # no code
    assert {word for name in reached for word in re.findall(r"std::(\w+)", code(name))} <= allowed


def test_what_each_file_alone_may_use() -> None:
    python = {"arguments.hpp", "arrays.hpp", "process.hpp", "released.hpp", "stream.hpp", "bindings.cpp"}
    assert files_with("pybind11|Python.h|py::") <= python | {"operation_bindings.hpp", "operation_bindings.cpp"}
    parallel = {"team.hpp", "forward.hpp", "backward.hpp", "matmul.hpp", "elementwise.hpp", "dense.hpp"}
    assert files_with(r"#\s*pragma\s+omp") <= parallel
    assert files_with(r"#\s*include\s+<omp.h>") <= parallel
    assert files_with(r"\bomp_") <= parallel | {"kernels.cpp"}
    assert files_with("__builtin_cpu|cpuid") == {"dispatch.cpp"}
    assert files_with("_mm\\d*_|immintrin") == {"simd.hpp"}


def test_flags() -> None:
    text = re.sub("#[^\n]*", "", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert not re.search("fast-math|Ofast|flto|INTERPROCEDURAL|funsafe", text)


def test_the_first_line_names_the_file() -> None:
    assert [name for name in CPP_FILES if not (CPP / name).read_text(encoding="utf-8").startswith(f"// {name}: ")] == []


@pytest.mark.parametrize("name", MODULES)
def test_imports(name: str) -> None:
    inside: set[str] = set()
    outside: set[str] = set()
    package = name.split(".") if FILES[name].stem == "__init__" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            outside.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level]
            names = {node.module} if node.module else {a.name for a in node.names if a.name != "__version__"}
            inside |= {".".join([*above, imported]) for imported in names}
    assert inside <= IMPORTS[name] | ({"checks"} if name != "reference" else set())
    standard = {"__future__", "typing"} if name == "reference" else sys.stdlib_module_names
    assert outside - set(standard) <= {"numpy"} | THIRD_PARTY.get(name, set())


def test_no_import_goes_up() -> None:
    order = list(IMPORTS)
    for name, imported in IMPORTS.items():
        assert all(other == "_core" or order.index(other) < order.index(name) for other in imported), name


def test_importing_rnnfast_leaves_the_benchmark_and_its_peers_alone() -> None:
    program = (
        "import sys, rnnfast; "
        "assert not [m for m in sys.modules if m.startswith('rnnfast.benchmark')]; "
        "import rnnfast.benchmark.report; "
        "assert not {'jax', 'matplotlib', 'onnx', 'onnxruntime', 'thinc', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_cells_of_the_core_and_of_the_reference() -> None:
    assert rnnfast.cells() == reference.cells()
    for name, cell in reference._CELLS.items():
        assert _core.cell_blocks(name) == (max(cell.input, cell.recurrent), cell.pre, cell.states)
        assert name == cell.name
        assert sorted(cell.order) == list(range(cell.pre))


def test_modules_that_a_star_leaves_out() -> None:
    program = (
        "import rnnfast; rnnfast.random_rows.Share; assert not {'onnx', 'random_rows', 'torch'} & {*rnnfast.__all__}"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_public_names() -> None:
    for name in rnnfast.__all__:
        getattr(rnnfast, name)  # some come when they are asked for
    public = {name for name, value in vars(rnnfast).items() if not isinstance(value, types.ModuleType)}
    modules = {name for name, names in rnnfast._LATER.items() if name in names}
    public = {name for name in public if not name.startswith("_")} | modules
    assert set(rnnfast.__all__) == public
    assert len(set(rnnfast.__all__)) == len(rnnfast.__all__)


def test_names_of_modules() -> None:
    for name in set(MODULES) - {"__main__"}:
        try:
            module = importlib.import_module(f"rnnfast.{name}")
        except ImportError as error:
            if 'pip install "rnnfast[' not in str(error):  # an extra that is not here
                raise
            continue
        assert [public for public in getattr(module, "__all__", []) if not hasattr(module, public)] == [], name


def test_stub_of_the_core() -> None:
    tree = ast.parse((PYTHON / "_core.pyi").read_text(encoding="utf-8"))
    stubbed = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    present = {name for name in vars(_core) if not name.startswith("_")}
    assert present <= set(stubbed)
    for name in ("Stream", "Tape"):
        members = set(re.findall(r"^\s+(?:def )?(\w+)[(:]", ast.unparse(stubbed[name]), flags=re.MULTILINE))
        assert {member for member in vars(getattr(_core, name)) if not member.startswith("_")} <= members


# ---- weak symbols: the linker keeps one copy, which could be of an instruction set that the processor lacks


def weak_symbols(source: Path, *flags: str, folder: Path) -> list[str]:
    """Defined weak and unique symbols, mangled."""
    compiler, nm = shutil.which("c++"), shutil.which("nm")
    if compiler is None or nm is None:
        pytest.skip("no c++ or nm")
    made = folder / "made.o"
    command = [compiler, "-std=c++20", "-O0", "-fPIC", "-fopenmp", *flags, "-c", str(source), "-o", str(made)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = subprocess.run([nm, made], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split()[-1] for line in lines if line.split()[-2] in ("W", "V", "u")]


def in_namespace(symbol: str, isa: str) -> bool:
    """Whether a mangled name is of something in rnnfast::isa, itself or as a local of it."""
    return re.match(rf"_Z(T[A-Z]|G[A-Z])?[ZNKL]*7rnnfast{len(isa)}{isa}", symbol) is not None


@pytest.mark.slow
@pytest.mark.parametrize("file", KERNEL_FILES)
@pytest.mark.parametrize("isa", [isa["name"] for isa in _core.instruction_sets()])
def test_weak_symbols(tmp_path: Path, isa: str, file: str) -> None:
    (flags,) = [entry["flags"] for entry in _core.instruction_sets() if entry["name"] == isa]
    width = dict(re.findall(r'"(\w+)\|(\d+)\|', (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")))[isa]
    options = f"-fno-math-errno -fno-exceptions -fno-rtti -DRNNFAST_ISA={isa} -DRNNFAST_VECTOR_BYTES={width}"
    symbols = weak_symbols(*(CPP / file, *flags.split(), *options.split(), '-DRNNFAST_FLAGS=""'), folder=tmp_path)
    assert len(symbols) > 100
    assert [symbol for symbol in symbols if not in_namespace(symbol, isa)] == []


def test_weak_symbols_are_found(tmp_path: Path) -> None:
    source = tmp_path / "source.cpp"
    source.write_text("""
        #include <utility>
        namespace rnnfast { inline int shared() { return 1; } }
        namespace rnnfast::avx2 {
            template <class T> T twice(T x) { return x + x; }
            int f(int a, int b) { std::swap(a, b); return twice(a) + shared() + b; }
        }
    """)
    symbols = weak_symbols(source, folder=tmp_path)
    assert {in_namespace(symbol, "avx2") for symbol in symbols if "twice" in symbol} == {True}
    assert {in_namespace(symbol, "avx2") for symbol in symbols if "twice" not in symbol} == {False}
    assert any("swap" in symbol for symbol in symbols)
    assert any("shared" in symbol for symbol in symbols)
    assert not any(in_namespace(symbol, "avx") or in_namespace(symbol, "avx512") for symbol in symbols)


def test_what_is_public_is_there_and_comes_late() -> None:
    """The table of __init__.py agrees with __all__, and the functions load without the rest."""
    for name in rnnfast.__all__:
        assert getattr(rnnfast, name) is not None
    assert set(rnnfast.__all__) <= set(dir(rnnfast))
    with pytest.raises(AttributeError, match="nothing"):
        rnnfast.nothing  # noqa: B018
    script = "import sys, rnnfast; print([m for m in sys.modules if m.startswith('rnnfast.')])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    for late in ("estimators", "training", "datasets", "files", "benchmark"):
        assert f"'rnnfast.{late}'" not in loaded
