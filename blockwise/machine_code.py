"""Machine code of one function for one set of types: made by numba, kept as an object file, called without numba.

numba takes half a second of CPU to load, and its own cache is read by it alone. LLVM links an object file in a few
milliseconds. numba's functions are C functions of numbers and addresses: an array is handed to them as the seven
things that describe it, a tuple as what is in it.

What such a function needs of numba's library (memory for arrays, and another shape of the same memory) is compiled
into its file. One that needs more, or a version of LLVM or numba that does all this otherwise, gives no file, and
numba calls it as ever. So does one that raises: numba is asked again, and says what it is.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import threading
from typing import Any

import numpy as np

FORMAT = 1
"""Of the files; raised where their content changes."""
OLDEST_LLVM = 20
"""Whose assembly has pointers as those below are written: that of numba 0.62."""
REFUSED = b"refused"
"""Kept in the place of the machine code of a function that numba alone can call, so that this is found out once."""
NOTHING = "-"
"""What a function returns that returns None."""
INTEGERS = {"i1": "i8", "i2": "i16", "i4": "i32", "i8": "i64", "u1": "i8", "u2": "i16", "u4": "i32", "u8": "i64"}
LLVM = {**INTEGERS, "b1": "i8", "f4": "float", "f8": "double"}
"""What LLVM calls a number of a kind of numpy's."""
OF_C = {np.dtype(name).str[1:]: np.ctypeslib.as_ctypes_type(name) for name in LLVM if name != "b1"}
OF_C["b1"] = ctypes.c_uint8
KNOWN = {
    *("malloc", "free", "memset", "memcpy", "memmove", "fmod", "fmodf", "pow", "exp", "log", "sqrt", "sqrtf"),
    *("NRT_MemInfo_alloc_aligned", "NRT_MemInfo_call_dtor", "numba_attempt_nocopy_reshape"),
}
"""Functions that an object file may call: of C's library, and those below."""
SUPPORT = """
declare noalias ptr @malloc(i64)
declare void @free(ptr)

define ptr @NRT_MemInfo_alloc_aligned(i64 %size, i32 %align) {
  %wide = zext i32 %align to i64
  %with_head = add i64 %size, 48
  %all = add i64 %with_head, %wide
  %memory = call ptr @malloc(i64 %all)
  %none = icmp eq ptr %memory, null
  br i1 %none, label %end, label %fill
fill:
  store i64 1, ptr %memory
  %start = ptrtoint ptr %memory to i64
  %after_head = add i64 %start, 48
  %less_one = sub i64 %wide, 1
  %up = add i64 %after_head, %less_one
  %mask = xor i64 %less_one, -1
  %aligned = and i64 %up, %mask
  %data = inttoptr i64 %aligned to ptr
  %at_data = getelementptr i8, ptr %memory, i64 24
  store ptr %data, ptr %at_data
  %at_size = getelementptr i8, ptr %memory, i64 32
  store i64 %size, ptr %at_size
  br label %end
end:
  ret ptr %memory
}

define void @NRT_MemInfo_call_dtor(ptr %memory) {
  call void @free(ptr %memory)
  ret void
}

define i32 @numba_attempt_nocopy_reshape(i64 %n, ptr %shape, ptr %steps, i64 %new_n, ptr %new_shape,
                                                  ptr %new_steps, i64 %itemsize, i32 %by_columns) {
entry:
  %is_c = icmp eq i32 %by_columns, 0
  br i1 %is_c, label %loop, label %refuse
loop:
  %left = phi i64 [ %new_n, %entry ], [ %axis, %body ]
  %step = phi i64 [ %itemsize, %entry ], [ %next_step, %body ]
  %axis = sub i64 %left, 1
  %done = icmp slt i64 %axis, 0
  br i1 %done, label %end, label %body
body:
  %at = getelementptr i64, ptr %new_steps, i64 %axis
  store i64 %step, ptr %at
  %of = getelementptr i64, ptr %new_shape, i64 %axis
  %length = load i64, ptr %of
  %next_step = mul i64 %step, %length
  br label %loop
end:
  ret i32 1
refuse:
  ret i32 0
}
"""
"""Of numba's runtime: a block of memory with its head (count of owners, data at 24, size at 32), its end, and the
steps of memory in C's order that is given another shape. Only such memory is given one."""

