"""Operations on many neighbouring values at once, as vector instructions that plain loops do not turn into.

The comparison of 64 values with a number gives one 64-bit word; its bit i is voxel i. `WORDS` words are a group. LLVM
compiles the few lines below for any processor: 64 bytes are one comparison with AVX-512, two with AVX2, four with
SSE2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from blockwise.compiled import Instruction

LANES = 64
LINE = 32
WORDS = 2
GROUP = WORDS * LANES
_I8, _I32, _I64, _FLOAT = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_FLOATS = ir.VectorType(_FLOAT, LANES)
_BITS = ir.VectorType(ir.IntType(1), LANES)
_BYTES = ir.VectorType(_I8, LANES)
Builder = Callable[..., Any]


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, target: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), target.as_pointer())


def _everywhere(builder: Any, value: Any, vector: Any) -> Any:
    undefined, number = ir.Constant(vector, ir.Undefined), vector.count
    first = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, number), [0] * number))


@Instruction
def less(typing_context: Any, values: Any, start: Any, limit: Any) -> tuple[Any, Builder]:
    """Bits of ``values[start : start + 64] < limit`` as uint64, bit 0 first.

    `values` are contiguous, either float32 with a limit in float32, or int8 with one in int32 that fits.
    """
    from numba import types

    in_bytes = values.dtype == types.int8

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _BYTES if in_bytes else _FLOATS
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], vector)
        number = builder.trunc(args[2], _I8) if in_bytes else args[2]
        compare = builder.icmp_signed if in_bytes else builder.fcmp_ordered
        value = builder.load(pointer, align=1 if in_bytes else 4)
        return builder.bitcast(compare("<", value, _everywhere(builder, number, vector)), _I64)

    return types.uint64(values, start, types.int32 if in_bytes else types.float32), generate


@Instruction
def is_nan(typing_context: Any, values: Any, start: Any) -> tuple[Any, Builder]:
    """Bits of ``isnan(values[start : start + 64])`` as uint64."""
    from numba import types

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_pointer(context, builder, signature.args[0], args[0], args[1], _FLOATS), align=4)
        return builder.bitcast(builder.fcmp_unordered("uno", value, value), _I64)

    return types.uint64(values, start), generate


@Instruction
def count(typing_context: Any, counts: Any, start: Any, bits: Any) -> tuple[Any, Builder]:
    """Add bit i of `bits` to ``counts[start + i]`` for 64 values; counts: contiguous uint8."""
    from numba import types

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], _BYTES)
        ones = builder.zext(builder.bitcast(args[2], _BITS), _BYTES)
        builder.store(builder.add(builder.load(pointer, align=1), ones), pointer, align=1)
        return context.get_dummy_value()

    return types.void(counts, start, bits), generate


@Instruction
def put(typing_context: Any, numbers: Any, start: Any, bits: Any, number: Any) -> tuple[Any, Builder]:
    """``numbers[start + i] = number`` where bit i of `bits` is set, for 64 values; contiguous uint8."""
    from numba import types

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], _BYTES)
        new = _everywhere(builder, args[3], _BYTES)
        chosen = builder.select(builder.bitcast(args[2], _BITS), new, builder.load(pointer, align=1))
        builder.store(chosen, pointer, align=1)
        return context.get_dummy_value()

    return types.void(numbers, start, bits, types.uint8), generate


def _in_floats(number: int, change: Callable[[Any, Any, Any], Any]) -> Any:
    """An operation that stores ``change(builder, what is at `at`, what is at `start`)`` at `at`, for some floats."""

    def operation(typing_context: Any, out: Any, at: Any, source: Any, start: Any) -> tuple[Any, Builder]:
        from numba import types

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vector = ir.VectorType(_FLOAT, number)
            to = _pointer(context, builder, signature.args[0], args[0], args[1], vector)
            value = builder.load(_pointer(context, builder, signature.args[2], args[2], args[3], vector), align=4)
            builder.store(change(builder, to, value), to, align=4)
            return context.get_dummy_value()

        return types.void(out, at, source, start), generate

    return operation


copy_8 = Instruction(_in_floats(8, lambda builder, to, value: value))
"""``out[at : at + 8] = source[start : start + 8]``; contiguous float32 arrays."""
add_4 = Instruction(_in_floats(4, lambda builder, to, value: builder.fadd(builder.load(to, align=4), value)))
"""``out[at : at + 4] += source[start : start + 4]``; contiguous float32 arrays."""


@Instruction
def bucket(
    typing_context: Any, value: Any, centre: Any, unit: Any, lowest: Any, highest: Any, shift: Any
) -> tuple[Any, Builder]:
    """Number of the bucket of a float32, as int32; it never falls as the value grows. See `ranks.keys`."""
    from numba import types

    def clamp(builder: Any, key: Any, lowest: Any, highest: Any) -> Any:
        key = builder.select(builder.icmp_signed("<", key, lowest), lowest, key)
        return builder.select(builder.icmp_signed(">", key, highest), highest, key)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, centre, unit, lowest, highest, shift = args
        away = builder.fsub(value, centre)
        size = builder.and_(builder.bitcast(away, _I32), ir.Constant(_I32, 0x7FFFFFFF))
        size = builder.fadd(builder.bitcast(size, _FLOAT), unit)
        key = builder.sub(builder.bitcast(size, _I32), builder.bitcast(unit, _I32))
        below = builder.fcmp_ordered("<", away, ir.Constant(_FLOAT, 0.0))
        key = builder.select(below, builder.neg(key), key)
        return builder.lshr(builder.sub(clamp(builder, key, lowest, highest), lowest), shift)

    numbers = [types.float32] * 3 + [types.int32] * 3
    return types.int32(*numbers), generate


@Instruction
def as_byte(typing_context: Any, rank: Any, offset: Any) -> tuple[Any, Builder]:
    """``rank - offset``, at least 0 and at most 255, less 128, as int8; both int32."""
    from numba import types

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        low, high = ir.Constant(_I32, 0), ir.Constant(_I32, 255)
        rest = builder.sub(args[0], args[1])
        rest = builder.select(builder.icmp_signed("<", rest, low), low, rest)
        rest = builder.select(builder.icmp_signed(">", rest, high), high, rest)
        return builder.trunc(builder.sub(rest, ir.Constant(_I32, 128)), _I8)

    return types.int8(types.int32, types.int32), generate


@Instruction
def weigh(
    typing_context: Any, out: Any, at: Any, source: Any, starts: Any, line: Any, offset: Any, taps: Any
) -> tuple[Any, Builder]:
    """Correlate `LINE` voxels across lines with an even kernel, from the centre outwards.

    Into ``out[at : at + LINE]``; `starts` has where each line starts in `source`, less `offset`. The middle one is
    number `line`, tap t weighs those t away from it. Contiguous arrays: float32, int64 `starts`, at least one tap.
    The sum stays in registers for all taps.
    """
    from numba import types
    from numba.core import cgutils

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, at, source, starts, line, offset, taps = zip(signature.args, args, strict=True)
        vector = ir.VectorType(_FLOAT, LINE)

        def number(array: Any, index: Any) -> Any:
            return builder.load(builder.gep(context.make_array(array[0])(context, builder, array[1]).data, [index]))

        def voxels(index: Any) -> Any:
            place = builder.add(number(starts, index), offset[1])
            return builder.load(_pointer(context, builder, *source, place, vector), align=4)

        def tap(index: Any) -> Any:
            return _everywhere(builder, number(taps, index), vector)

        zero, one = ir.Constant(_I64, 0), ir.Constant(_I64, 1)
        n_taps = builder.extract_value(context.make_array(taps[0])(context, builder, taps[1]).shape, 0)
        total = cgutils.alloca_once_value(builder, builder.fmul(voxels(line[1]), tap(zero)))
        with cgutils.for_range_slice(builder, one, n_taps, one) as (t, _):
            pair = builder.fadd(voxels(builder.add(line[1], t)), voxels(builder.sub(line[1], t)))
            builder.store(builder.fadd(builder.load(total), builder.fmul(tap(t), pair)), total)
        builder.store(builder.load(total), _pointer(context, builder, *out, at[1], vector), align=4)
        return context.get_dummy_value()

    return types.void(out, types.int64, source, starts, types.int64, types.int64, taps), generate


@Instruction
def fetch(typing_context: Any, values: Any, index: Any) -> tuple[Any, Builder]:
    """Have memory brought into the cache; nothing else happens, whatever the index."""
    from numba import types
    from numba.core import cgutils

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        pointer = builder.bitcast(builder.gep(data, [args[1]]), _I8.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(function, [pointer, *(ir.Constant(_I32, number) for number in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(values, types.int64), generate
