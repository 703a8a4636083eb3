"""Errors of exp, tanh and sigmoid in units in the last place (ULP): python benchmarks/activation_error.py

float32: all 2³² bit patterns, against NumPy's float64. float64: patterns at even distances, and those near the points
where k of x = k ln 2 + r changes or where a result saturates, against np.longdouble (64 bits of mantissa on x86-64;
left out where it is no longer than float64). The functions run alone, in an environment that keeps denormals; the calls
of the package flush them to 0.

An error is |computed - exact| over the distance of neighbours in the binade that holds the exact result. Where that is
denormal, the difference is given in smallest normal numbers instead. exp is the softmax's, for x ≤ 0 alone. tanh is
compared for x ≥ 0: for x < 0 it must be the same but for the sign, bit by bit.

The exit status is 1 where a promise, `MOST` or one of `find`, is broken. RNNFAST_ISA forces an instruction set.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from itertools import islice
from typing import Any

import numpy as np
from rnnfast import _core
from rnnfast.benchmark import machine

MOST = {"exp": 2.0, "tanh": 2.5, "sigmoid": 2.0}  # ULP
SIGNS = {"exp": (-1,), "tanh": (1,), "sigmoid": (1, -1)}  # of the arguments that are compared
LIMIT = {  # beyond which results are all the same
    "f4": {"exp": 88.0, "tanh": 10.0, "sigmoid": 88.0},
    "f8": {"exp": 709.0, "tanh": 20.0, "sigmoid": 709.0},
}
WORD = {"f4": np.uint32, "f8": np.uint64}
LONGER = {"f4": np.float64, "f8": np.longdouble}
LINEAR = 2.0**-33  # below it the second term of a series is below the longer type's last place
BLOCK, PART = 1 << 15, 1 << 13  # numbers: small temporaries stay in a cache and need no fresh pages


def kind_of(x: np.ndarray) -> str:
    return f"f{x.itemsize}"


# ---- exact results


def exact(name: str, x: np.ndarray) -> np.ndarray:
    """In the longer type. x: of one sign, magnitudes ascending"""
    x = x.astype(LONGER[kind_of(x)])
    if abs(x[-1]) < LINEAR:
        return {"exp": 1 + x, "tanh": x, "sigmoid": 0.5 + 0.25 * x}[name]
    if name == "exp":
        return np.exp(x)
    if name == "tanh":
        return np.tanh(x)
    power = np.exp(-np.abs(x))
    return (power if x[-1] < 0 else 1) / (1 + power)


def unit(right: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """The distance of neighbours of `dtype` in the binade that holds each exact result."""
    double = right.astype(np.float64, copy=False)
    if right.dtype != np.float64:
        rounded_up = np.abs(double) > np.abs(right)  # perhaps to the next binade
        double = np.where(rounded_up, np.nextafter(double, 0), double)
    power = (double.view(np.uint64) & np.uint64(0x7FF0000000000000)).view(np.float64)
    return np.maximum(power * float(np.finfo(dtype).eps), float(np.finfo(dtype).smallest_subnormal))


# ---- what is promised


@dataclass
class Found:
    """Of some arguments of one sign."""

    ulp: float = 0.0
    where: float = 0.0
    denormal: float = 0.0  # difference from exact results that are denormal, in smallest normal numbers
    below_one: float = 0.0  # the largest argument with another result than 1
    count: int = 0
    broken: dict[str, tuple[int, float]] = field(default_factory=dict)  # how often, and the first argument

    def add(self, other: Found) -> None:
        if not other.ulp <= self.ulp:  # NaN is worst
            self.ulp, self.where = other.ulp, other.where
        self.denormal = max(self.denormal, other.denormal)
        self.below_one = max(self.below_one, other.below_one)
        self.count += other.count
        for what, (count, first) in other.broken.items():
            before = self.broken.get(what, (0, first))
            self.broken[what] = (before[0] + count, before[1])

    def expect(self, what: str, holds: np.ndarray, x: np.ndarray) -> None:
        if not holds.all():
            self.broken[what] = (int((~holds).sum()), float(x[~holds][0]))


def same_bits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a.view(WORD[kind_of(a)]) == b.view(WORD[kind_of(b)])


def errors(name: str, x: np.ndarray, y: np.ndarray) -> Found:
    """Of results y."""
    found, tiny = Found(), float(np.finfo(x.dtype).tiny)
    right = exact(name, x)
    difference = np.abs(y - right)
    error = difference / unit(right, x.dtype)
    if min(abs(right[0]), abs(right[-1])) < tiny:
        small = np.abs(right) < tiny
        found.denormal = float(difference[small].max()) / tiny
        found.expect(f"{name}: not small where the result is denormal", ~small | (difference < tiny), x)
        error[small] = 0
    at = int(error.argmax())  # the first NaN if there is one
    found.ulp, found.where = float(error[at]), float(x[at])
    if not found.ulp <= MOST[name]:
        found.expect(f"{name}: more than {MOST[name]} ULP", error <= MOST[name], x)
    other = y[::-1] != 1
    found.below_one = float(x[::-1][other.argmax()]) if other.any() else 0.0
    return found


def find(name: str, x: np.ndarray) -> Found:
    """Errors at numbers and infinities of one sign, magnitudes ascending."""
    found, tiny, limit = Found(count=x.size), float(np.finfo(x.dtype).tiny), LIMIT[kind_of(x)][name]
    y = _core.activation(name, x)
    low = -1 if name == "tanh" else 0
    if not (low <= y.min() and y.max() <= 1):  # NaN is neither
        found.expect(f"{name}: out of its range", (y >= low) & (y <= 1), x)
    if name == "tanh":
        found.expect("tanh: not odd", same_bits(_core.activation(name, -x), -y), x)
    if abs(x[0]) < tiny:
        kept = {"exp": np.ones_like(x), "tanh": x, "sigmoid": np.full_like(x, 0.5)}[name]
        found.expect(f"{name}: denormals or zeros lost", same_bits(y, kept) | (np.abs(x) >= tiny), x)
    if abs(x[-1]) >= limit:
        last = np.ones_like(x[:1]) if x[-1] > 0 else _core.activation(name, np.full_like(x[:1], -limit))
        found.expect(f"{name}: not saturated from {limit} on", same_bits(y, last) | (np.abs(x) < limit), x)
    if same_bits(y, y[-1:]).all() or (abs(x[-1]) < LINEAR and same_bits(y, x).all()):
        x, y = x[[0, -1]], y[[0, -1]]  # exact results are monotone: the largest error is at an end
    for i in range(0, x.size, PART):
        found.add(errors(name, x[i : i + PART], y[i : i + PART]))
    return found


def find_nan(name: str, x: np.ndarray) -> Found:
    """x: NaN of any kind"""
    found = Found(count=x.size)
    found.expect(f"{name}: a number where the argument is none", np.isnan(_core.activation(name, x)), x)
    return found


# ---- all arguments


def bits_of(x: float, kind: str) -> int:
    return int(np.array(x, kind).view(WORD[kind]))


def numbers(bits: np.ndarray, sign: int) -> np.ndarray:
    """From the bit patterns without sign."""
    kind = kind_of(bits)
    return (bits | WORD[kind]((sign < 0) << (8 * bits.itemsize - 1))).view(kind)


def blocks(first: int, last: int, step: int, kind: str) -> Iterator[np.ndarray]:
    """Every step-th bit pattern of first..last, in parts."""
    for start in range(first, last + 1, step * BLOCK):
        stop = min(start + step * BLOCK, last + 1)
        yield np.arange(0, stop - start, step, dtype=WORD[kind]) + WORD[kind](start)


def near(name: str, sample: int) -> Iterator[np.ndarray]:
    """Patterns of float64 around each change of k, and where results saturate or begin to be denormal."""
    limit = LIMIT["f8"][name]
    changes = (2 * np.arange(1024) + 1) * (np.log(2) / (4 if name == "tanh" else 2))
    for middle, width in ((changes[changes < limit], 1024), (np.array([19.06, 36.74, 708.4, limit]), 1 << 15)):
        around = np.arange(-width, width, sample).astype(np.uint64)
        for some in np.array_split(np.sort(middle).view(np.uint64), middle.size // 64 + 1):
            yield np.unique(some[:, None] + around)


def patterns(name: str, kind: str, sample: int) -> Iterator[np.ndarray]:
    """Of numbers and infinity."""
    tiny, infinity = bits_of(np.finfo(kind).tiny, kind), bits_of(np.inf, kind)
    yield np.array([0, 1, tiny - 1], WORD[kind])
    yield np.array([bits_of(x, kind) for x in (LIMIT[kind][name], 1e20, np.finfo(kind).max, np.inf)], WORD[kind])
    if kind == "f4":
        yield from blocks(sample // 2, infinity, sample, kind)
        return
    places = [0, tiny, bits_of(2.0**-60, kind), bits_of(1024, kind), infinity]
    parts = [(*places[i : i + 2], count) for i, count in enumerate((1 << 18, 1 << 18, 1 << 24, 1 << 18))]
    for first, end, count in [*parts, (bits_of(2.0**-5, kind), bits_of(64, kind), 1 << 24)]:
        yield from blocks(first, end - 1, ((end - first) // count | 1) * sample, kind)
    yield from near(name, sample)


def nan_patterns(kind: str, sample: int) -> Iterator[np.ndarray]:
    first, last = bits_of(np.inf, kind) + 1, (1 << (8 * int(kind[1]) - 1)) - 1
    yield np.array([first, last], WORD[kind])
    yield from blocks(first, last, sample * (1 if kind == "f4" else (last - first) >> 18 | 1), kind)


# ---- all results


def measure(kind: str, sample: int, jobs: int) -> tuple[list[Found], dict[str, tuple[int, float]]]:
    """For exp, tanh, sigmoid of positive and sigmoid of negative numbers; and the promises that are broken."""
    results, total = [], Found()
    with ThreadPoolExecutor(jobs) as pool:

        def over(function: Any, name: str, sign: int, bits: Iterator[np.ndarray]) -> Found:
            found, shown = Found(), 0
            for part in iter(lambda: list(islice(bits, 8 * jobs)), []):
                for other in pool.map(lambda b: function(name, numbers(b, sign)), part):
                    found.add(other)
                if found.count >> 27 > shown:
                    shown = found.count >> 27
                    print(f"{name} {kind} {'-+'[sign > 0]}: {shown << 27:,}", file=sys.stderr, flush=True)
            total.add(found)
            return found

        for name, signs in SIGNS.items():
            for sign in signs:
                found = over(find, name, sign, patterns(name, kind, sample))
                text = f"{name} {np.dtype(kind).name}, x {'≤≥'[sign > 0]} 0: {found.count:,} numbers, "
                text += f"{found.ulp:.4f} ULP at {found.where:.9g}"
                if sign > 0:
                    text += f", 1 above {found.below_one:.9g}"
                else:
                    text += f"; where denormal, {found.denormal:.4f} of the smallest normal number"
                print(text, flush=True)
                results.append(found)
            for sign in (1, -1):
                over(find_nan, name, sign, nan_patterns(kind, sample))
    return results, total.broken


def reference_error(name: str, kind: str) -> float:
    """The largest error of `exact` at some arguments, in its own ULP, against the decimal numbers of Python."""
    worst, eps = 0.0, float(np.finfo(LONGER[kind]).eps)
    magnitudes = np.geomspace(1e-11, 0.99 * LIMIT[kind][name], 400, dtype=kind)
    with localcontext(Context(prec=80, Emin=MIN_EMIN, Emax=MAX_EMAX)):
        for x in (sign * x for sign in SIGNS[name] for x in magnitudes):
            mantissa, exponent = np.frexp(exact(name, np.array([x]))[0])
            high = float(mantissa)
            scale = Decimal(2) ** int(exponent)
            power = (-abs(Decimal(float(x))) * (2 if name == "tanh" else 1)).exp()
            above = {"exp": power, "tanh": 1 - power, "sigmoid": power if x < 0 else Decimal(1)}[name]
            error = (
                Decimal(high) + Decimal(float(mantissa - high)) - above / (1 if name == "exp" else 1 + power) / scale
            )
            worst = max(worst, float(abs(error)) * 2 / eps)
    return worst


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--sample", type=int, default=1, metavar="N", help="every N-th of the bit patterns only")
    parser.add_argument("--jobs", type=int, default=1, help="threads")
    parser.add_argument("--every-isa", action="store_true", help="every instruction set of this processor in turn")
    options = parser.parse_args(arguments)
    if options.sample < 1 or options.jobs < 1:
        parser.error("--sample, --jobs: expected positive integers")
    if options.every_isa:
        names = [isa["name"] for isa in _core.instruction_sets() if isa["available"]]
        command = [sys.executable, __file__, f"--sample={options.sample}", f"--jobs={options.jobs}"]
        codes = [
            subprocess.run(command, env=os.environ | {"RNNFAST_ISA": isa}, check=False).returncode for isa in names
        ]
        return int(any(codes))
    about = machine()
    print(", ".join(f"{k}: {v}" for k, v in about.items()) + f", NumPy {np.__version__}", flush=True)
    kinds = ["f4"]
    if np.finfo(np.longdouble).eps < np.finfo(np.float64).eps / 1000:
        kinds.append("f8")
    else:
        print("float64 is left out: np.longdouble is no longer")
    rows, broken = [], 0
    for kind in kinds:
        longer, bits = np.dtype(LONGER[kind]).name, round(1 - np.log2(float(np.finfo(LONGER[kind]).eps)))
        errors = ", ".join(f"{name} {reference_error(name, kind):.2f}" for name in SIGNS)
        print(f"NumPy's {longer}, {bits} bits, is exact to, in its own ULP: {errors}", flush=True)
        results, of_kind = measure(kind, options.sample, options.jobs)
        for what, (count, first) in of_kind.items():
            print(f"BROKEN {what}: {count:,} times, first at {first!r}", flush=True)
        broken += len(of_kind)
        cells = [about["processor"], about["instruction set"], np.dtype(kind).name]
        rows.append(" | ".join([*cells, *(f"{found.ulp:.4f} at {found.where:.5g}" for found in results)]))
    print("| processor | instruction set | numbers | exp, x ≤ 0 | tanh | sigmoid, x ≥ 0 | sigmoid, x ≤ 0 |")
    print("|---|---|---|---|---|---|---|", *(f"| {row} |" for row in rows), sep="\n")
    return min(broken, 1)


if __name__ == "__main__":
    sys.exit(main())
