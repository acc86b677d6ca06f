"""What the Google Cloud Storage driver makes of every answer, and of none."""

from __future__ import annotations

import json
import shlex
import socket
import struct
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest
import requests
import stamina

from exporter.destinations.gcs.errors import Place, put_unanswered
from exporter.destinations.uploads import Limits
from exporter.errors import DeliveryError, NotSent, ObjectExists, OutcomeUnknown, Refused
from tests.contracts.object_store import NAME, ignore, package_of
from tests.kit.gcs_stores import LARGE, MIB, Cloud, answering, cloud_for, failed_put, gcs_error, put
from tests.kit.proxy import CUT_BEFORE_BODY, LOSE_ANSWER, LOSE_REQUEST, Answer, Fault, proxy_before
from tests.kit.servers import new_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLACE = Place("gs://acme", "acme", None, "")
KEY = "projects/customer/locations/us/keyRings/ring/cryptoKeys/key"
DENIED = (
    "writer@customer.iam.gserviceaccount.com does not have {} access to the Google Cloud Storage object."
    " Permission '{}' denied on resource (or it may not exist)."
)
NO_CREATE = DENIED.format("storage.objects.create", "storage.objects.create")
NO_DELETE = DENIED.format("storage.objects.delete", "storage.objects.delete")
NO_KEY = (
    "Permission denied on Cloud KMS key. Please ensure that your Cloud Storage service account has been"
    " authorized to use this key."
)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with cloud_for() as running:
        yield running


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Tries of chunks follow each other at once."""
    with stamina.set_testing(True, attempts=2):
        yield


ANSWERS = [
    (412, "conditionNotMet", "At least one of the pre-conditions …", ObjectExists, ""),
    (403, "forbidden", NO_DELETE, ObjectExists, ""),
    (403, "forbidden", NO_CREATE, Refused, "roles/storage.objectCreator"),
    (403, "forbidden", "Access denied.", Refused, "roles/storage.objectCreator"),
    (403, "forbidden", NO_KEY, Refused, "storage service agent"),
    (400, "cloudKmsDisabledKey", "Cloud KMS key is disabled, destroyed, or …", Refused, "enabled"),
    (400, "invalid", "Cloud KMS region 'eu' not available for use with …", Refused, "bucket's location"),
    (
        403,
        "vpcServiceControls",
        "Request is prohibited by organization's policy.",
        Refused,
        "perimeter",
    ),
    (403, "accountDisabled", "The billing account for the owning project is disabled", Refused, "billed"),
    (403, "retentionPolicyNotMet", "Object is subject to bucket's retention policy", Refused, "retention"),
    (403, "userRateLimitExceeded", "The user exceeded …", OutcomeUnknown, ""),
    (401, "authError", "Invalid Credentials", Refused, "other credentials"),
    (404, "notFound", "The specified bucket does not exist.", Refused, "create the bucket {bucket}"),
    (400, "invalid", "Provided CRC32C doesn't match calculated CRC32C", Refused, "bytes changed"),
    (400, "userProjectMissing", "Bucket is a requester pays bucket but …", Refused, "requester pays"),
    (400, "invalid", "Invalid argument.", Refused, "correct storage_class"),
    (413, "uploadTooLarge", "Too large", Refused, "part_limit"),
    (409, "", "Conflict", Refused, "what lies between"),
    (418, "new", "Something new", Refused, "what lies between"),
    (301, "", "Moved", Refused, "endpoint_url"),
    (307, "", "Moved", Refused, "endpoint_url"),
    (308, "", "Moved", Refused, "endpoint_url"),
    (408, "", "Timeout", OutcomeUnknown, "unless it stays"),
    (429, "rateLimitExceeded", "Slow down", OutcomeUnknown, "fewer requests"),
    (500, "backendError", "Backend Error", OutcomeUnknown, "unless it stays"),
    (502, "", "Bad Gateway", OutcomeUnknown, "unless it stays"),
    (503, "backendError", "We encountered an internal error.", OutcomeUnknown, "unless it stays"),
    (504, "", "Gateway Timeout", OutcomeUnknown, "unless it stays"),
    (204, "", "", OutcomeUnknown, "what lies between"),
]


@pytest.mark.parametrize(
    ("status", "reason", "words", "kind", "hint"), ANSWERS, ids=lambda value: str(value)[:32]
)
def test_every_answer_means_one_thing_and_is_asked_for_once(
    status: int,
    reason: str,
    words: str,
    kind: type[DeliveryError],
    hint: str,
    cloud: Cloud,
    tmp_path: Path,
) -> None:
    cloud.proxy.script = answering(gcs_error(status, reason, words))
    error = failed_put(cloud.store(kms_key=KEY), tmp_path)
    assert type(error) is kind
    assert NAME in error.message
    assert hint.format(bucket=cloud.bucket) in error.hint
    assert len(cloud.proxy.seen) == 1


def test_a_missing_right_comes_with_the_statement_that_grants_it(cloud: Cloud, tmp_path: Path) -> None:
    cloud.proxy.script = answering(gcs_error(403, "forbidden", NO_CREATE))
    assert failed_put(cloud.store(), tmp_path).fix == (
        f"gcloud storage buckets add-iam-policy-binding gs://{cloud.bucket}"
        " --member=serviceAccount:writer@customer.iam.gserviceaccount.com --role=roles/storage.objectCreator"
        " '--condition=expression=resource.name.startsWith("
        f'"projects/_/buckets/{cloud.bucket}/objects/vendor/"'
        "),title=audit-exporter'"
    )


@pytest.mark.parametrize("status", [401, 403, 407])
@pytest.mark.parametrize("body", [b"<html>Access denied by policy</html>", b"", b"{}", b'{"error": "no"}'])
def test_a_refusal_that_is_none_of_google_s_asks_for_no_right(
    status: int, body: bytes, cloud: Cloud, tmp_path: Path
) -> None:
    """Whoever is in between and says no would stay, whatever is granted in the bucket."""
    cloud.proxy.script = answering(Fault(forward=False, answer=Answer(status, body)))
    error = failed_put(cloud.store(), tmp_path)
    assert type(error) is Refused
    assert "what lies between here and the store" in error.hint
    assert error.fix == ""


def test_what_a_broken_connection_says_stays_on_one_line(cloud: Cloud, tmp_path: Path) -> None:
    """A server wrote a part of it."""
    with reset_after(400, b"HTTP/1.1 200\r\x1b[31m bad\r\nX: 1\r\n\r\n") as url:
        error = failed_put(cloud.store(endpoint_url=url), tmp_path)
    assert error.message.isprintable()
    failed = put_unanswered(ConnectionError("forged\r\nok gs://bucket \x1b[31m"), PLACE, NAME)
    assert failed.message.isprintable()


def test_the_whole_bucket_is_named_only_where_there_is_no_prefix(cloud: Cloud, tmp_path: Path) -> None:
    cloud.proxy.script = answering(gcs_error(403, "forbidden", "Access denied."))
    with pytest.raises(Refused) as caught:
        cloud.store().put(package_of(tmp_path, b"x", "audit/acme/audit_acme_1.zip"), ignore)
    assert caught.value.fix.endswith("--role=roles/storage.objectCreator --condition=None")
    (finding,) = cloud.store().check(".audit-exporter-check/1")
    assert finding.fix == caught.value.fix


@pytest.mark.parametrize("prefix", ["a,b/", "a\"b'$(x)/", "a;b,c|d/"])
def test_a_statement_holds_a_prefix_whatever_characters_it_has(
    prefix: str, cloud: Cloud, tmp_path: Path
) -> None:
    cloud.proxy.script = answering(gcs_error(403, "forbidden", "Access denied."))
    with pytest.raises(Refused) as caught:
        cloud.store().put(package_of(tmp_path, b"x", f"{prefix}audit/acme/audit_acme_1.zip"), ignore)
    condition = shlex.split(caught.value.fix)[-1].removeprefix("--condition=")
    between = condition[1] if condition.startswith("^") else ","
    expression, title = condition.removeprefix(f"^{between}^").split(between)
    literal = expression.removeprefix("expression=resource.name.startsWith(").removesuffix(")")
    assert json.loads(literal) == f"projects/_/buckets/{cloud.bucket}/objects/{prefix}"
    assert title == "title=audit-exporter"


def test_what_a_store_says_does_not_get_into_a_statement_for_a_shell(cloud: Cloud, tmp_path: Path) -> None:
    words = "$(reboot)@evil.example.com does not have storage.objects.create access"
    cloud.proxy.script = answering(gcs_error(403, "forbidden", words))
    error = failed_put(cloud.store(), tmp_path)
    assert "--member=serviceAccount:writer@customer.iam.gserviceaccount.com " in error.fix
    assert "$" not in error.fix


def test_a_key_that_may_not_be_used_comes_with_the_statement_that_grants_it(
    cloud: Cloud, tmp_path: Path
) -> None:
    error = failed_put(cloud.store(kms_key=KEY), tmp_path)  # the server knows no such key
    assert isinstance(error, Refused)
    assert error.fix.startswith(f"gcloud kms keys add-iam-policy-binding {KEY} ")
    assert "@gs-project-accounts.iam.gserviceaccount.com" in error.fix
    assert "roles/cloudkms.cryptoKeyEncrypterDecrypter" in error.fix


def test_a_bucket_that_is_not_there_is_refused(cloud: Cloud, tmp_path: Path) -> None:
    error = failed_put(cloud.store(bucket="nowhere"), tmp_path)
    assert isinstance(error, Refused)
    assert "create the bucket nowhere" in error.hint


@pytest.mark.parametrize("body", [b"<html>\nWelcome</html>", b"\xff\xfe", b"", b"[1]", b'{"error": 7}'])
def test_an_error_that_is_not_google_s_is_still_understood(body: bytes, cloud: Cloud, tmp_path: Path) -> None:
    cloud.proxy.script = answering(Fault(forward=False, answer=Answer(502, body)))
    error = failed_put(cloud.store(), tmp_path)
    assert isinstance(error, OutcomeUnknown)
    assert "HTTP 502" in error.message
    assert error.message.isprintable()


# --- Success that is none --------------------------------------------------------------------------


def said(**fields: str) -> Fault:
    return Fault(forward=False, answer=Answer(200, json.dumps(fields).encode()))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (said(crc32c="AAAAAA=="), Refused),
        (said(size="6"), Refused),
        (said(), OutcomeUnknown),
        (Fault(forward=False, answer=Answer(200, b"<html>Sign in</html>")), OutcomeUnknown),
        (Fault(forward=False, answer=Answer(200, b"")), OutcomeUnknown),
        (Fault(forward=False, answer=Answer(200, b" " * (4 * MIB))), OutcomeUnknown),
    ],
    ids=["crc32c", "size", "no checksum", "a web page", "nothing", "endless"],
)
@pytest.mark.parametrize("data", [b"PK...", LARGE], ids=["at once", "in chunks"])
def test_an_answer_that_does_not_confirm_what_was_sent_is_no_success(
    data: bytes, fault: Fault, kind: type[DeliveryError], cloud: Cloud, tmp_path: Path
) -> None:
    cloud.proxy.script = answering(
        fault, lambda seen: seen.method == "PUT" and f"-{len(LARGE) - 1}/" in seen.headers["content-range"]
    )
    if data != LARGE:
        cloud.proxy.script = answering(fault)
    error = failed_put(cloud.store(), tmp_path, data)
    assert type(error) is kind
    if kind is Refused:
        assert "holds something else than what was sent" in error.message


# --- No answer -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "landed"), [(CUT_BEFORE_BODY, False), (LOSE_REQUEST, False), (LOSE_ANSWER, True)]
)
def test_a_connection_that_breaks_after_it_was_made_leaves_the_outcome_open(
    fault: Fault, *, landed: bool, cloud: Cloud, tmp_path: Path
) -> None:
    cloud.proxy.script = answering(fault)
    assert isinstance(failed_put(cloud.store(), tmp_path), OutcomeUnknown)
    assert len(cloud.proxy.seen) == 1
    assert (NAME in cloud.names) is landed


@contextmanager
def reset_after(received_bytes: int, answer: bytes = b"") -> Iterator[str]:
    """A server that takes so much of a request, answers so much, and resets the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                left = received_bytes
                while left > 0 and (data := connection.recv(left)):
                    left -= len(data)
                connection.sendall(answer)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(10)


