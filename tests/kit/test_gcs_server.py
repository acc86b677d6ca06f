"""The kit itself: the server that stands for Google Cloud Storage keeps the JSON API's promises."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import socket
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from threading import Barrier
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest
from google.api_core.exceptions import PreconditionFailed

from tests.kit.gcs_objects import crc32c_of
from tests.kit.gcs_server import ALMIGHTY, Gcs, gcs_server, shared_gcs
from tests.kit.proxy import proxy_before
from tests.kit.servers import new_certificate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# The real client, which has no types.
storage: Any = import_module("google.cloud.storage")
anonymous: Any = import_module("google.auth.credentials").AnonymousCredentials
credentials_of: Any = import_module("google.oauth2.credentials").Credentials

QUANTUM = 256 << 10
LARGE = hashlib.shake_256(b"large").digest(3 * QUANTUM + 10)
CREATE, DELETE = "storage.objects.create", "storage.objects.delete"
WRONG_CRC = crc32c_of(b"other")


@dataclass(frozen=True)
class Reply:
    """What the server answered; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever it is
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str, str]:
        """Status, reason and message, after a look at the form of the whole."""
        error = self.json["error"]
        (detail,) = error["errors"]
        assert (error["code"], error["message"]) == (self.status, detail["message"])
        assert detail["domain"] == ("usageLimits" if self.status == 429 else "global")
        return self.status, detail["reason"], detail["message"]