_llvm = threading.RLock()
_VALUE = re.compile(r"([biuf]\d)r?(?:\[(\d+)[CFA]\])?")
"""A number, or with its axes an array, in what ``kinds`` gives."""


class UnsupportedError(Exception):
    """A value, or a function, that only numba can deal with."""


def kinds(values: tuple[Any, ...]) -> str:
    """The types of values, as numba tells them apart.

    Raises:
        UnsupportedError: it is none of arrays, numbers and tuples of these.
    """
    return ",".join(map(_kind, values))


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        flags = value.flags
        if not flags.aligned or value.dtype.str[1:] not in LLVM or not value.dtype.isnative:
            raise UnsupportedError
        order = "C" if flags.c_contiguous else "F" if flags.f_contiguous else "A"
        return f"{value.dtype.str[1:]}{'' if flags.writeable else 'r'}[{value.ndim}{order}]"
    if isinstance(value, tuple):
        return f"({kinds(value)})"
    if isinstance(value, bool | np.bool_):
        return "b1"
    if isinstance(value, np.number):
        if value.dtype.str[1:] in LLVM:
            return value.dtype.str[1:]
    elif isinstance(value, float):
        return "f8"
    elif isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return "i8"
    raise UnsupportedError


def _types(kinds: str) -> list[str]:
    """What LLVM calls the arguments of a function of such values."""
    found = ["ptr", "ptr"]  # where the result and where an error goes
    for name, axes in _VALUE.findall(kinds):
        found += ["ptr", "ptr", "i64", "i64", "ptr", *["i64"] * (2 * int(axes))] if axes else [LLVM[name]]
    return found


def _numbers(values: tuple[Any, ...], found: list[Any]) -> list[Any]:
    """Values as the numbers and addresses that a function takes."""
    for value in values:
        if isinstance(value, np.ndarray):
            address = value.__array_interface__["data"][0]
            found += (0, 0, value.size, value.itemsize, address, *value.shape, *value.strides)
        elif isinstance(value, tuple):
            _numbers(value, found)
        else:
            found.append(value.item() if isinstance(value, np.generic) else value)
    return found


class MachineCode:
    """A function in machine code for one set of types."""

    def __init__(self, types: str, returns: str, entry: str, code: bytes) -> None:
        of_c: list[Any] = [ctypes.c_void_p, ctypes.c_void_p]  # where the result and where an error goes
        for name, axes in _VALUE.findall(types):
            of_c += [*[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2, ctypes.c_void_p] if axes else [OF_C[name]]
            of_c += [ctypes.c_int64] * (2 * int(axes or 0))
        self._function = ctypes.CFUNCTYPE(ctypes.c_int32, *of_c)(_link(entry, code))  # lets other threads run
        self._result = OF_C[returns] if returns != NOTHING else None
        self._is_bool = returns == "b1"

    def __call__(self, values: tuple[Any, ...]) -> tuple[bool, Any]:
        """Whether it has ended without an error, and its result."""
        result = ctypes.c_int64() if self._result is None else self._result()
        error = ctypes.c_void_p()
        places = [ctypes.addressof(result), ctypes.addressof(error)]
        status = self._function(*_numbers(values, places))
        value = None if self._result is None else result.value
        return status in (0, -2), bool(value) if self._is_bool else value  # -2: None


@functools.cache
def _engine() -> Any:
    import llvmlite.binding as llvm

    _begin_llvm()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine())


@functools.cache
def _begin_llvm() -> None:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def processor() -> tuple[str, str]:
    """Name and features of the processor that code is made for: this one, or what numba is told."""
    import llvmlite.binding as llvm

    name = os.environ.get("NUMBA_CPU_NAME") or llvm.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES")
    return name, llvm.get_host_cpu_features().flatten() if features is None else features


