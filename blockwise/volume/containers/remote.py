"""Containers in object stores (``s3://``, ``gs://``) and on web servers (``https://``), through TensorStore."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorstore as ts

from blockwise.errors import DiskFullError, UserError
from blockwise.files import NO_ROOM
from blockwise.transient import STATUSES, ShortFailureError, is_transient
from blockwise.volume.address import GCS, S3, Address
from blockwise.volume.containers.metadata import NewArray, encode
from blockwise.volume.containers.own_names import METADATA_NAMES, foreign_remains, refuse_foreign
from blockwise.volume.containers.store import Store

RETRIES = {"max_retries": 6, "initial_delay": "500ms", "max_delay": "8s"}
"""Answers such as 500, 503 and broken connections are asked again after 0.5, 1, 2, 4 and 8 s."""
TIMEOUT_S = 60.0
"""How long a request may take, retries included; the option ``timeout_s`` of an address changes it."""
SLOWEST_BYTES_PER_S = 1e6
"""Large requests get more time: this much for every byte on top of the timeout."""

_REQUESTS_AT_ONCE = 256

_DENIED = ("PERMISSION_DENIED", "UNAUTHENTICATED")
_UNREACHABLE = ("ABORTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED")
_DETAILS = re.compile(r"\s*\[\w+='.*", re.DOTALL)


class StoreDeniedError(UserError):
    """The store knows who asks, or that nobody does, and says no."""


class StoreUnreachableError(UserError):
    """The store gave no usable answer, even after retries; later it may."""

    transient = True


class StoreSlowError(StoreUnreachableError):
    """The store answered too late."""


class RemoteStore(Store):
    """A container below a URL.

    Attributes:
        kv: the store, below the container.
        tells_generations: whether the last object that was read came with an entity tag or generation.
    """

    tells_generations = False

    def __init__(self, address: Address) -> None:
        self.address = address
        self.kv = wait(ts.KvStore.open(self.kvstore("")), address)

    def read(self, name: str) -> bytes | None:
        """The content of an object, or None."""
        result = wait(self.kv.read(name), self.address)
        if result.state != "value":
            return None
        self.tells_generations = bool(_informative(result.stamp.generation))
        return bytes(result.value)

    def generations(self, names: list[str]) -> list[bytes | None]:
        """What changes when an object is rewritten; None without an object. Many requests are under way at once."""
        found: list[bytes | None] = []
        for start in range(0, len(names), _REQUESTS_AT_ONCE):
            part = names[start : start + _REQUESTS_AT_ONCE]
            for future in [self.kv.read(name, byte_range=slice(0, 0)) for name in part]:
                result = wait(future, self.address)
                found.append(_informative(result.stamp.generation) if result.state == "value" else None)
        return found

    def write(self, name: str, content: bytes) -> None:
        """One request; object stores replace objects as a whole."""
        wait(self.kv.write(name, content), self.address)

    def create(self, key: str, array: NewArray) -> None:
        """Write the document that makes the array exist last, in one request, attributes included."""
        self._clear_remains(key, array)
        for name, content in self.missing_groups(key, array.kind).items():
            self.write(name, content)
        for name, document in array.documents().items():
            self.write(f"{key}/{name}" if key else name, encode(document))

    def _clear_remains(self, key: str, array: NewArray) -> None:
        """Delete chunks that an interrupted deletion left: they would show through where the new array has zeros."""
        if not key:  # the container itself is the array: whatever lies there is not ours
            return
        names = self.names(f"{key}/")
        arrays = [name for name in names if name.endswith(("/.zarray", "/zarr.json", "/attributes.json"))]
        inner = [name for name in arrays if self.find(name.rpartition("/")[0])]
        if inner:
            raise UserError(
                f"{self.address.within(key)}: cannot be created, there are other datasets below it: "
                f"{', '.join(sorted(inner)[:3])}; choose another key"
            )
        refuse_foreign(self.address.within(key), foreign_remains(names, key, array.kind, len(array.shape)))
        self.delete_objects(names)

    def delete(self, key: str) -> None:
        """Delete the array's own document first, then those of other scales, then the rest."""
        names = self.names(f"{key}/" if key else "")
        self._refuse_foreign(key, names)
        array = self.find(key)
        if array is not None:
            self.delete_objects([array.metadata_name])
        self.delete_objects([name for name in names if name.rpartition("/")[2] in METADATA_NAMES])
        self.delete_objects(names)

    def delete_objects(self, names: list[str]) -> None:
        """Delete single objects; those that are not there are no error."""
        for start in range(0, len(names), _REQUESTS_AT_ONCE):
            for future in [self.kv.write(name, None) for name in names[start : start + _REQUESTS_AT_ONCE]]:
                wait(future, self.address)

    def exists(self, key: str) -> bool:
        """Whether an array or image is there; chunks that an interrupted deletion left do not count."""
        return self.find(key) is not None

    def inner_names(self) -> set[str]:
        """Names of all objects."""
        return set(self.names(""))

    def array_keys(self) -> list[str]:
        """Keys of all arrays; empty where the store cannot list, or takes too long."""
        try:
            names = self.names("", timeout_s=min(10.0, timeout_s(self.address)))
        except (UserError, OSError):
            return []
        keys = {name.rpartition("/")[0] for name in names if name.rpartition("/")[2] in METADATA_NAMES}
        found = [self.find(key) for key in sorted(keys)[:1000]]
        return sorted({array.key for array in found if array is not None})

    def names(self, prefix: str, timeout_s: float | None = None) -> list[str]:
        """Names of the objects below a prefix, which ends in a slash or is empty."""
        root = self.address.path.partition("://")[2].partition("/")[2] + "/"
        bucket = wait(ts.KvStore.open(self._spec("")), self.address)
        listing = wait(bucket.list(_range(root + prefix)), self.address, seconds=timeout_s)
        # A server may not know the limits of a listing and give the whole bucket: what is deleted is not left to it.
        names = [name.decode() for name in listing]
        return [name.removeprefix(root) for name in names if name.startswith(root + prefix)]

    def kvstore(self, key: str) -> dict[str, Any]:
        """The place in the words of TensorStore; holds no secrets, those stay in the environment and in profiles."""
        container = self.address.path.partition("://")[2].partition("/")[2]
        return self._spec("/".join(filter(None, [container, key])) + "/")

    def _spec(self, path: str) -> dict[str, Any]:
        host = self.address.path.partition("://")[2].partition("/")[0]
        if self.address.scheme == S3:
            return {"driver": "s3", "bucket": host, "path": path, "s3_request_retries": RETRIES} | _s3(self.address)
        if self.address.scheme == GCS:
            return {"driver": "gcs", "bucket": host, "path": path, "gcs_request_retries": RETRIES}
        base = f"{self.address.scheme}://{host}"
        return {"driver": "http", "base_url": base, "path": f"/{path}", "http_request_retries": RETRIES}

    def url(self, name: str) -> str:
        """The URL of an object."""
        return f"{self.address.path}/{name}"


