"""Operations on 64 neighbouring values at once, as vector instructions that plain loops do not turn into.

The comparison of 64 floats with a number gives one 64-bit word; its bit i is voxel i of a group. LLVM compiles the
few lines below for any processor (with AVX-512 four comparisons, with AVX2 eight, without either a loop).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 64
_I32, _I64 = ir.IntType(32), ir.IntType(64)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_BITS = ir.VectorType(ir.IntType(1), LANES)
_COUNTS = ir.VectorType(ir.IntType(8), LANES)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, target: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), target.as_pointer())


@intrinsic
def less(typing_context: Any, values: Any, start: Any, threshold: Any) -> tuple[Any, Callable[..., Any]]:
    """Bits of ``values[start : start + 64] < threshold`` as uint64; values: contiguous float32, bit 0 first."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], _FLOATS)
        undefined = ir.Constant(_FLOATS, ir.Undefined)
        first = builder.insert_element(undefined, args[2], ir.Constant(_I32, 0))
        everywhere = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
        limits = builder.shuffle_vector(first, undefined, everywhere)
        return builder.bitcast(builder.fcmp_ordered("<", builder.load(pointer, align=4), limits), _I64)

    return types.uint64(values, start, threshold), generate


@intrinsic
def is_nan(typing_context: Any, values: Any, start: Any) -> tuple[Any, Callable[..., Any]]:
    """Bits of ``isnan(values[start : start + 64])`` as uint64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_pointer(context, builder, signature.args[0], args[0], args[1], _FLOATS), align=4)
        return builder.bitcast(builder.fcmp_unordered("uno", value, value), _I64)

    return types.uint64(values, start), generate


@intrinsic
def count(typing_context: Any, counts: Any, start: Any, bits: Any) -> tuple[Any, Callable[..., Any]]:
    """Add bit i of `bits` to ``counts[start + i]`` for 64 values; counts: contiguous uint8."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], _COUNTS)
        ones = builder.zext(builder.bitcast(args[2], _BITS), _COUNTS)
        builder.store(builder.add(builder.load(pointer, align=1), ones), pointer, align=1)
        return context.get_dummy_value()

    return types.void(counts, start, bits), generate


@intrinsic
def copy_8(typing_context: Any, out: Any, at: Any, source: Any, start: Any) -> tuple[Any, Callable[..., Any]]:
    """``out[at : at + 8] = source[start : start + 8]``; contiguous float32 arrays."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        eight = ir.VectorType(ir.FloatType(), 8)
        to = _pointer(context, builder, signature.args[0], args[0], args[1], eight)
        value = builder.load(_pointer(context, builder, signature.args[2], args[2], args[3], eight), align=4)
        builder.store(value, to, align=4)
        return context.get_dummy_value()

    return types.void(out, at, source, start), generate
