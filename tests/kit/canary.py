"""A distinct secret for every field that takes one, and spies at every place where it could come out.

The fields are found in the settings themselves, so that none is forgotten. What has to be true is in
``test_secrets``.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final, get_args
from urllib.parse import quote, quote_plus
from zipfile import ZipFile, is_zipfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from exporter.notation.secret import Secret
from tests.kit.command_line import DAY, Vendor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from tests.kit.hostile import Hostile

KINDS: Final = ("text", "env", "file")
"""How a configuration gives a secret."""

_NUMBERS: Final = count(1)


def new_canary(word: str) -> str:
    """A secret with characters that a URL, JSON and base64 write otherwise."""
    return f"canary+{next(_NUMBERS):04}/{word}/zwitscher="


# --- which fields take a secret, and what a customer writes there --------------------------------------


def secret_fields(model: type[BaseModel]) -> set[str]:
    """The names of a model's fields that take a secret, whatever else they take."""

    def holds(annotation: object) -> bool:
        return annotation is Secret or any(map(holds, get_args(annotation)))

    return {name for name, info in model.model_fields.items() if holds(info.annotation)}


@dataclass
class Planted:
    """The value of one field, and what in it is secret; ``shown``: the store comes to see it."""

    value: str
    secrets: list[str]
    shown: bool = True


def plain(word: str) -> Planted:
    canary = new_canary(word)
    return Planted(canary, [canary])


def in_base64(word: str) -> Planted:
    """A key as Azure has them."""
    canary = base64.b64encode(new_canary(word).encode()).decode()
    return Planted(canary, [canary])


@dataclass
class Pair:
    """A private key and a certificate for it, as PEM texts; secret is each line of the key."""

    key: str
    certificate: str

    @property
    def secrets(self) -> list[str]:
        return [line for line in self.key.splitlines() if not line.startswith("-----")]


def new_pair() -> Pair:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vendor")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    text = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    return Pair(text, certificate.public_bytes(pem).decode())


@dataclass
class Way:
    """One way to grant access: a destination's settings, and what is planted in which of its fields."""

    type: str
    planted: dict[str, Planted]
    settings: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Planted] = field(default_factory=dict)
    """Settings that name a file with a secret, whichever way the others are given."""

    def destination(self, place: str, kind: str, vendor: Vendor, environ: dict[str, str]) -> dict[str, Any]:
        """The settings, with the secrets given in this kind; PLACE is where the store sees whose they are."""
        given: dict[str, object] = {
            name: value.replace("PLACE", place) if isinstance(value, str) else value
            for name, value in self.settings.items()
        }
        for name, planted in self.planted.items():
            label, value = f"{place}-{name}", planted.value.replace("PLACE", place)
            given[name] = value
            if kind == "env":
                environ[label.upper().replace("-", "_")] = value
                given[name] = {"env": label.upper().replace("-", "_")}
            elif kind == "file":
                path = vendor.folder / "secrets" / label
                path.write_text(f"{value}\n")
                given[name] = {"file": str(path)}
        for name, planted in self.files.items():
            path = vendor.folder / "secrets" / f"{place}-{name}"
            path.write_text(planted.value)
            given[name] = str(path)
        where = {"azure": "container", "splunk_hec": "index"}.get(self.type, "bucket")
        return {"type": self.type, where: place, **given}

    def secrets(self, *, shown: bool = False) -> list[str]:
        """All of them, or those that the store comes to see."""
        everything = [*self.planted.values(), *self.files.values()]
        chosen = [planted for planted in everything if planted.shown or not shown]
        return [secret for planted in chosen for secret in planted.secrets]


def service_account(host: str) -> Planted:
    pair = new_pair()
    info = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "0d9f",
        "private_key": pair.key,
        "client_email": "writer@project.iam.gserviceaccount.com",
        "token_uri": f"https://{host}/token/PLACE",
    }
    return Planted(json.dumps(info), pair.secrets, shown=False)


def federation(host: str) -> Planted:
    """What holds no secret itself: that is in the file whose token it sends."""
    info = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"https://{host}/token/PLACE",
        "credential_source": {"file": "/nowhere"},
    }
    return Planted(json.dumps(info), [])


def certificate() -> Planted:
    pair = new_pair()
    return Planted(pair.key + pair.certificate, pair.secrets, shown=False)


def ways(host: str, authority: str) -> list[Way]:
    """Every way to grant access: together they fill in every field that takes a secret."""
    url = f"https://{host}"
    s3 = {"endpoint_url": url, "path_style": True, "region": "us-east-1", "ca_file": authority}
    gcs = {"endpoint_url": url, "ca_file": authority}
    azure = {"account_url": f"{url}/account", "ca_file": authority}
    hec = {"url": url, "gzip": False, "ca_file": authority}  # the store looks for PLACE in what it reads
    application = {"tenant_id": "PLACE", "client_id": "PLACE", "authority_host": host}
    key = in_base64("account-key")
    connection = f"AccountName=account;AccountKey={key.value};BlobEndpoint={url}/account"
    signature = new_canary("sas")
    sas = f"sv=2026-02-06&se=2999-01-01&sp=c&sr=c&sig={quote(signature, safe='')}"
    words = ("access_key_id", "secret_access_key", "session_token", "external_id")
    keys = {word: plain(word) for word in words}
    role = {word: plain(word) for word in words}
    return [
        Way("s3", {word: keys[word] for word in words[:3]}, s3),
        Way("s3", role, s3 | {"role_arn": "arn:aws:iam::123456789012:role/PLACE"}),
        Way("azure", {"connection_string": Planted(connection, key.secrets)}, {"ca_file": authority}),
        Way("azure", {"account_key": in_base64("key")}, azure),
        Way("azure", {"sas": Planted(sas, [signature])}, azure),
        Way("azure", {"client_secret": plain("client_secret")}, azure | application),
        Way("azure", {"client_certificate": certificate()}, azure | application),
        Way("gcs", {"credentials": service_account(host)}, gcs),
        Way("gcs", {"credentials": federation(host)}, gcs, {"subject_token_file": plain("subject-token")}),
        Way("splunk_hec", {"token": plain("hec-token")}, hec),
        Way("splunk_hec", {"token": plain("hec-password")}, hec | {"auth": "basic", "acknowledge": True}),
    ]