def _s3(address: Address) -> dict[str, Any]:
    options, environment = dict(address.options), os.environ
    endpoint = (
        options.get("endpoint") or environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    )
    region = options.get("region") or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    spec: dict[str, Any] = {"aws_credentials": _aws_credentials(options)}
    if endpoint:
        spec["endpoint"] = endpoint
        region = region or "us-east-1"  # an own server has no region, but the signature needs one
    return spec | ({"aws_region": region} if region else {})


def _aws_credentials(options: Mapping[str, str]) -> dict[str, str]:
    """Where TensorStore finds the keys; never the keys."""
    environment = os.environ
    if options.get("anonymous", "false").lower() in ("true", "1", "yes"):
        return {"type": "anonymous"}
    if "profile" not in options and "AWS_ACCESS_KEY_ID" in environment:
        return {"type": "environment"}
    profile = options.get("profile") or environment.get("AWS_PROFILE")
    if not profile:
        return {"type": "default"}
    files = {  # TensorStore finds neither by itself
        "credentials_file": environment.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        "config_file": environment.get("AWS_CONFIG_FILE", "~/.aws/config"),
    }
    paths = {name: str(Path(path).expanduser()) for name, path in files.items()}
    return {"type": "profile", "profile": profile, **paths}


def timeout_s(address: Address) -> float:
    """Patience with one request, in seconds."""
    text = dict(address.options).get("timeout_s", str(TIMEOUT_S))
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{address}: timeout_s={text!r} is not a number of seconds") from None


