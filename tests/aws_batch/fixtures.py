"""A stand-in for AWS Batch that all tests of a process share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.aws_batch.stand_in import StandIn

VARIABLES = {
    "AWS_ACCESS_KEY_ID": "driver",
    "AWS_SECRET_ACCESS_KEY": "only",
    "AWS_DEFAULT_REGION": "eu-north-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def _stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    found = StandIn(tmp_path_factory.mktemp("aws_batch"))
    yield found
    found.close()


@pytest.fixture
def aws_batch(_stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The stand-in, without jobs and faults; boto3 calls it, also in other processes that a test starts."""
    _stand_in.reset()
    for name, value in {**VARIABLES, "AWS_ENDPOINT_URL_BATCH": _stand_in.url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    yield _stand_in
    _stand_in.end_all()
