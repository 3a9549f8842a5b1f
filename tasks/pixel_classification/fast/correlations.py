"""One-dimensional filters of radius 2 at most, many voxels at once, as vector instructions.

Each takes taps 0..2 (float32) of even or odd kernels and goes along an axis of a flat buffer: the neighbours of the
voxel at index i stand at i plus and minus `near`, and `far` for the second tap. It computes `n` voxels, from index
`start` of the source on into index `at` of each output on, and up to `FLOATS` - 1 more behind the last one: whoever
calls it has room for these there, and writes what has its place there afterwards. Sums start at the centre and go
outwards, without fused operations: the same roundings as in the reference engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement
from typing import Any

from llvmlite import ir

from blockwise.compiled import Instruction
from blockwise.machine_code import processor

FLOATS = 16 if "+avx512f" in processor()[1].split(",") else 8
"""Voxels that are computed at once: what a register holds, so that a formula's values stay in registers."""
_I32, _I64 = ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(ir.FloatType(), FLOATS)
Builder = Callable[..., Any]


class Floats:
    """`FLOATS` numbers in a function that is being built; each operation is one of float32 on all of them."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    def __add__(self, other: Floats) -> Floats:
        """Rounded once, as the others."""
        return Floats(self.builder, self.builder.fadd(self.value, other.value))

    def __sub__(self, other: Floats) -> Floats:
        """See above."""
        return Floats(self.builder, self.builder.fsub(self.value, other.value))

    def __mul__(self, other: Floats) -> Floats:
        """See above."""
        return Floats(self.builder, self.builder.fmul(self.value, other.value))


Neighbour = Callable[..., Floats]
Formula = Callable[[Neighbour, Sequence[Sequence[Floats]]], Sequence[Floats]]


def _taps(context: Any, builder: Any, kind: Any, kernel: Any) -> list[Floats]:
    """The three taps of a kernel, each everywhere."""
    data, taps = context.make_array(kind)(context, builder, kernel).data, []
    undefined, everywhere = ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.VectorType(_I32, FLOATS), [0] * FLOATS)
    for k in range(3):
        tap = builder.load(builder.gep(data, [ir.Constant(_I64, k)]))
        first = builder.insert_element(undefined, tap, ir.Constant(_I32, 0))
        taps.append(Floats(builder, builder.shuffle_vector(first, undefined, everywhere)))
    return taps


def _loop(formula: Formula, outs: int, sources: int, kernels: int) -> Builder:
    """Code of a filter: its outputs, `at`, sources, `start`, `n`, `near`, `far`, kernels -> nothing."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        from numba.core import cgutils

        def voxels(number: int, index: Any) -> Any:
            data = context.make_array(signature.args[number])(context, builder, args[number]).data
            return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())

        at, (start, n, near, far) = args[outs], args[outs + 1 + sources : outs + 5 + sources]
        places = {0: start, 1: builder.add(start, near), 2: builder.add(start, far)}
        places |= {-1: builder.sub(start, near), -2: builder.sub(start, far)}
        numbers = range(len(args) - kernels, len(args))
        taps = [_taps(context, builder, signature.args[k], args[k]) for k in numbers]
        with cgutils.for_range_slice(builder, ir.Constant(_I64, 0), n, ir.Constant(_I64, FLOATS)) as (i, _):

            def neighbour(place: int, source: int = 0) -> Floats:
                pointer = voxels(outs + 1 + source, builder.add(places[place], i))
                return Floats(builder, builder.load(pointer, align=4))

            for k, value in enumerate(formula(neighbour, taps)):
                builder.store(value.value, voxels(k, builder.add(at, i)), align=4)
        return context.get_dummy_value()

    return generate


def _even(centre: Floats, pairs: Sequence[Floats], taps: Sequence[Floats]) -> Floats:
    """Sum with an even kernel; pair t is the sum of the two voxels t away."""
    total = centre * taps[0]
    for pair, tap in zip(pairs, taps[1:], strict=False):
        total = total + tap * pair
    return total


def _odd(pairs: Sequence[Floats], taps: Sequence[Floats]) -> Floats:
    """Sum with an odd kernel; pair t is the difference of the two voxels t away."""
    total = taps[1] * pairs[0]
    for pair, tap in zip(pairs[1:], taps[2:], strict=False):
        total = total + tap * pair
    return total