def wait(future: Any, address: Address, *, size: int = 0, seconds: float | None = None) -> Any:
    """The result of a TensorStore operation, or an error in the words of this program.

    Args:
        future: of the operation.
        address: for messages.
        size: bytes that are moved; more of them get more time.
        seconds: to wait, instead of the address's own timeout.

    Raises:
        StoreDeniedError: no permission, or no credentials.
        StoreUnreachableError: no usable answer after all retries.
        ShortFailureError: a folder of this machine cannot be read at the moment.
        StoreSlowError: no answer in time.
        DiskFullError: no room left.
        OSError: anything else, such as bytes that cannot be decoded.
    """
    patience = (seconds or timeout_s(address)) + size / SLOWEST_BYTES_PER_S
    try:
        return future.result(timeout=patience)
    except TimeoutError:
        future.cancel()
        raise StoreSlowError(
            f"{address}: no answer from {place(address)} within {patience:g} s. Is the network up? A store that is "
            "only slow gets more time by ?timeout_s=600 behind the address"
        ) from None
    except Exception as error:  # TensorStore chooses the type by the status code: ValueError, IndexError, ...
        raise translated(error, address) from None


def translated(error: Exception, address: Address) -> Exception:
    """An error of TensorStore without its specification (which names profiles), as what a user can act on."""
    text = _DETAILS.sub("", str(error))
    status = re.search(r"(?:http_response_code='|HTTP code )(\d+)", str(error))
    code = text.partition(":")[0]
    if not address.is_remote:
        return _translated_here(code, text, address)
    shown = text + (f" (HTTP {status[1]})" if status else "")
    if code in _DENIED or "credentials" in text:
        return StoreDeniedError(f"{address}: access denied by {place(address)}: {shown}. {_remedy(address)}")
    if any(os.strerror(number) in text for number in NO_ROOM):
        return DiskFullError(f"{address}: {shown}")
    if code == "NOT_FOUND":
        return UserError(f"{address}: {place(address)} holds no such bucket or object: {shown}")
    if code in _UNREACHABLE or (status and int(status[1]) in STATUSES):
        return StoreUnreachableError(
            f"{address}: {place(address)} cannot be reached or keeps failing: {shown}. Check the address, the "
            "endpoint and the network, and run again: finished blocks are kept"
        )
    if "byte range" in text and "ignored" in text:
        return UserError(
            f"{address}: {place(address)} does not serve parts of files (HTTP range requests), which shards need; "
            "use another server, or a copy without shards"
        )
    return OSError(shown)


def _translated_here(code: str, text: str, address: Address) -> Exception:
    """The same for a folder: the system's own words tell what is the matter."""
    if any(os.strerror(number) in text for number in NO_ROOM):
        return DiskFullError(f"{address}: {text}")
    if code in _UNREACHABLE or is_transient(OSError(text)):
        return ShortFailureError(f"{address}: cannot be reached at the moment: {text}; run again when that is over")
    if code in _DENIED:
        return UserError(f"{address}: may not be read or written: {text}")
    return OSError(text)


def place(address: Address) -> str:
    """The server that an address asks, in words."""
    bucket = address.path.partition("://")[2].partition("/")[0]
    if address.scheme == S3:
        endpoint = _s3(address).get("endpoint", "Amazon S3")
        return f"{endpoint}, bucket {bucket!r}"
    if address.scheme == GCS:
        return f"{os.environ.get('TENSORSTORE_GCS_HTTP_URL', 'Google Cloud Storage')}, bucket {bucket!r}"
    return bucket


def _remedy(address: Address) -> str:
    if "profile" in dict(address.options):
        credentials = _aws_credentials(dict(address.options))
        return f"Does {credentials.get('credentials_file')} hold the profile {credentials.get('profile')!r}?"
    if address.scheme == S3:
        return (
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, name a profile by ?profile=NAME, or "
            "read a public bucket by ?anonymous=true"
        )
    if address.scheme == GCS:
        return "Log in by 'gcloud auth application-default login' or set GOOGLE_APPLICATION_CREDENTIALS"
    return "The server must give this path to everyone: log-in is not supported over http"


def _informative(generation: bytes) -> bytes:
    """The part of a TensorStore generation that tells versions apart; empty where it is the same for all of them."""
    return generation if len(generation) > 1 and any(generation) else b""


def _range(prefix: str) -> Any:
    return ts.KvStore.KeyRange(prefix, f"{prefix[:-1]}0")  # '0' is the character after '/'
