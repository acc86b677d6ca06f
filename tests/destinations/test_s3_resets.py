"""A connection to S3 that is reset at any byte leaves the outcome open, and the object whole or absent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from exporter.errors import OutcomeUnknown
from tests.contracts.object_store import NAME
from tests.kit.cutting import Wire, cut_wire
from tests.kit.s3_stores import (
    KEYS,
    LARGE,
    failed_put,
    put,
    settings_of,
    store_of,
    with_,
)
from tests.kit.servers import Moto, shared_moto

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def moto() -> Moto:
    return shared_moto()


REQUEST_OFFSETS: dict[str, Callable[[int, int], int]] = {
    "nothing": lambda _head, _whole: 0,
    "the first byte": lambda _head, _whole: 1,
    "half the headers": lambda head, _whole: head // 2,
    "the headers but one byte": lambda head, _whole: head - 1,
    "the headers": lambda head, _whole: head,
    "a byte of the body": lambda head, _whole: head + 1,
    "half the body": lambda head, whole: (head + whole) // 2,
    "all but one byte": lambda _head, whole: whole - 1,
}
ANSWER_OFFSETS: dict[str, Callable[[int, int], int]] = {
    "nothing": lambda start, _head: start,
    "the first byte": lambda start, _head: start + 1,
    "half the headers": lambda start, head: (start + head) // 2,
    "the headers but one byte": lambda _start, head: head - 1,
}
BODIES = {
    "at once": b"PK...",
    "after the word to go on": LARGE[: 300 << 10],  # more than fits into the buffers of sockets
}


def is_whole_or_absent(bucket: str, data: bytes) -> bool:
    client = shared_moto().s3()
    if "Contents" not in client.list_objects_v2(Bucket=bucket, Prefix=NAME):
        return True
    return client.get_object(Bucket=bucket, Key=NAME)["Body"].read() == data


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("offset", REQUEST_OFFSETS)
def test_a_reset_within_the_request_leaves_the_outcome_open(
    offset: str, body: str, moto: Moto, tmp_path: Path
) -> None:
    data = BODIES[body]
    wire = Wire(moto.url, re.compile(rb"PUT "))
    with cut_wire(wire):
        settings = settings_of(moto.new_bucket(), **KEYS, endpoint_url=wire.url, path_style=True)
        put(store_of(with_(settings, bucket=moto.new_bucket())), tmp_path, data)
        head = wire.request.index(b"\r\n\r\n") + 4
        wire.cut_request_at = REQUEST_OFFSETS[offset](head, len(wire.request))
        assert isinstance(failed_put(store_of(settings), tmp_path, data), OutcomeUnknown)
    if body != "at once":  # moto takes a request that breaks off for one without a body, as no server should
        assert is_whole_or_absent(settings.bucket, data)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("offset", ANSWER_OFFSETS)
def test_a_reset_within_the_answer_leaves_the_outcome_open(
    offset: str, body: str, moto: Moto, tmp_path: Path
) -> None:
    data = BODIES[body]
    wire = Wire(moto.url, re.compile(rb"PUT "))
    with cut_wire(wire):
        settings = settings_of(moto.new_bucket(), **KEYS, endpoint_url=wire.url, path_style=True)
        put(store_of(with_(settings, bucket=moto.new_bucket())), tmp_path, data)
        start = wire.answer.index(b"HTTP/1.1 200")  # after 100 Continue
        wire.cut_answer_at = ANSWER_OFFSETS[offset](start, len(wire.answer))
        assert isinstance(failed_put(store_of(settings), tmp_path, data), OutcomeUnknown)
    assert moto.s3().get_object(Bucket=settings.bucket, Key=NAME)["Body"].read() == data


@pytest.mark.parametrize("offset", [*ANSWER_OFFSETS, "the headers", "half the body", "all but one byte"])
def test_a_reset_within_the_answer_to_a_completion_leaves_the_outcome_open(
    offset: str, moto: Moto, tmp_path: Path
) -> None:
    wire = Wire(moto.url, re.compile(rb"POST \S+uploadId="))
    with cut_wire(wire):
        settings = settings_of(moto.new_bucket(), **KEYS, endpoint_url=wire.url, path_style=True)
        put(store_of(with_(settings, bucket=moto.new_bucket())), tmp_path, LARGE)
        head = wire.answer.index(b"\r\n\r\n") + 4
        wire.cut_answer_at = REQUEST_OFFSETS[offset](head, len(wire.answer))
        assert isinstance(failed_put(store_of(settings), tmp_path, LARGE), OutcomeUnknown)
    assert moto.s3().get_object(Bucket=settings.bucket, Key=NAME)["Body"].read() == LARGE