@pytest.mark.parametrize("received_bytes", [1, 100, 900, 100_000])
def test_a_reset_at_any_byte_of_the_request_leaves_the_outcome_open(
    received_bytes: int, cloud: Cloud, tmp_path: Path
) -> None:
    with reset_after(received_bytes) as url:
        error = failed_put(cloud.store(endpoint_url=url), tmp_path, LARGE[:MIB])
    assert isinstance(error, OutcomeUnknown)


WHOLE = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"size": "5"'


@pytest.mark.parametrize("answered_bytes", [1, 9, 20, 60, len(WHOLE) - 5, len(WHOLE)])
def test_a_reset_at_any_byte_of_the_answer_leaves_the_outcome_open(
    answered_bytes: int, cloud: Cloud, tmp_path: Path
) -> None:
    with reset_after(400, WHOLE[:answered_bytes]) as url:
        error = failed_put(cloud.store(endpoint_url=url), tmp_path)
    assert isinstance(error, OutcomeUnknown)


def test_an_answer_that_does_not_come_in_time_leaves_the_outcome_open(cloud: Cloud, tmp_path: Path) -> None:
    never = Event()
    cloud.proxy.script = answering(Fault(hold=never))
    error = failed_put(cloud.store(Limits(answer_s=0.2)), tmp_path)
    never.set()
    assert isinstance(error, OutcomeUnknown)