def ask(
    gcs: Gcs, method: str, path: str, body: bytes = b"", *, token: str = ALMIGHTY, **headers: str
) -> Reply:
    """One request on a connection of its own. Header names are written with `_`."""
    address = urlsplit(gcs.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent |= {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request(method, path.removeprefix(gcs.url), body, sent)
        answer = connection.getresponse()
        return Reply(
            answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        )
    finally:
        connection.close()


def denied(who: str, permission: str) -> str:
    """The real sentence."""
    return (
        f"{who} does not have {permission} access to the Google Cloud Storage object. "
        f"Permission '{permission}' denied on resource (or it may not exist)."
    )


def insert(bucket: str, name: str = "a.zip", kind: str = "media", more: str = "&ifGenerationMatch=0") -> str:
    return f"/upload/storage/v1/b/{bucket}/o?uploadType={kind}&name={quote(name, safe='')}{more}"


def related(resource: Mapping[str, Any], data: bytes) -> bytes:
    head = f"--cut\r\nContent-Type: application/json\r\n\r\n{json.dumps(resource)}\r\n"
    return f"{head}--cut\r\nContent-Type: application/zip\r\n\r\n".encode() + data + b"\r\n--cut--"


def multipart(gcs: Gcs, bucket: str, resource: Mapping[str, Any], data: bytes, more: str = "") -> Reply:
    path = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart&ifGenerationMatch=0{more}"
    return ask(gcs, "POST", path, related(resource, data), Content_Type='multipart/related; boundary="cut"')


def begin(gcs: Gcs, bucket: str, name: str = "a.zip", more: str = "&ifGenerationMatch=0") -> str:
    """The address of a new upload session."""
    reply = ask(gcs, "POST", insert(bucket, name, "resumable", more))
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["x-guploader-uploadid"] in reply.headers["location"]
    return reply.headers["location"]


def chunk(gcs: Gcs, address: str, first: int, last: int, total: str = "", **headers: str) -> Reply:
    """The bytes of LARGE from first up to, not including, last; without a token, as an address is enough."""
    span = f"bytes {first}-{last - 1}/{total or len(LARGE)}"
    return ask(gcs, "PUT", address, LARGE[first:last], token="", Content_Range=span, **headers)


def state(gcs: Gcs, address: str, total: str = "*") -> Reply:
    return ask(gcs, "PUT", address, token="", Content_Range=f"bytes */{total}")


def blob_of(url: str, bucket: str, token: str | None = ALMIGHTY, authority: Path | None = None) -> Any:  # noqa: ANN401 - it has no types
    """The real client's side of `a.zip`."""
    credentials = anonymous() if token is None else credentials_of(token)
    client = storage.Client("p", credentials, client_options={"api_endpoint": url})
    if authority is not None:
        client._http.verify = str(authority)
        client._http.trust_env = False  # REQUESTS_CA_BUNDLE goes before `verify`
    return client.bucket(bucket).blob("a.zip")


@pytest.fixture(autouse=True)
def _no_look_at_the_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the real client asks for the bucket's location, in a thread that may outlive the server."""
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")


def upload(blob: Any, data: bytes) -> None:  # noqa: ANN401 - it has no types
    blob.upload_from_file(
        io.BytesIO(data),
        size=None if blob.chunk_size else len(data),
        content_type="application/zip",
        if_generation_match=0,
        checksum="crc32c",
        retry=None,
        timeout=10,
    )


def polynomial_remainder(data: bytes) -> int:
    """CRC32C bit by bit, as RFC 3720 defines it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_its_checksums_are_those_of_the_definition() -> None:
    assert polynomial_remainder(b"123456789") == 0xE3069283
    for data in (b"", b"123456789", LARGE[:1000]):
        assert crc32c_of(data) == b64encode(polynomial_remainder(data).to_bytes(4, "big")).decode()


# The real client


def test_the_real_client_creates_once() -> None:
    """Bytes, metadata and checksums arrive, and a second upload meets the precondition."""
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    blob = blob_of(gcs.url, bucket)
    blob.metadata = {"plan": "p1"}
    blob.storage_class = "NEARLINE"
    upload(blob, b"first")
    with pytest.raises(PreconditionFailed, match="pre-conditions you specified did not hold"):
        upload(blob_of(gcs.url, bucket), b"second")
    stored = gcs.objects(bucket)["a.zip"]
    assert (stored.data, stored.metadata, stored.content_type) == (
        b"first",
        {"plan": "p1"},
        "application/zip",
    )
    assert (stored.storage_class, blob.crc32c, blob.generation) == (
        "NEARLINE",
        stored.crc32c,
        stored.generation,
    )


def test_the_real_client_uploads_in_chunks_and_reads_back() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    blob = blob_of(gcs.url, bucket)
    blob.chunk_size = QUANTUM
    upload(blob, LARGE)
    assert [(name, stored.data) for name, stored in gcs.objects(bucket).items()] == [("a.zip", LARGE)]
    assert blob.download_as_bytes(retry=None, timeout=10) == LARGE
    assert [found.name for found in blob.bucket.list_blobs(retry=None)] == ["a.zip"]
    again = blob_of(gcs.url, bucket)
    again.chunk_size = QUANTUM
    with pytest.raises(PreconditionFailed):
        upload(again, LARGE[::-1])


def test_the_real_client_is_content_over_https(tmp_path: Path) -> None:
    authority, context = new_certificate(tmp_path)
    with gcs_server(context) as gcs:
        bucket = gcs.new_bucket()
        blob = blob_of(gcs.url, bucket, authority=authority)
        blob.chunk_size = QUANTUM
        upload(blob, LARGE)
        assert gcs.objects(bucket)["a.zip"].data == LARGE


def test_a_client_without_credentials_is_everybody() -> None:
    """It may do what everybody was granted, and no more: 401, not 403."""
    with gcs_server() as gcs:
        bucket = gcs.new_bucket()
        assert ask(gcs, "POST", insert(bucket), b"x", token="").error == (
            401,
            "required",
            denied("Anonymous caller", CREATE),
        )
        gcs.grant("", CREATE)
        upload(blob_of(gcs.url, bucket, token=None), b"x")
        assert gcs.objects(bucket)["a.zip"].data == b"x"


# Create-only


def test_the_answer_tells_all_about_the_object() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    resource = {"name": "x/é b", "metadata": {"plan": "p1"}, "contentType": "application/gzip"}
    reply = multipart(gcs, bucket, resource, b"123456789")
    generation = gcs.objects(bucket)["x/é b"].generation
    found = reply.json
    assert reply.status == 200
    assert {key: found[key] for key in ("kind", "name", "bucket", "size", "crc32c", "md5Hash")} == {
        "kind": "storage#object",
        "name": "x/é b",
        "bucket": bucket,
        "size": "9",
        "crc32c": "4waSgw==",
        "md5Hash": "JfnnlDI7RTiF9RgfG2JNCw==",
    }
    assert found["id"] == f"{bucket}/x/é b/{generation}"
    assert (found["generation"], found["metageneration"]) == (str(generation), "1")
    assert (found["contentType"], found["metadata"]) == ("application/gzip", {"plan": "p1"})
    assert found["selfLink"] == f"{gcs.url}/storage/v1/b/{bucket}/o/x%2F%C3%A9%20b"
    assert ask(gcs, "GET", f"/storage/v1/b/{bucket}/o/x%2F%C3%A9%20b").json == found


def test_an_object_that_exists_is_not_replaced() -> None:
    """The precondition speaks before anything else, and the first object stays."""
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    writer = f"writer-of-{bucket}"
    gcs.grant(writer, CREATE)
    assert ask(gcs, "POST", insert(bucket), b"first", token=writer).status == 200
    for kind in ("media", "resumable"):
        reply = ask(gcs, "POST", insert(bucket, kind=kind), b"{}", token=writer)
        assert reply.error == (
            412,
            "conditionNotMet",
            "At least one of the pre-conditions you specified did not hold.",
        )
    assert gcs.objects(bucket)["a.zip"].data == b"first"


def test_overwriting_needs_the_right_to_delete() -> None:
    """Without a precondition: 403 that names storage.objects.delete, or another generation."""
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    writer = f"writer-of-{bucket}"
    email = gcs.grant(writer, CREATE)
    ask(gcs, "POST", insert(bucket), b"first", token=writer)
    assert ask(gcs, "POST", insert(bucket, more=""), b"second", token=writer).error == (
        403,
        "forbidden",
        denied(email, DELETE),
    )
    before = gcs.objects(bucket)["a.zip"]
    gcs.grant(writer, DELETE)
    assert ask(gcs, "POST", insert(bucket, more=""), b"second", token=writer).status == 200
    after = gcs.objects(bucket)["a.zip"]
    assert (before.data, after.data) == (b"first", b"second")
    assert after.generation > before.generation


def test_a_precondition_names_a_generation() -> None:
    """Another one is refused, as is what is no number; conditions that it does not know are not ignored."""
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    ask(gcs, "POST", insert(bucket), b"first")
    present = gcs.objects(bucket)["a.zip"].generation
    refusals = {"Match=7": 412, "Match=no": 400, "NotMatch=7": 501}
    for condition, status in refusals.items():
        more = f"&ifGeneration{condition}"
        assert ask(gcs, "POST", insert(bucket, more=more), b"second").error[0] == status
    assert ask(gcs, "POST", insert(bucket, more=f"&ifGenerationMatch={present}"), b"third").status == 200
    assert gcs.objects(bucket)["a.zip"].data == b"third"


def test_one_of_many_wins() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    contestants = [f"contestant {number}".encode() * 5000 for number in range(12)]
    barrier = Barrier(len(contestants))

    def contend(data: bytes) -> int:
        barrier.wait(10)
        return multipart(gcs, bucket, {"name": "a.zip"}, data).status

    with ThreadPoolExecutor(len(contestants)) as pool:
        statuses = list(pool.map(contend, contestants))
    assert sorted(statuses) == [200] + [412] * 11
    assert gcs.objects(bucket)["a.zip"].data == contestants[statuses.index(200)]


def test_an_object_that_appears_during_an_upload_ends_it() -> None:
    """The precondition is asked again with the last byte, as often as that comes."""
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    first, second = begin(gcs, bucket), begin(gcs, bucket)
    assert chunk(gcs, first, 0, len(LARGE)).status == 200
    for _ in range(2):
        assert chunk(gcs, second, 0, len(LARGE)).error[:2] == (412, "conditionNotMet")
    assert state(gcs, second).error[:2] == (412, "conditionNotMet")
    assert state(gcs, first).json["generation"] == str(gcs.objects(bucket)["a.zip"].generation)


# Resumable uploads


def test_chunks_are_kept_and_counted() -> None:
    """308 with what is kept, the state on request, and the object with the last byte and again after it."""
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    address = begin(gcs, bucket)
    nothing = state(gcs, address, str(len(LARGE)))
    assert (nothing.status, nothing.headers.get("range"), nothing.body) == (308, None, b"")
    kept = chunk(gcs, address, 0, 2 * QUANTUM)
    assert (kept.status, kept.headers["range"]) == (308, f"bytes=0-{2 * QUANTUM - 1}")
    assert state(gcs, address).headers["range"] == kept.headers["range"]
    assert gcs.objects(bucket) == {}
    last = chunk(gcs, address, 2 * QUANTUM, len(LARGE))
    assert (last.status, last.json["size"]) == (200, str(len(LARGE)))
    assert state(gcs, address).json == last.json
    assert chunk(gcs, address, 2 * QUANTUM, len(LARGE)).json == last.json
    assert gcs.objects(bucket)["a.zip"].data == LARGE


def test_bytes_that_come_twice_are_taken_once() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    address = begin(gcs, bucket)
    for last in (QUANTUM, QUANTUM, 2 * QUANTUM):
        assert chunk(gcs, address, 0, last).headers["range"] == f"bytes=0-{last - 1}"
    assert chunk(gcs, address, QUANTUM, len(LARGE)).status == 200
    assert gcs.objects(bucket)["a.zip"].data == LARGE


def test_a_gap_is_answered_with_503_in_plain_text() -> None:
    gcs = shared_gcs()
    address = begin(gcs, gcs.new_bucket())
    reply = chunk(gcs, address, QUANTUM, 2 * QUANTUM)
    assert (reply.status, reply.headers["content-type"]) == (503, "text/plain; charset=utf-8")
    assert b"the upload offset is 262144 byte(s), which exceeds already uploaded size of 0" in reply.body
    assert state(gcs, address).headers.get("range") is None


def test_chunks_come_in_multiples_of_256_kib() -> None:
    """Less is refused; what is left over is dropped, and the answer says so."""
    gcs = shared_gcs()
    address = begin(gcs, gcs.new_bucket())
    small = chunk(gcs, address, 0, 1000)
    assert (small.status, b"equal or greater than 262144" in small.body) == (400, True)
    assert chunk(gcs, address, 0, QUANTUM + 1000).headers["range"] == f"bytes=0-{QUANTUM - 1}"
    assert state(gcs, address).headers["range"] == f"bytes=0-{QUANTUM - 1}"


@pytest.mark.parametrize("span", ["bytes 0-9/5", "bytes 0-5/*", "bytes=0-9", "bytes 9-0/10"])
def test_a_range_that_does_not_fit_is_refused(span: str) -> None:
    gcs = shared_gcs()
    address = begin(gcs, gcs.new_bucket())
    assert ask(gcs, "PUT", address, b"0123456789", Content_Range=span).status == 400


def test_the_size_stands_once_it_is_said() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    reply = ask(gcs, "POST", insert(bucket, kind="resumable"), X_Upload_Content_Length=str(len(LARGE)))
    assert chunk(gcs, reply.headers["location"], 0, QUANTUM, str(len(LARGE) + 1)).status == 400
    assert chunk(gcs, reply.headers["location"], 0, len(LARGE)).status == 200


def test_an_upload_may_find_out_its_size_at_its_end() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    address = begin(gcs, bucket)
    assert chunk(gcs, address, 0, 3 * QUANTUM, "*").status == 308
    assert state(gcs, address, str(3 * QUANTUM)).status == 200
    assert gcs.objects(bucket)["a.zip"].data == LARGE[: 3 * QUANTUM]


def test_one_request_or_no_byte_at_all_is_an_upload_too() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    assert ask(gcs, "PUT", begin(gcs, bucket, "whole"), LARGE).status == 200
    assert state(gcs, begin(gcs, bucket, "empty"), "0").status == 200
    assert {name: stored.data for name, stored in gcs.objects(bucket).items()} == {
        "whole": LARGE,
        "empty": b"",
    }


def test_who_cannot_take_308_gets_200_with_the_status_in_a_header() -> None:
    gcs = shared_gcs()
    address = begin(gcs, gcs.new_bucket())
    reply = chunk(gcs, address, 0, QUANTUM, X_GUploader_No_308="yes")
    assert (reply.status, reply.headers["x-http-status-code-override"]) == (200, "308")


def test_a_session_ends() -> None:
    """Cancelled or old: 410; forgotten: 404. None of them leaves an object."""
    with gcs_server() as gcs:
        bucket = gcs.new_bucket()
        cancelled = begin(gcs, bucket)
        assert ask(gcs, "DELETE", cancelled).status == 499
        assert chunk(gcs, cancelled, 0, len(LARGE)).error[:2] == (410, "gone")
        old = begin(gcs, bucket)
        gcs.end_sessions()
        assert state(gcs, old).error[:2] == (410, "gone")
        gcs.end_sessions(forget=True)
        assert state(gcs, old).status == 404
        assert gcs.objects(bucket) == {}


def test_a_connection_that_ends_in_a_chunk_leaves_its_whole_quanta() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    address = begin(gcs, bucket)
    path = address.removeprefix(gcs.url)
    head = f"Content-Length: {len(LARGE)}\r\nContent-Range: bytes 0-{len(LARGE) - 1}/{len(LARGE)}"
    assert talk(gcs, f"PUT {path}", head, LARGE[: QUANTUM + 5]) == b""
    assert state(gcs, address).headers["range"] == f"bytes=0-{QUANTUM - 1}"
    without_end = b"%x\r\n%s\r\n" % (len(LARGE), LARGE)
    assert talk(gcs, f"PUT {path}", "Transfer-Encoding: chunked", without_end) == b""
    head = f"Transfer-Encoding: chunked\r\nContent-Range: bytes 0-{len(LARGE) - 1}/{len(LARGE)}"
    assert talk(gcs, f"PUT {path}", head, without_end) == b""
    assert state(gcs, address).headers["range"] == f"bytes=0-{3 * QUANTUM - 1}"
    assert chunk(gcs, address, QUANTUM, len(LARGE)).status == 200
    assert gcs.objects(bucket)["a.zip"].data == LARGE


def test_a_connection_that_ends_in_a_single_upload_leaves_nothing() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    token = f"Authorization: Bearer {gcs.token}"
    assert talk(gcs, f"POST {insert(bucket)}", f"{token}\r\nContent-Length: 10", b"01234") == b""
    assert talk(gcs, f"POST {insert(bucket)}", f"{token}\r\nTransfer-Encoding: chunked", b"5\r\n01") == b""
    assert gcs.objects(bucket) == {}


def talk(gcs: Gcs, request: str, headers: str, body: bytes) -> bytes:
    """All that comes back to a client that sends this and then says that it has no more."""
    address = urlsplit(gcs.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as connection:
        head = f"{request} HTTP/1.1\r\nHost: {address.netloc}\r\n{headers}\r\n\r\n"
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_session_addresses_lead_back_through_a_proxy_with_tls(tmp_path: Path) -> None:
    authority, context = new_certificate(tmp_path)
    with gcs_server() as gcs, proxy_before(gcs.url, tls=context) as proxy:
        gcs.stand_behind(proxy.url)
        bucket = gcs.new_bucket()
        blob = blob_of(proxy.url, bucket, authority=authority)
        blob.chunk_size = QUANTUM
        upload(blob, LARGE)
        assert [request.method for request in proxy.seen] == ["POST", "PUT", "PUT", "PUT", "PUT"]
        assert gcs.objects(bucket)["a.zip"].data == LARGE


# Checksums and bodies


@pytest.mark.parametrize(
    ("stated", "title"), [("crc32c", "CRC32C"), ("md5Hash", "MD5 hash")], ids=["crc32c", "md5"]
)
def test_a_wrong_checksum_in_the_resource_is_refused(stated: str, title: str) -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    status, reason, message = multipart(gcs, bucket, {"name": "a", stated: WRONG_CRC}, b"data").error
    assert (status, reason) == (400, "invalid")
    assert message.startswith(f'Provided {title} "{WRONG_CRC}" doesn\'t match calculated {title} "')
    assert gcs.objects(bucket) == {}


def test_a_wrong_checksum_in_the_header_is_refused() -> None:
    """In a single upload and with the last chunk; right ones pass."""
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    wrong = f"crc32c={WRONG_CRC}"
    assert ask(gcs, "POST", insert(bucket), b"data", X_Goog_Hash=wrong).error[:2] == (400, "invalid")
    assert chunk(gcs, begin(gcs, bucket), 0, len(LARGE), X_Goog_Hash=wrong).error[:2] == (400, "invalid")
    assert gcs.objects(bucket) == {}
    right = f"crc32c={crc32c_of(LARGE)}"
    assert chunk(gcs, begin(gcs, bucket), 0, len(LARGE), X_Goog_Hash=right).status == 200


def test_transfer_in_chunks_is_taken() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    head = f"Authorization: Bearer {gcs.token}\r\nTransfer-Encoding: chunked\r\nConnection: close"
    answer = talk(gcs, f"POST {insert(bucket)}", head, b"5\r\nfirst\r\n7;x=y\r\n second\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert gcs.objects(bucket)["a.zip"].data == b"first second"


def test_an_upload_without_a_length_is_refused() -> None:
    gcs = shared_gcs()
    head = f"Authorization: Bearer {gcs.token}"
    assert talk(gcs, f"POST {insert(gcs.new_bucket())}", head, b"").startswith(b"HTTP/1.1 411 ")


def test_a_request_packed_with_gzip_is_unpacked_and_an_object_packed_with_it_is_kept() -> None:
    """The request's encoding is gone with the request; the object's is undone for readers without gzip."""
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    packed = gzip.compress(b"text")
    assert ask(gcs, "POST", insert(bucket, "sent"), packed, Content_Encoding="gzip").status == 200
    more = "&ifGenerationMatch=0&contentEncoding=gzip"
    assert ask(gcs, "POST", insert(bucket, "kept", more=more), packed).status == 200
    found = gcs.objects(bucket)
    assert (found["sent"].data, found["sent"].content_encoding) == (b"text", "")
    assert (found["kept"].data, found["kept"].content_encoding) == (packed, "gzip")
    path = f"/storage/v1/b/{bucket}/o/kept?alt=media"
    assert ask(gcs, "GET", path).body == b"text"
    assert ask(gcs, "GET", path, Accept_Encoding="gzip").body == packed
    assert ask(gcs, "POST", insert(bucket, "bad"), b"text", Content_Encoding="gzip").status == 400


def test_who_waits_for_a_go_ahead_gets_the_refusal_before_sending() -> None:
    """`Expect: 100-continue`: 100 for a request that may pass, else the error and no body wanted."""
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    expect = "Expect: 100-continue\r\nContent-Length: 4\r\nConnection: close"
    good = f"{expect}\r\nAuthorization: Bearer {gcs.token}"
    answer = talk(gcs, f"POST {insert(bucket)}", good, b"data")
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")
    assert talk(gcs, f"POST {insert(bucket)}", good, b"").startswith(b"HTTP/1.1 412 ")
    bad = f"{expect}\r\nAuthorization: Bearer unknown"
    assert talk(gcs, f"POST {insert(bucket)}", bad, b"").startswith(b"HTTP/1.1 401 ")


# Refusals


def test_a_token_that_nobody_was_given_is_refused() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    for token in ("unknown", f"revoked-of-{bucket}"):
        gcs.grant(token, CREATE)
        gcs.revoke(token)
        reply = ask(gcs, "POST", insert(bucket), b"x", token=token)
        assert reply.error == (401, "authError", "Invalid Credentials")
        assert token.encode() not in reply.body


def test_a_grant_holds_under_its_prefix_alone() -> None:
    """And a condition on names gives no permission on the bucket as such."""
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    writer = f"writer-of-{bucket}"
    email = gcs.grant(writer, CREATE, prefix="vendor/")
    assert ask(gcs, "POST", insert(bucket, "vendor/a"), b"x", token=writer).status == 200
    status, reason, message = ask(gcs, "POST", insert(bucket, "other/a"), b"x", token=writer).error
    assert (status, reason) == (403, "forbidden")
    assert message.startswith(f"{email} does not have storage.objects.create access to the Google Cloud")
    assert permissions(gcs, bucket, writer) is None


def permissions(gcs: Gcs, bucket: str, token: str) -> Any:  # noqa: ANN401 - as it came
    path = f"/storage/v1/b/{bucket}/iam/testPermissions?permissions={CREATE}&permissions={DELETE}"
    return ask(gcs, "GET", path, token=token).json.get("permissions")


def test_everybody_may_ask_for_their_permissions() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    writer = f"writer-of-{bucket}"
    gcs.grant(writer, CREATE)
    assert permissions(gcs, bucket, writer) == [CREATE]
    assert permissions(gcs, bucket, gcs.token) == [CREATE, DELETE]


@pytest.mark.parametrize(
    ("method", "path", "permission"),
    [
        ("GET", "", "storage.buckets.get"),
        ("GET", "/o", "storage.objects.list"),
        ("GET", "/o/a.zip", "storage.objects.get"),
        ("GET", "/o/a.zip?alt=media", "storage.objects.get"),
        ("DELETE", "/o/a.zip", DELETE),
    ],
)
def test_each_other_request_needs_its_own_permission(method: str, path: str, permission: str) -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    token = f"reader-of-{bucket}"
    gcs.grant(token, CREATE)
    ask(gcs, "POST", insert(bucket), b"x", token=token)
    status, reason, message = ask(gcs, method, f"/storage/v1/b/{bucket}{path}", token=token).error
    assert (status, reason) == (403, "forbidden")
    assert f"does not have {permission} access to the Google Cloud Storage " in message
    gcs.grant(token, permission)
    assert ask(gcs, method, f"/storage/v1/b/{bucket}{path}", token=token).status in {200, 204}


def test_an_object_is_read_in_part_and_by_generation() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    ask(gcs, "POST", insert(bucket), b"0123456789")
    path = f"/storage/v1/b/{bucket}/o/a.zip?alt=media"
    middle, rest = ask(gcs, "GET", path, Range="bytes=2-4"), ask(gcs, "GET", path, Range="bytes=8-")
    assert (middle.status, middle.body, middle.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert (rest.body, rest.headers["x-goog-hash"].split(",")[0]) == (
        b"89",
        f"crc32c={crc32c_of(b'0123456789')}",
    )
    assert ask(gcs, "GET", path, Range="bytes=10-").status == 416
    assert ask(gcs, "GET", f"{path}&generation={gcs.objects(bucket)['a.zip'].generation}").status == 200
    assert ask(gcs, "GET", f"{path}&generation=7").error[:2] == (404, "notFound")


def test_a_list_has_pages_and_a_prefix() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    for name in ("a/1", "a/2", "a/3", "b/1"):
        ask(gcs, "POST", insert(bucket, name), b"x")
    first = ask(gcs, "GET", f"/storage/v1/b/{bucket}/o?prefix=a/&maxResults=2").json
    after = quote(first["nextPageToken"], safe="")
    rest = ask(gcs, "GET", f"/storage/v1/b/{bucket}/o?prefix=a/&maxResults=2&pageToken={after}").json
    assert [found["name"] for found in first["items"] + rest["items"]] == ["a/1", "a/2", "a/3"]
    assert "nextPageToken" not in rest


def test_what_is_not_there_is_404() -> None:
    with gcs_server() as gcs:
        bucket = gcs.new_bucket()
        gone = "The specified bucket does not exist."
        for kind in ("media", "resumable"):
            assert ask(gcs, "POST", insert("nowhere", kind=kind)).error == (404, "notFound", gone)
        missing = ask(gcs, "DELETE", f"/storage/v1/b/{bucket}/o/a.zip")
        assert missing.error == (404, "notFound", f"No such object: {bucket}/a.zip")
        assert ask(gcs, "GET", "/elsewhere").status == 404
        gcs.remove_bucket(bucket)
        assert ask(gcs, "POST", insert(bucket), b"x").error == (404, "notFound", gone)


def test_a_throttled_bucket_answers_429_for_a_while() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    address = begin(gcs, bucket)
    gcs.throttle(bucket, 3)
    for kind in ("media", "resumable"):
        assert ask(gcs, "POST", insert(bucket, kind=kind)).error[:2] == (429, "rateLimitExceeded")
    assert chunk(gcs, address, 0, len(LARGE)).status == 429
    assert chunk(gcs, address, 0, len(LARGE)).status == 200


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "x" * 1025, "é" * 513])
def test_a_bad_name_is_refused(name: str) -> None:
    gcs = shared_gcs()
    assert ask(gcs, "POST", insert(gcs.new_bucket(), name), b"x").error[:2] == (400, "invalid")


def test_a_name_may_have_1024_bytes_of_anything_else() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    name = "a b+c%2F/é?#&/" + "x" * 1009
    assert len(name.encode()) == 1024
    assert ask(gcs, "POST", insert(bucket, name), b"x").status == 200
    assert set(gcs.objects(bucket)) == {name}


def test_two_names_or_none_are_refused() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    assert multipart(gcs, bucket, {"name": "a"}, b"x", "&name=b").error[:2] == (400, "invalid")
    assert multipart(gcs, bucket, {}, b"x").error[:2] == (400, "required")


@pytest.mark.parametrize(
    "body",
    [b"", b"--cut\r\n\r\n{}\r\n--cut--", related({"name": "a"}, b"x")[:-2], related({"name": "a"}, b"x")[3:]],
)
def test_a_broken_multipart_body_is_refused(body: bytes) -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    path = insert(bucket, kind="multipart")
    assert ask(gcs, "POST", path, body, Content_Type="multipart/related; boundary=cut").status == 400
    assert ask(gcs, "POST", path, body, Content_Type="application/zip").status == 400
    assert gcs.objects(bucket) == {}


def test_bytes_that_look_like_a_boundary_stay_as_they_are() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    data = b"\r\n--cut\r\n\r\n\r\n--cut--\r\n"
    assert multipart(gcs, bucket, {"name": "a"}, data).status == 200
    assert gcs.objects(bucket)["a"].data == data


def test_a_key_must_be_one_that_the_service_may_use() -> None:
    """Asked for by the upload or by the bucket; the object names the key's version."""
    gcs = shared_gcs()
    bucket = gcs.new_bucket()
    key, elsewhere = gcs.new_key(), gcs.new_key("europe-west3")
    refusals = {
        elsewhere: (400, "invalid"),
        key + "x": (403, "forbidden"),
        "my-key": (400, "cloudKmsBadKey"),
        gcs.new_key(enabled=False): (400, "cloudKmsDisabledKey"),
    }
    for name, refusal in refusals.items():
        more = f"&ifGenerationMatch=0&kmsKeyName={name}"
        assert ask(gcs, "POST", insert(bucket, more=more), b"x").error[:2] == refusal
    reply = ask(gcs, "POST", insert(bucket, more=f"&ifGenerationMatch=0&kmsKeyName={key}"), b"x")
    assert reply.json["kmsKeyName"] == f"{key}/cryptoKeyVersions/1"
    by_default = gcs.new_bucket(location="EUROPE-WEST3", encryption={"defaultKmsKeyName": elsewhere})
    assert ask(gcs, "POST", insert(by_default), b"x").status == 200
    assert [gcs.objects(name)["a.zip"].kms_key for name in (bucket, by_default)] == [key, elsewhere]


def test_a_retention_policy_holds_objects_and_lets_new_ones_in() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket(retentionPolicy={"retentionPeriod": "3600"})
    assert ask(gcs, "POST", insert(bucket), b"x").json["retentionExpirationTime"]
    held = (403, "retentionPolicyNotMet")
    assert ask(gcs, "POST", insert(bucket, more=""), b"y").error[:2] == held
    assert ask(gcs, "DELETE", f"/storage/v1/b/{bucket}/o/a.zip").error[:2] == held
    assert gcs.objects(bucket)["a.zip"].data == b"x"


def test_a_bucket_without_object_rights_takes_no_acl() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket(iamConfiguration={"uniformBucketLevelAccess": {"enabled": True}})
    more = "&ifGenerationMatch=0&predefinedAcl=bucketOwnerFullControl"
    status, _, message = ask(gcs, "POST", insert(bucket, more=more), b"x").error
    assert (status, message.split(".")[0]) == (
        400,
        "Cannot insert legacy ACL for an object when uniform bucket-level access is enabled",
    )
    assert ask(gcs, "POST", insert(gcs.new_bucket(), more=more), b"x").status == 200


def test_a_storage_class_must_exist() -> None:
    gcs = shared_gcs()
    bucket = gcs.new_bucket(storageClass="COLDLINE")
    assert multipart(gcs, bucket, {"name": "a", "storageClass": "WARM"}, b"x").error[:2] == (400, "invalid")
    assert multipart(gcs, bucket, {"name": "a"}, b"x").json["storageClass"] == "COLDLINE"


def test_it_notes_every_request_and_no_large_body() -> None:
    with gcs_server() as gcs:
        bucket = gcs.new_bucket()
        ask(gcs, "POST", insert(bucket), b"x", X_Goog_Hash=f"crc32c={crc32c_of(b'x')}")
        ask(gcs, "POST", insert(bucket, "large"), LARGE)
        assert [(request.method, request.path, request.body) for request in gcs.seen] == [
            ("POST", insert(bucket), b"x"),
            ("POST", insert(bucket, "large"), b""),
        ]
        assert gcs.seen[0].headers["x-goog-hash"] == f"crc32c={crc32c_of(b'x')}"


def test_a_client_that_stands_still_in_the_handshake_stops_nobody_else(tmp_path: Path) -> None:
    authority, context = new_certificate(tmp_path)
    with gcs_server(context) as gcs:
        address = urlsplit(gcs.url)
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=10):
            bucket = gcs.new_bucket()
            upload(blob_of(gcs.url, bucket, authority=authority), b"x")
        assert gcs.objects(bucket)["a.zip"].data == b"x"
