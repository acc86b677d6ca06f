"""Large objects in chunks: which requests are tried again, and which one decides."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import stamina

from exporter.destinations.gcs import resumable
from exporter.destinations.uploads import Limits
from exporter.errors import DeliveryError, NotSent, ObjectExists, OutcomeUnknown, Refused
from tests.contracts.object_store import NAME, ignore, package_of
from tests.kit.archives import file_of
from tests.kit.gcs_stores import (
    LARGE,
    MIB,
    Cloud,
    answering,
    cloud_for,
    failed_put,
    gcs_error,
    is_begin,
    is_chunk,
    is_completion,
    is_question,
    once,
    put,
    query_of,
)
from tests.kit.proxy import LOSE_ANSWER, LOSE_REQUEST, Answer, Fault, proxy_before

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.proxy import Request


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with cloud_for() as running:
        yield running


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Tries of chunks follow each other at once."""
    with stamina.set_testing(True, attempts=resumable.CHUNK_TRIES):
        yield


def ranges(requests: list[Request]) -> list[str]:
    return [seen.headers["content-range"].removeprefix("bytes ") for seen in requests if seen.method == "PUT"]


def test_a_large_object_goes_in_chunks_of_one_conditional_session(cloud: Cloud, tmp_path: Path) -> None:
    put(cloud.store(), tmp_path, LARGE)
    begin, *chunks, completion = cloud.proxy.seen
    assert is_begin(begin)
    assert query_of(begin) == {"uploadType": "resumable", "name": NAME, "ifGenerationMatch": "0"}
    assert begin.headers["x-upload-content-length"] == str(len(LARGE))
    assert begin.headers["x-upload-content-type"] == "application/zip"
    assert b'"crc32c"' in begin.body
    assert all(map(is_chunk, chunks))
    assert is_completion(completion)
    size = len(LARGE)
    assert ranges(cloud.proxy.seen) == [
        f"0-{MIB - 1}/{size}",
        f"{MIB}-{2 * MIB - 1}/{size}",
        f"{2 * MIB}-{3 * MIB - 1}/{size}",
        f"{3 * MIB}-{3 * MIB}/{size}",
    ]
    assert cloud.object().data == LARGE
    assert cloud.object().metadata == {"plan": "p1"}


def test_created_is_as_good_as_ok(cloud: Cloud, tmp_path: Path) -> None:
    """The documentation has both."""
    put(cloud.store(), tmp_path, LARGE)
    made = {"size": str(len(LARGE)), "crc32c": cloud.object().crc32c}
    created = Fault(forward=False, answer=Answer(201, json.dumps(made).encode()))
    cloud.proxy.script = answering(created, is_completion)
    cloud.store().put(package_of(tmp_path, LARGE, "p/audit/a/other"), ignore)


@pytest.mark.parametrize(
    "fault",
    [gcs_error(500, "backendError"), gcs_error(503, "x"), gcs_error(429, "x"), LOSE_ANSWER, LOSE_REQUEST],
    ids=["500", "503", "429", "lost answer", "lost request"],
)
def test_a_chunk_is_tried_again_from_where_the_session_stands(
    fault: Fault, cloud: Cloud, tmp_path: Path
) -> None:
    failures = iter([fault] * (resumable.CHUNK_TRIES - 1))
    cloud.proxy.script = lambda request: next(failures, None) if is_chunk(request) else None
    sent: list[int] = []
    cloud.store().put(package_of(tmp_path, LARGE), sent.append)
    assert cloud.object().data == LARGE
    assert sum(sent) == len(LARGE)
    assert any(map(is_question, cloud.proxy.seen))
    assert sum(map(is_completion, cloud.proxy.seen)) == 1


def test_after_a_lost_answer_no_byte_that_arrived_is_sent_again(cloud: Cloud, tmp_path: Path) -> None:
    cloud.proxy.script = once(LOSE_ANSWER, is_chunk)
    put(cloud.store(), tmp_path, LARGE)
    assert ranges(cloud.proxy.seen)[1:3] == [f"*/{len(LARGE)}", f"{MIB}-{2 * MIB - 1}/{len(LARGE)}"]


