"""The one way in which loops are compiled here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function of arrays and numbers to machine code, kept on disk between processes.

    Neither `fastmath` nor threads: each operation is rounded as IEEE 754 says, multiplications and additions are
    never fused, and vectorised code equals scalar code. So a result depends neither on where a voxel lies in its
    block nor on the processor that computes it.
    """
    return cast(Function, numba.njit(cache=True, nogil=True, fastmath=False, parallel=False)(function))
