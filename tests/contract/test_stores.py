"""What goes wrong between here and a remote store, and what users are told."""

from __future__ import annotations

import os
import pickle
import ssl
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from blockwise.errors import UserError
from blockwise.volume import Address, create_volume, open_volume, volume_exists
from blockwise.volume.containers.remote import (
    StoreDeniedError,
    StoreSlowError,
    StoreUnreachableError,
    translated,
)
from blockwise.volume.formats import open_store
from tests.contract import servers

SECRET = "verysecretkey"
QUICK = {"max_retries": 3, "initial_delay": "10ms", "max_delay": "50ms"}


@pytest.fixture(autouse=True)
def _quick_and_with_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blockwise.volume.containers.remote.RETRIES", QUICK)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def addresses(url: str, option: str = "") -> Iterator[str]:
    yield f"s3://bucket/a.n5:raw?endpoint={url}{option and '&' + option}"
    yield f"{url}/a.n5:raw{option and '?' + option}"


def test_denied(capfd: pytest.CaptureFixture[str]) -> None:
    for status in (401, 403):
        with servers.scripted(status) as (url, handler):
            for address in addresses(url):
                with pytest.raises(StoreDeniedError, match=rf"access denied by .*HTTP {status}") as failure:
                    open_volume(address)
                assert SECRET not in str(failure.value)
            assert handler.asked == 2  # a refusal is not asked again
            with pytest.raises(StoreDeniedError, match="anonymous=true"):
                open_volume(next(addresses(url)))
            with pytest.raises(StoreDeniedError, match="log-in is not supported"):
                open_volume(f"{url}/a.n5:raw")
    assert SECRET not in "".join(capfd.readouterr())


def test_missing() -> None:
    with servers.scripted(404) as (url, _):
        for address in addresses(url):
            assert not volume_exists(address)
            with pytest.raises(UserError, match="no dataset 'raw'"):
                open_volume(address)


def test_transient_errors_are_asked_again() -> None:
    for status in (500, 503):
        for number in (0, 1):
            with servers.scripted(status, status, 404) as (url, handler):
                assert not volume_exists(list(addresses(url))[number])
                assert handler.asked == 3


def test_a_store_that_keeps_failing_or_is_away() -> None:
    with servers.scripted(503) as (url, handler):
        for address in addresses(url):
            with pytest.raises(StoreUnreachableError, match="cannot be reached or keeps failing"):
                open_volume(address)
        assert handler.asked == 2 * (QUICK["max_retries"] + 1)
    for address in addresses(url):  # nobody listens there any more
        with pytest.raises(StoreUnreachableError, match=url.removeprefix("http://")):
            open_volume(address)


def test_slow() -> None:
    with servers.scripted(0) as (url, _):
        for address in addresses(url, "timeout_s=0.2"):
            with pytest.raises(StoreSlowError, match=r"within 0\.2 s.*timeout_s=600"):
                open_volume(address)
    with pytest.raises(UserError, match="timeout_s='soon' is not a number"):
        open_volume("s3://bucket/a.n5:raw?timeout_s=soon")


def test_a_server_without_byte_ranges_cannot_give_shards(tmp_path: Path) -> None:
    create_volume(f"{tmp_path}/a.zarr:raw", (8, 8), (4, 4), "uint8", {}, shards=(8, 8))
    open_volume(f"{tmp_path}/a.zarr:raw", "a").write((slice(0, 8),) * 2, np.ones((8, 8), np.uint8))

    class Whole(servers.files(tmp_path)):  # type: ignore[misc]
        def do_GET(self) -> None:
            del self.headers["Range"]
            super().do_GET()

    with servers.serving(Whole) as url, pytest.raises(UserError, match="range requests"):
        open_volume(f"{url}/a.zarr:raw").read((slice(0, 4),) * 2)


def test_profiles_and_anonymous_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text(f"[lab]\naws_access_key_id = AKIALAB\naws_secret_access_key = {SECRET}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with servers.s3() as url:
        create_volume(f"s3://bucket/profiles/a.n5:raw?endpoint={url}&profile=lab", (4, 4), (4, 4), "uint8", {})
        with pytest.raises(StoreDeniedError):
            open_volume(f"s3://bucket/profiles/a.n5:raw?endpoint={url}&anonymous=true")
        document = open_store(Address.parse(f"s3://bucket/profiles/a.n5?endpoint={url}")).read("raw/attributes.json")
        public = urllib.request.Request(f"{url}/bucket/public.n5/raw/attributes.json", document, method="PUT")
        public.add_header("x-amz-acl", "public-read")
        public.add_header("Content-Type", "application/json")
        urllib.request.urlopen(public).close()
        assert volume_exists(f"s3://bucket/public.n5:raw?endpoint={url}&anonymous=true")
        with pytest.raises(StoreDeniedError, match="hold the profile 'nobody'"):
            open_volume(f"s3://bucket/profiles/a.n5:raw?endpoint={url}&profile=nobody")


def test_details_of_the_specification_are_not_shown() -> None:
    error = ValueError("""INTERNAL: broken [tensorstore_spec='{"profile":"lab"}'] [http_response_body='<Key>abc']""")
    assert str(translated(error, Address.parse("s3://bucket/a.n5"))) == "INTERNAL: broken"


def test_a_bucket_that_is_missing_is_told_when_it_is_written(s3_server: str) -> None:
    with pytest.raises(UserError, match="bucket 'nobucket' holds no such bucket"):
        create_volume(f"s3://nobucket/a.n5:raw?endpoint={s3_server}", (4, 4), (4, 4), "uint8", {})


def test_other_files_are_not_read_from_afar() -> None:
    with pytest.raises(UserError, match=r"only \.n5"):
        open_volume("s3://bucket/image.tif")
    with pytest.raises(UserError, match="cannot be written over https"):
        create_volume("https://example.org/a.n5:raw", (4, 4), (4, 4), "uint8", {})


def test_https(tmp_path: Path) -> None:
    """In a process of its own, because TensorStore reads the path of its certificates once."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate), "-keyout", str(key)],
        check=True, capture_output=True,
    )  # fmt: skip
    web = tmp_path / "web"
    create_volume(f"{web}/a.zarr:raw", (8, 8), (4, 4), "uint8", {})
    open_volume(f"{web}/a.zarr:raw", "a").write((slice(0, 8),) * 2, np.full((8, 8), 3, np.uint8))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    script = textwrap.dedent("""
        import sys
        from blockwise.volume import open_volume
        print(open_volume(sys.argv[1]).read((slice(0, 8),) * 2).sum())
    """)
    with servers.serving(servers.files(web), context) as url:
        assert url.startswith("https://")
        done = subprocess.run(
            [sys.executable, "-c", script, f"{url}/a.zarr:raw"],
            env={**os.environ, "TENSORSTORE_CA_BUNDLE": str(certificate), "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert done.stdout.strip() == str(8 * 8 * 3)


def test_errors_travel_between_processes() -> None:
    error = pickle.loads(pickle.dumps(StoreSlowError("a")))
    assert isinstance(error, UserError)