def test_a_chunk_of_which_only_a_part_was_kept_goes_on_behind_that_part(cloud: Cloud, tmp_path: Path) -> None:
    kept = Fault(answer=Answer(308, b"", {"Range": "bytes=0-262143"}))
    cloud.proxy.script = once(kept, is_chunk)
    sent: list[int] = []
    cloud.store().put(package_of(tmp_path, LARGE), sent.append)
    assert ranges(cloud.proxy.seen)[1].startswith("262144-")
    assert cloud.object().data == LARGE
    assert sum(sent) == len(LARGE)


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=5-7"}], ids=["nothing kept", "no range"])
def test_a_store_that_keeps_no_chunk_ends_the_attempt(
    headers: dict[str, str], cloud: Cloud, tmp_path: Path
) -> None:
    cloud.proxy.script = answering(
        Fault(forward=False, answer=Answer(308, b"", headers)), lambda seen: seen.method == "PUT"
    )
    error = failed_put(cloud.store(), tmp_path, LARGE)
    assert isinstance(error, NotSent)
    assert not any(map(is_completion, cloud.proxy.seen))


def test_a_chunk_that_keeps_failing_ends_the_attempt_and_nothing_can_land(
    cloud: Cloud, tmp_path: Path
) -> None:
    cloud.proxy.script = answering(gcs_error(500, "backendError"), is_chunk)
    error = failed_put(cloud.store(), tmp_path, LARGE)
    assert isinstance(error, NotSent)
    assert "broke off" in error.message
    assert sum(map(is_chunk, cloud.proxy.seen)) == resumable.CHUNK_TRIES
    assert not any(map(is_completion, cloud.proxy.seen))
    assert cloud.names == set()


def test_a_refused_chunk_is_not_tried_again(cloud: Cloud, tmp_path: Path) -> None:
    cloud.proxy.script = answering(gcs_error(403, "forbidden"), is_chunk)
    assert isinstance(failed_put(cloud.store(), tmp_path, LARGE), Refused)
    assert sum(map(is_chunk, cloud.proxy.seen)) == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (gcs_error(500, "backendError"), NotSent),
        (gcs_error(429, "rateLimitExceeded"), NotSent),
        (LOSE_ANSWER, NotSent),
        (gcs_error(404, "notFound"), Refused),
        (gcs_error(412, "conditionNotMet"), ObjectExists),
        (Fault(forward=False, answer=Answer(200)), Refused),  # no Location
    ],
)
def test_a_large_upload_that_does_not_begin_cannot_land(
    fault: Fault, kind: type[DeliveryError], cloud: Cloud, tmp_path: Path
) -> None:
    cloud.proxy.script = answering(fault)
    assert type(failed_put(cloud.store(), tmp_path, LARGE)) is kind
    assert len(cloud.proxy.seen) == 1


MAY_NOT_DELETE = gcs_error(403, "forbidden", "w@x.com does not have storage.objects.delete access to the …")