# --- the command line among spies ------------------------------------------------------------------------

PROGRAM: Final = """
import json, logging, sys, traceback
logging.basicConfig(level=logging.DEBUG)
from exporter import turns
from exporter.destinations.splunk_hec import sender
from exporter.cli import app
turns.RETRIES_S = ()
sender.PAUSES_S = ()
{mutant}
for words in json.load(sys.stdin):
    try:
        app(words)
    except SystemExit as end:
        print("exit", end.code, flush=True)
    except BaseException:
        traceback.print_exc()
"""
COMMANDS: Final = (
    ("check",),
    ("check", "--json"),
    ("run",),
    ("run", "--json"),
    ("run", "--dry-run"),
    ("status",),
    ("status", "--json"),
    ("schema",),
)


@dataclass
class Said:
    """All that came out of a program, by where it came out."""

    places: dict[str, str]

    def leaks(self, secrets: Mapping[str, str]) -> set[tuple[str, str]]:
        """Which secret came out where, in whatever spelling."""
        return {
            (name, where)
            for where, text in self.places.items()
            for secret, name in secrets.items()
            if any(spelling in text for spelling in spellings(secret))
        }


def spellings(secret: str, *, aligned: bool = False) -> set[str]:
    """As it is, and as URLs, JSON and base64 have it; unless ``aligned`` also in base64 of a longer text."""
    quoted = {quote(secret), quote(secret, safe=""), quote_plus(secret)}
    lower = {re.sub("%..", lambda found: found[0].lower(), one) for one in quoted}
    whole = {secret, *quoted, *lower, json.dumps(secret)[1:-1]}
    if aligned:
        return {*whole, base64.b64encode(secret.encode()).decode()}
    shifted = (base64.b64encode(b"\0" * shift + secret.encode()).decode() for shift in range(3))
    return {*whole, *(coded[4:-4] for coded in shifted)}


@dataclass
class Seen:
    """Processes as everybody on the machine, or at least their owner, sees them."""

    command_lines: set[str]
    environments: set[str] = field(default_factory=set)


@dataclass
class Stage:
    """A vendor whose exports have a canary in every field, and where each of them comes from."""

    vendor: Vendor
    hostile: Hostile
    environ: dict[str, str]
    secrets: dict[str, str]

    def run(self, *commands: tuple[str, ...], mutant: str = "") -> Said:
        """These commands in one process, watched from outside."""
        self.vendor.write()
        program = PROGRAM.format(mutant=mutant)
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | self.environ,
        )
        over = Event()
        seen = Seen({command_line(process.pid)})
        spy = Thread(target=watch_children, args=(process.pid, seen, over))
        spy.start()
        config = ("-c", str(self.vendor.config))
        everything = [[*words, *(() if words == ("schema",) else config)] for words in commands]
        out, err = process.communicate(json.dumps(everything), timeout=120)
        over.set()
        spy.join()
        assert process.returncode == 0, err
        own = "\n".join(seen.environments)
        for name, value in self.environ.items():  # as the operator gave them; they are handed down
            own = own.replace(f"{name}={value}\0", "")
        said = {"stdout": out, "stderr": err, "environments": own}
        return Said(said | {"command lines": "\n".join(seen.command_lines)} | self._files())

    def _files(self) -> dict[str, str]:
        """Everything in the vendor's folder that is not where the secrets come from."""
        given = {self.vendor.config, *(self.vendor.folder / "secrets").iterdir()}
        files = [path for path in self.vendor.folder.rglob("*") if path.is_file() and path not in given]
        return {
            str(path.relative_to(self.vendor.folder)): _bytes_in(path).decode("latin-1") for path in files
        }


def _bytes_in(path: Path) -> bytes:
    data = path.read_bytes()
    if not is_zipfile(path):
        return data
    with ZipFile(path) as archive:
        return data + b"".join(map(archive.read, archive.namelist()))


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode("latin-1")


def watch_children(pid: int, seen: Seen, over: Event) -> None:
    """Notes every process below this one, until it is over."""
    while not over.wait(0.005):
        for child in _below(pid):
            with suppress(OSError):  # it has ended
                seen.command_lines.add(command_line(child))
                seen.environments.add(Path(f"/proc/{child}/environ").read_bytes().decode("latin-1"))


def _below(pid: int) -> list[int]:
    try:
        text = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:
        return []
    children = [int(word) for word in text.split()]
    return [*children, *(one for child in children for one in _below(child))]