def test_an_upload_that_crawls_is_ended(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However steadily bytes trickle: each block on the wire takes 9 s here."""
    clock = [0.0]
    store = cloud.store(Limits(slowest_bytes_per_s=1 << 20))
    put(store, tmp_path, b"first")
    monkeypatch.setattr("exporter.destinations.uploads.time.monotonic", lambda: clock[0])

    def crawl(_sent_bytes: int) -> None:
        clock[0] += 9

    with pytest.raises(OutcomeUnknown, match="not through after"):
        store.put(package_of(tmp_path, LARGE[:MIB], f"{NAME}2"), crawl)
    assert 60 < clock[0] < 90


def test_a_port_where_nobody_listens_means_not_sent(cloud: Cloud, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = failed_put(cloud.store(endpoint_url=f"http://127.0.0.1:{unused.getsockname()[1]}"), tmp_path)
    assert isinstance(error, NotSent)


def test_a_store_that_leads_inside_is_not_asked(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _host, *more, **most: resolve("127.0.0.1", *more, **most)
    )
    host = "storage.europe-west3.rep.googleapis.com"
    store = cloud.store(endpoint_url=cloud.proxy.url.replace("http://127.0.0.1", f"https://{host}"))
    error = failed_put(store, tmp_path)
    assert isinstance(error, NotSent)
    assert f"network: {{allow: [{host}]}}" in error.hint
    assert cloud.proxy.seen == []


def test_a_certificate_that_nobody_vouches_for_means_not_sent(tmp_path: Path) -> None:
    _, tls = new_certificate(tmp_path)
    with cloud_for() as cloud, proxy_before(cloud.gcs.url, tls=tls) as proxy:
        error = failed_put(cloud.store(endpoint_url=proxy.url), tmp_path)
        assert proxy.seen == []
    assert isinstance(error, NotSent)


def test_a_file_of_certificates_that_is_none_means_not_sent(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    error = failed_put(cloud.store(ca_file=str(tmp_path / "ca.pem")), tmp_path)
    assert isinstance(error, NotSent)
    assert "ca_file" in error.message


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (requests.exceptions.InvalidURL("u"), NotSent),
        (requests.exceptions.InvalidHeader("h"), NotSent),
        (ValueError("invalid literal for int()"), OutcomeUnknown),
        (requests.exceptions.ReadTimeout(), OutcomeUnknown),
        (requests.exceptions.ConnectionError(), OutcomeUnknown),
        (requests.exceptions.ChunkedEncodingError(), OutcomeUnknown),
        (requests.exceptions.ContentDecodingError(), OutcomeUnknown),
        (requests.exceptions.RequestException(), OutcomeUnknown),
        (OSError(5, "Input/output error"), OutcomeUnknown),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_only_what_certainly_came_before_the_request_is_not_sent(
    failure: Exception,
    kind: type[DeliveryError],
    cloud: Cloud,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = cloud.store()
    put(store, tmp_path, b"so that there is a token")

    def fail(*_args: object, **_more: object) -> None:
        raise failure

    monkeypatch.setattr(requests.Session, "send", fail)
    error = failed_put(store, tmp_path)
    assert type(error) is kind
    assert error.__cause__ is failure


def test_no_message_shows_the_address_of_an_upload(cloud: Cloud, tmp_path: Path) -> None:
    """Whoever has it may write the object: it needs no token."""
    cloud.proxy.script = answering(LOSE_REQUEST, lambda seen: "upload_id=" in seen.path)
    error = failed_put(cloud.store(), tmp_path, LARGE)
    assert "upload_id" not in error.message + error.hint