def _target_machine() -> Any:
    import llvmlite.binding as llvm

    name, features = processor()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=name, features=features, opt=3, codemodel="jitdefault", jit=True)


def _link(entry: str, code: bytes) -> int:
    """Address of a function in an object file."""
    import llvmlite.binding as llvm

    with _llvm:
        engine = _engine()
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        return int(engine.get_function_address(entry))


def make(dispatcher: Any, values: tuple[Any, ...], name: str) -> bytes:
    """Compile a function for values of these types; what is kept of it.

    Args:
        dispatcher: numba's function.
        values: with which it is called.
        name: for this function and these types only, in letters and digits.

    Raises:
        UnsupportedError: it can be called by numba only.
    """
    import llvmlite.binding as llvm

    if llvm.llvm_version_info[0] < OLDEST_LLVM:
        raise UnsupportedError
    types = kinds(values)
    try:
        signature = tuple(map(dispatcher.typeof_pyval, values))
        dispatcher.compile(signature)
        made = dispatcher.overloads[signature]
        entry, text = made.fndesc.llvm_func_name, made.library.get_llvm_str()
        returned = str(made.signature.return_type)
    except (AttributeError, KeyError, RuntimeError) as error:  # of a version that keeps them elsewhere
        raise UnsupportedError from error
    returns = NOTHING if returned == "none" else _returned(returned)
    text = _without_wrappers(text)
    _check_externals(text)
    with _llvm:
        try:
            _begin_llvm()
            module = llvm.parse_assembly(text)
            module.link_in(llvm.parse_assembly(SUPPORT))
            for function in module.functions:
                if function.name == entry:
                    function.name, function.linkage = name, "external"
                    if [str(argument.type) for argument in function.arguments] != _types(types):
                        raise UnsupportedError
                elif not function.is_declaration:
                    function.linkage = "internal"
            module.verify()
            code: bytes = _target_machine().emit_object(module)
        except RuntimeError as error:  # another LLVM, which writes its assembly otherwise
            raise UnsupportedError from error
    return f"{FORMAT} {types} {returns} {name} {_checksum(code)}\n".encode() + code


def _returned(kind: str) -> str:
    """A type that numba names, as numpy names it in short."""
    try:
        found = np.dtype(kind).str[1:]
    except (TypeError, ValueError):
        raise UnsupportedError from None
    if found not in LLVM:
        raise UnsupportedError
    return found


def _without_wrappers(text: str) -> str:
    """LLVM's assembly without the functions that Python, or C, would call: they need Python's library and numba's."""
    kept, is_kept = [], True
    for line in text.splitlines():
        if line.startswith("define "):
            is_kept = "@_ZN7cpython" not in line and "@cfunc." not in line
        if is_kept:
            kept.append(line)
        if line == "}":
            is_kept = True
    return "\n".join(kept)


def _check_externals(text: str) -> None:
    """Refuse what calls functions, or reads variables, that an object file has not: LLVM would end the process."""
    functions = re.findall(r'^declare [^@\n]*@"?([^"(\s]+)"?\(', text, re.MULTILINE)
    variables = re.findall(r'^@"?([^"\s]+)"? = (?:external|extern_weak) ', text, re.MULTILINE)
    known = KNOWN | {name for name in functions if name.startswith("llvm.")}
    for name in {*functions, *variables} - known:
        if len(re.findall(rf'@"?{re.escape(name)}"?(?![\w.$])', text)) > 1:
            raise UnsupportedError


def _checksum(code: bytes) -> str:
    return hashlib.sha256(code).hexdigest()


def load(content: bytes) -> MachineCode | None:
    """Machine code that ``make`` has made; None where something is wrong with it."""
    head, _, code = content.partition(b"\n")
    try:
        number, types, returns, entry, checksum = head.decode().split(" ")
        if number != str(FORMAT) or checksum != _checksum(code):  # LLVM would end the process over a damaged file
            return None
        return MachineCode(types, returns, entry, code)
    except (ValueError, RuntimeError):
        return None
