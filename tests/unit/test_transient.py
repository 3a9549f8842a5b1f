"""Short failures: which errors they are, and how often they are tried again."""

from __future__ import annotations

import errno
import os

import pytest

from blockwise.backends import Outcome, Referee
from blockwise.backends.pausing import Pausing
from blockwise.errors import DiskFullError, UserError
from blockwise.job import Order
from blockwise.plan import Item
from blockwise.transient import ShortFailureError, error_number, insistently, is_transient, refuse_transient
from blockwise.volume import Address, DamagedDataError
from blockwise.volume.containers.remote import StoreDeniedError, StoreUnreachableError, translated
from blockwise.worker import Result


def of_system(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    "name", ["EIO", "ESTALE", "ETIMEDOUT", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EINTR", "ENOTCONN", "ECONNRESET"]
)
def test_what_passes(name: str) -> None:
    number = getattr(errno, name)
    assert is_transient(of_system(number))
    assert is_transient(RuntimeError(f"filesystem error: status: {os.strerror(number)} [/a/0/0]"))
    assert is_transient(OSError(f"Can't read data (file read failed, errno = {number}, error message = '...')"))
    assert is_transient(_raised_from(UserError("cannot be opened"), of_system(number)))


@pytest.mark.parametrize("name", ["ENOENT", "EACCES", "ENOSPC", "EISDIR", "EROFS", "EDQUOT"])
def test_what_stays(name: str) -> None:
    number = getattr(errno, name)
    assert not is_transient(of_system(number))
    assert not is_transient(OSError(f"Can't open (errno = {number}, error message = 'Input/output error')"))
    assert error_number(_raised_from(OSError("page 3 cannot be decoded"), of_system(number))) == number


def test_errors_that_say_nothing_of_the_system() -> None:
    of_decoders = (RuntimeError("z5: decompression failed"), OSError("image file is truncated"), ValueError(5))
    of_ours = (DamagedDataError("x", "a.n5:b", ()), DiskFullError("full"), UserError("no"), MemoryError())
    for error in (*of_decoders, *of_ours):
        assert not is_transient(error)
        assert error_number(error) is None
        refuse_transient(error)


def _raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def test_answers_of_stores() -> None:
    address = Address.parse("s3://bucket/a.n5:raw")
    for status in (408, 429, 500, 501, 502, 503, 504, 599):
        error = ValueError(f"UNKNOWN: broken [http_response_code='{status}']")
        assert isinstance(translated(error, address), StoreUnreachableError), status
    assert isinstance(translated(ValueError("PERMISSION_DENIED: no"), address), StoreDeniedError)
    assert type(translated(ValueError("DATA_LOSS: bad checksum [http_response_code='200']"), address)) is OSError
    here = Address.parse("a.zarr:raw")
    many = ValueError(f"RESOURCE_EXHAUSTED: Failed to open: {os.strerror(errno.EMFILE)} [OS error 24: EMFILE]")
    assert isinstance(translated(many, here), ShortFailureError)
    full = ValueError(f"RESOURCE_EXHAUSTED: Failed to write: {os.strerror(errno.ENOSPC)}")
    assert isinstance(translated(full, here), DiskFullError)


def test_a_function_is_called_again_while_failures_are_short() -> None:
    wrapped = _raised_from(UserError("is it damaged?"), of_system(errno.EMFILE))
    errors: list[Exception] = [of_system(errno.ESTALE), ShortFailureError("x"), wrapped]

    def function(value: int) -> int:
        if errors:
            raise errors.pop()
        return value

    assert insistently((0, 0, 0), function, 5) == 5
    errors += [of_system(errno.ESTALE)] * 3
    with pytest.raises(ShortFailureError, match=r"Stale file handle.*the data may be sound"):
        insistently((0, 0), function, 5)
    assert not errors
    # What a store has already been asked for again and again, and what does not pass, is told at once.
    for error in (StoreUnreachableError("x"), of_system(errno.EACCES), UserError("x")):
        errors += [error]
        with pytest.raises(type(error)):
            insistently((0, 0), function, 5)
        assert not errors


def failed(message: str, transient: bool) -> Result:
    return Result(4, "failed", 1, 0.0, "OSError", message, transient=transient)


def test_short_failures_have_a_budget_of_their_own() -> None:
    outcome = Outcome(total=1)
    referee = Referee(outcome, max_attempts=2, pauses_s=(1, 2, 4))
    order: Order | None = Order(Item(4, {}))
    pauses = []
    for transient in (True, False, True, True):  # the second one is an attempt
        assert order is not None
        order = referee.next_order(order, failed("x", transient))
        assert order is not None
        pauses.append(order.pause_s)
    assert pauses == [1, 0, 2, 4]
    assert (order.attempt, order.counted) == (5, 2)
    assert not outcome.failed
    assert referee.next_order(order, failed("still", transient=True)) is None
    assert outcome.failed[4].message == "still"


def test_short_failures_do_not_stop_a_step() -> None:
    outcome = Outcome(total=1000)
    referee = Referee(outcome, max_attempts=1, pauses_s=(0,))
    for block in range(200):
        assert referee.next_order(Order(Item(block, {})), failed("x", transient=True)) is not None
    assert (outcome.stopped, outcome.failed) == ("", {})


def test_what_waits_comes_back_in_order() -> None:
    pausing = Pausing[str]()
    pausing.add("late", 1000)
    pausing.add("a", 0)
    pausing.add("b", 0)
    assert len(pausing) == 3
    assert pausing.due() == ["a", "b"]
    assert pausing.due() == []
    assert len(pausing) == 1
