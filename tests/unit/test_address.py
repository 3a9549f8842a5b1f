from __future__ import annotations

from pathlib import Path

import pytest

from blockwise.errors import UserError
from blockwise.volume import Address
from blockwise.volume.address import identity_of


@pytest.mark.parametrize(
    ("text", "path", "key", "suffix", "scheme"),
    [
        ("data/a.n5:volumes/raw", "data/a.n5", "volumes/raw", ".n5", ""),
        ("a.zarr", "a.zarr", "", ".zarr", ""),
        ("image.ome.zarr:1", "image.ome.zarr", "1", ".ome.zarr", ""),
        ("stack/slice_%04d.tif", "stack/slice_%04d.tif", "", ".tif", ""),
        ("image.ome.tif", "image.ome.tif", "", ".tif", ""),
        ("s3://bucket/a.n5:raw", "s3://bucket/a.n5", "raw", ".n5", "s3"),
        ("S3://bucket/deep/a.zarr/", "s3://bucket/deep/a.zarr", "", ".zarr", "s3"),
        ("gs://bucket/a.ome.zarr:0", "gs://bucket/a.ome.zarr", "0", ".ome.zarr", "gs"),
        ("https://host:8080/a.zarr", "https://host:8080/a.zarr", "", ".zarr", "https"),
        ("http://host:8080/a.zarr:k/l?timeout_s=3", "http://host:8080/a.zarr", "k/l", ".zarr", "http"),
        ("Scan.NII.GZ", "Scan.NII.GZ", "", ".nii.gz", ""),
        ("em.precomputed:8_8_40", "em.precomputed", "8_8_40", ".precomputed", ""),
        ("s3://bucket/em.precomputed", "s3://bucket/em.precomputed", "", ".precomputed", "s3"),
        ("precomputed://data/em/", "precomputed://data/em", "", ".precomputed", ""),
        ("precomputed://file:///data/em:8_8_40", "precomputed:///data/em", "8_8_40", ".precomputed", ""),
        (
            "precomputed://gs://bucket/deep/em:8_8_40?timeout_s=3",
            "precomputed://gs://bucket/deep/em",
            "8_8_40",
            ".precomputed",
            "gs",
        ),
        (
            "https://host:8080/em/|neuroglancer-precomputed:",
            "precomputed://https://host:8080/em",
            "",
            ".precomputed",
            "https",
        ),
    ],
)
def test_parts(text: str, path: str, key: str, suffix: str, scheme: str) -> None:
    address = Address.parse(text)
    assert (address.path, address.key, address.suffix, address.scheme) == (path, key, suffix, scheme)
    assert Address.parse(str(address)) == address
    assert address.is_remote == bool(scheme)


def test_options_survive_the_round_trip_but_not_all_of_them_are_identity() -> None:
    text = "s3://bucket/a.n5:raw?profile=lab&endpoint=http://minio.lab:9000&timeout_s=600"
    address = Address.parse(text)
    assert address.endpoint == "http://minio.lab:9000"
    assert Address.parse(str(address)) == address
    assert address.identity == "s3://bucket/a.n5:raw?endpoint=http://minio.lab:9000"
    assert Address("s3://bucket/a.n5?profile=lab", "raw").options == (("profile", "lab"),)
    assert address.within("other").options == address.options


@pytest.mark.parametrize(
    "text",
    [
        "s3://AKIA:secret@bucket/a.n5:raw",
        "precomputed://s3://AKIA:secret@bucket/a",
        "https://me:secret@host/a.n5:raw",
        "https://host/a.n5:raw?token=secret",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UserError) as failure:
        Address.parse(text)
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (":raw", "names no container"),
        ("s3://bucket", "names no container"),
        ("ftp://host/a.n5", "known are"),
        ("gs://bucket/a.n5?profile=lab", "known are timeout_s"),
    ],
)
def test_addresses_that_mean_nothing(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("t/2021-01-01T12:30:05.tif", ""),
        ("t/12:30/*.png", ""),
        ("t/12:30/%04d.png", ""),
        ("t/12:30/x.n5", ""),
        ("t/12:30/x.n5:raw", "raw"),
        ("a.h5:volumes/raw.tif", "volumes/raw.tif"),
        ("a.n5:12:30", "30"),
        ("unknown:raw", "raw"),
    ],
)
def test_colons_in_names(text: str, key: str) -> None:
    assert Address.parse(text).key == key
    assert str(Address.parse(text)) == text


def test_a_path_that_is_there_is_not_split(tmp_path: Path) -> None:
    for name in ("a.h5:raw", "folder:1"):
        (tmp_path / name).mkdir()
        assert Address.parse(f"{tmp_path}/{name}") == Address(f"{tmp_path}/{name}", "")
        assert Address.parse(f"{tmp_path}/{name}:key").key == "key"


@pytest.mark.parametrize(
    "text",
    ["a.n5:raw", "./a.n5:/raw/", "a?timeout_s=5.n5:raw", "S3://b/a.n5:raw", "s3://b/a.n5/:raw?region=x&endpoint=y"],
)
def test_what_has_no_login_and_no_patience_is_its_own_identity(text: str) -> None:
    """However it is written: it stands so in the fingerprints of older results."""
    assert identity_of(text) == text


def test_login_and_patience_are_no_identity() -> None:
    for options in ("timeout_s=5", "anonymous=true&profile=lab", "profile=lab&timeout_s=7"):
        assert identity_of(f"s3://b/a.n5:raw?{options}") == "s3://b/a.n5:raw"
    assert identity_of("s3://b/a.n5:raw?timeout_s=5&region=x&endpoint=y") == "s3://b/a.n5:raw?endpoint=y&region=x"


def test_patterns() -> None:
    assert Address.parse("stack/*.png").is_pattern
    assert Address.parse("stack/%d.png").is_pattern
    assert not Address.parse("stack/a.png").is_pattern
    assert not Address.parse("s3://bucket/*.n5").is_pattern