def _derivatives(radius: int, *orders: int) -> Formula:
    """Derivatives of these orders, each by its own kernel."""

    def formula(voxel: Neighbour, taps: Sequence[Sequence[Floats]]) -> list[Floats]:
        beside = [(voxel(t), voxel(-t)) for t in range(1, radius + 1)]
        sums, differences = [p + q for p, q in beside], [p - q for p, q in beside]
        centre = voxel(0)
        return [
            _odd(differences, kernel) if order == 1 else _even(centre, sums, kernel)
            for order, kernel in zip(orders, taps, strict=True)
        ]

    return formula


def _products(radius: int) -> Formula:
    """Products of three sources with each other, smoothed: the six components of a structure tensor."""

    def formula(voxel: Neighbour, taps: Sequence[Sequence[Floats]]) -> list[Floats]:
        around = range(-radius, radius + 1)
        values = [{place: voxel(place, source) for place in around} for source in range(3)]
        smoothed = []
        for a, b in combinations_with_replacement(values, 2):
            made = {place: a[place] * b[place] for place in around}
            pairs = [made[t] + made[-t] for t in range(1, radius + 1)]
            smoothed.append(_even(made[0], pairs, taps[0]))
        return smoothed

    return formula


def _signature(outs: Sequence[Any], sources: Sequence[Any], kernels: Sequence[Any]) -> Any:
    """Of a filter: its outputs, `at`, sources, `start`, `n`, `near`, `far`, kernels -> nothing."""
    from numba import types

    return types.void(*outs, types.int64, *sources, *[types.int64] * 4, *kernels)


def _derivative(radius: int, order: int) -> Any:
    def derive(
        context: Any, out: Any, at: Any, source: Any, start: Any, n: Any, near: Any, far: Any, taps: Any
    ) -> tuple[Any, Builder]:
        return _signature([out], [source], [taps]), _loop(_derivatives(radius, order), 1, 1, 1)

    return Instruction(derive)


def _smoothing_and_slope(radius: int) -> Any:
    def smooth_and_slope(
        context: Any,
        a: Any,
        b: Any,
        at: Any,
        source: Any,
        start: Any,
        n: Any,
        near: Any,
        far: Any,
        even: Any,
        odd: Any,
    ) -> tuple[Any, Builder]:
        return _signature([a, b], [source], [even, odd]), _loop(_derivatives(radius, 0, 1), 2, 1, 2)

    return Instruction(smooth_and_slope)


def _smoothing_of_products(radius: int) -> Any:
    def smooth_products(
        context: Any,
        zz: Any,
        zy: Any,
        zx: Any,
        yy: Any,
        yx: Any,
        xx: Any,
        at: Any,
        z: Any,
        y: Any,
        x: Any,
        start: Any,
        n: Any,
        near: Any,
        far: Any,
        even: Any,
    ) -> tuple[Any, Builder]:
        return _signature([zz, zy, zx, yy, yx, xx], [z, y, x], [even]), _loop(_products(radius), 6, 3, 1)

    return Instruction(smooth_products)


smooth_1, smooth_2 = _derivative(1, 0), _derivative(2, 0)
"""Filter with an even kernel of radius 1, 2."""
slope_1, slope_2 = _derivative(1, 1), _derivative(2, 1)
"""Filter with an odd kernel of radius 1, 2."""
smooth_and_slope_1, smooth_and_slope_2 = _smoothing_and_slope(1), _smoothing_and_slope(2)
"""Filter with an even and with an odd kernel of radius 1, 2."""
smooth_products_1, smooth_products_2 = _smoothing_of_products(1), _smoothing_of_products(2)
"""The products zz, zy, zx, yy, yx, xx of three sources, each filtered with an even kernel of radius 1, 2."""


@Instruction
def smooth_slope_and_curve_2(
    context: Any,
    a: Any,
    b: Any,
    c: Any,
    at: Any,
    source: Any,
    start: Any,
    n: Any,
    near: Any,
    far: Any,
    even: Any,
    odd: Any,
    curve: Any,
) -> tuple[Any, Builder]:
    """Filter with the derivatives of order 0, 1 and 2, of radius 2."""
    return _signature([a, b, c], [source], [even, odd, curve]), _loop(_derivatives(2, 0, 1, 2), 3, 1, 3)