@pytest.mark.parametrize(
    ("fault", "kind", "landed"),
    [
        (gcs_error(412, "conditionNotMet"), ObjectExists, False),
        (MAY_NOT_DELETE, ObjectExists, False),
        (gcs_error(403, "forbidden"), Refused, False),
        (gcs_error(400, "invalid", "Provided CRC32C doesn't match calculated CRC32C"), Refused, False),
        (gcs_error(408, "x"), OutcomeUnknown, False),
        (gcs_error(429, "rateLimitExceeded"), OutcomeUnknown, False),
        (gcs_error(500, "backendError"), OutcomeUnknown, False),
        (gcs_error(503, "backendError", forward=True), OutcomeUnknown, True),
        (Fault(forward=False, answer=Answer(308, b"", {"Range": f"bytes=0-{3 * MIB - 1}"})), NotSent, False),
        (gcs_error(410, "gone"), NotSent, False),
        (gcs_error(404, ""), NotSent, False),
        (LOSE_REQUEST, OutcomeUnknown, False),
        (LOSE_ANSWER, OutcomeUnknown, True),
    ],
)
def test_the_last_chunk_is_sent_once_and_its_answer_decides(
    fault: Fault, kind: type[DeliveryError], *, landed: bool, cloud: Cloud, tmp_path: Path
) -> None:
    cloud.proxy.script = answering(fault, is_completion)
    assert isinstance(failed_put(cloud.store(), tmp_path, LARGE), kind)
    assert sum(map(is_completion, cloud.proxy.seen)) == 1
    assert is_completion(cloud.proxy.seen[-1])
    assert (NAME in cloud.names) is landed


def test_an_object_that_appears_while_chunks_are_sent_is_not_replaced(cloud: Cloud, tmp_path: Path) -> None:
    other = cloud.store()
    left = ["the other is to be put"]

    def script(request: Request) -> Fault | None:
        if is_completion(request) and left:
            left.clear()
            put(other, tmp_path, b"the other")
        return None

    cloud.proxy.script = script
    assert isinstance(failed_put(cloud.store(), tmp_path, LARGE), ObjectExists)
    assert cloud.object().data == b"the other"


@pytest.mark.parametrize("forget", [False, True], ids=["gone", "forgotten"])
def test_an_upload_whose_session_ends_is_not_sent_and_begins_anew(
    forget: bool,  # noqa: FBT001 - pytest hands it over
    cloud: Cloud,
    tmp_path: Path,
) -> None:
    ended: list[bool] = []

    def script(request: Request) -> Fault | None:
        if is_chunk(request) and not ended:
            ended.append(True)
            cloud.gcs.end_sessions(forget=forget)
        return None

    cloud.proxy.script = script
    error = failed_put(cloud.store(), tmp_path, LARGE)
    assert isinstance(error, NotSent)
    assert [is_begin(seen) for seen in cloud.proxy.seen] == [True, False], "what is gone is not asked again"
    put(cloud.store(), tmp_path, LARGE)
    assert cloud.object().data == LARGE


def test_an_upload_goes_on_at_the_store_wherever_its_answer_leads(cloud: Cloud, tmp_path: Path) -> None:
    """A token must not go to a host that an answer names."""
    with proxy_before(cloud.gcs.url) as elsewhere:
        cloud.gcs._outside[cloud.proxy.url.partition("://")[2]] = elsewhere.url
        put(cloud.store(), tmp_path, LARGE)
        cloud.gcs.stand_behind(cloud.proxy.url)
        assert elsewhere.seen == []
    assert cloud.object().data == LARGE


def test_an_archive_that_changes_while_it_is_sent_is_refused_by_the_store(
    cloud: Cloud, tmp_path: Path
) -> None:
    package = package_of(tmp_path, LARGE)

    def change(_sent_bytes: int) -> None:
        file_of(package).write_bytes(LARGE[::-1])

    with pytest.raises(Refused) as caught:
        cloud.store().put(package, change)
    assert "bytes changed" in caught.value.hint
    assert cloud.names == set()


def test_an_upload_that_crawls_from_chunk_to_chunk_is_ended(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("exporter.destinations.gcs.resumable.time.monotonic", lambda: clock[0])

    def crawl(_request: Request) -> Fault | None:
        clock[0] += 59
        return None

    cloud.proxy.script = crawl
    limits = Limits(large_bytes=2 * MIB, part_bytes=MIB, slowest_bytes_per_s=1 << 30)
    with pytest.raises(NotSent, match="time for an upload of this size"):
        cloud.store(limits).put(package_of(tmp_path, LARGE), ignore)
    assert not any(map(is_completion, cloud.proxy.seen))
