"""The canary: a distinct secret in every field that takes one, and none of them ever comes out anywhere.

Looked at: both outputs of every command with all loggers at DEBUG, tracebacks, every file that the program
makes, and the processes that it starts, while a hostile store gives back every secret it can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from exporter.config.settings import LedgerSettings, SourceSettings
from exporter.destinations.registry import DESTINATIONS
from exporter.notation.secret import without
from tests.kit.canary import COMMANDS, KINDS, Said, Stage, new_canary, secret_fields, spellings, ways
from tests.kit.command_line import START, Vendor
from tests.kit.hostile import hostile_server
from tests.kit.servers import new_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def test_a_secret_is_planted_in_every_field_that_takes_one() -> None:
    """A new field, or a new destination, is not forgotten: it needs a way in `ways`."""
    planted: dict[str, set[str]] = {}
    for way in ways("127.0.0.1:1", "ca.pem"):
        planted.setdefault(way.type, set()).update(way.planted)
    assert planted == {name: found for name, model in DESTINATIONS.items() if (found := secret_fields(model))}
    assert secret_fields(SourceSettings) == {"url", "password", "admin_url"}
    assert secret_fields(LedgerSettings) == {"url", "password"}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Every way to grant access, given as text, by environment and by file, and a directory that works."""
    vendor = Vendor(tmp_path / "vendor")
    (vendor.folder / "secrets").mkdir()
    authority, context = new_certificate(tmp_path)
    environ: dict[str, str] = {}
    secrets: dict[str, str] = {}
    vendor.export("well")
    vendor.insert("well", START)
    with hostile_server(context) as hostile:
        for kind in KINDS:
            for number, way in enumerate(ways(hostile.host, str(authority))):
                place = f"place-{kind}-{number:02}"
                destination = way.destination(place, kind, vendor, environ)
                vendor.export(place, destination=destination)
                vendor.insert(place, START)
                hostile.known[place] = way.secrets(shown=True)
                hostile.tokens[place] = new_canary("token")
                everything = [*way.secrets(), hostile.tokens[place]]
                secrets |= dict.fromkeys(everything, f"{way.type} {'/'.join(way.planted)} as {kind}")
        yield Stage(vendor, hostile, environ, secrets)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["refused", "let in", "unavailable", "garbage", "redirect", "reset"])
def test_no_secret_comes_out_whatever_a_store_answers(stage: Stage, mode: str) -> None:
    stage.hostile.mode = mode
    stage.vendor.start()
    said = stage.run(*COMMANDS)
    assert said.leaks(stage.secrets) == set()
    assert said.places["stdout"].count("exit ") == len(COMMANDS), said.places["stderr"]
    assert set(stage.hostile.known) <= stage.hostile.asked  # every way came to be used
    assert "well/audit_well" in said.places["stdout"]  # and so did the one that is well


@pytest.mark.slow
def test_no_secret_comes_out_when_line_breaks_got_into_it(stage: Stage) -> None:
    """No request can carry them, which the libraries say by showing what they were given."""
    stage.vendor.start()
    for path in (stage.vendor.folder / "secrets").iterdir():
        path.write_bytes(path.read_bytes() + b"\r\n\n")
    said = stage.run(("check",), ("run",))
    assert said.leaks(stage.secrets) == set()
    assert said.places["stdout"].count("exit 10") == 2, said.places["stderr"]


SPILL: Final = """
import os, pathlib, subprocess
from exporter.notation.secret import Secret
reveal = Secret.reveal
def spill(secret):
    value = reveal(secret)
    if value.startswith("canary"):
        {how}
        Secret.reveal = reveal
    return value
Secret.reveal = spill
"""
MUTANTS: Final = {
    "what a store answers is shown as it is": (
        "import exporter.destinations.s3.words as words; words.without = lambda text, _: text",
        {"stdout", "stderr", "ledger.db"},
    ),
    "the libraries log": (
        "import logging, exporter.wiring; logging.getLogger('botocore').setLevel(logging.NOTSET)",
        {"stderr"},
    ),
    "a secret is an argument of a program": (
        SPILL.format(how='subprocess.run(["sh", "-c", "sleep 0.3", value])'),
        {"command lines"},
    ),
    "a secret is in the environment of a program": (
        SPILL.format(how='subprocess.run(["sleep", "0.3"], env={**os.environ, "SECRET": value})'),
        {"environments"},
    ),
    "a secret is left in the workspace, in base64": (
        SPILL.format(
            how="import base64; path = pathlib.Path('WORK'); path.mkdir(exist_ok=True);"
            " (path / 'left').write_bytes(base64.b64encode(value.encode()))"
        ),
        {"work/left"},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_leak_is_found(stage: Stage, mutant: str) -> None:
    stage.vendor.start()
    code, where = MUTANTS[mutant]
    said = stage.run(("run",), mutant=code.replace("WORK", str(stage.vendor.folder / "work")))
    assert where <= {place for _, place in said.leaks(stage.secrets)}


# --- what is taken out of a text ---------------------------------------------------------------------------


@pytest.mark.parametrize("spelled", sorted(spellings('canary+ä/1="?', aligned=True)))
def test_a_secret_is_taken_out_of_a_text_in_every_spelling(spelled: str) -> None:
    assert without(f"for {spelled}: no", ['canary+ä/1="?\n', None]) == "for ***: no"


def test_of_a_secret_with_several_lines_each_is_taken_out_and_no_short_word() -> None:
    key = "-----BEGIN-----\nMIIEvQIBADAN\nshort\n-----END KEY-----\n"
    assert without("MIIEvQIBADAN shortly -----END KEY-----", [key]) == "*** shortly ***"


# --- in this process ---------------------------------------------------------------------------------------


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vendor:
    monkeypatch.setattr("exporter.turns.RETRIES_S", ())
    made = Vendor(tmp_path)
    made.export("well")
    made.start()
    return made


def assert_silent(vendor: Vendor, *words: str, canary: str) -> int:
    """That a command says nothing of the canary, and neither does what it leaves behind; its status."""
    answer = vendor(*words)
    files = [path for path in vendor.folder.rglob("*") if path.is_file() and path != vendor.config]
    kept = "".join(path.read_bytes().decode("latin-1") for path in files if path.name != "secret")
    said = Said({"stdout": answer.out, "stderr": answer.err, "files": kept})
    assert said.leaks({canary: "the canary"}) == set()
    return answer.status


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["source", "ledger"])
@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_no_password_of_a_database_comes_out(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch, scheme: str, part: str, kind: str
) -> None:
    """In its URL and beside it, for reading and for preparing; nobody answers there."""
    canary = "canary-zwitscher"
    url = f"{scheme}://audit:{canary}@127.0.0.1:1/audit"
    monkeypatch.setenv("CANARY_URL", url)
    monkeypatch.setenv("CANARY", canary)
    (vendor.folder / "url").mkdir()
    for name, text in (("url/secret", url), ("secret", canary)):
        (vendor.folder / name).write_text(text)
    given = {
        "text": (url, canary),
        "env": ({"env": "CANARY_URL"}, {"env": "CANARY"}),
        "file": ({"file": "url/secret"}, {"file": "secret"}),
    }[kind]
    apart = url.replace(f":{canary}", "")
    for settings in ({"url": given[0]}, {"url": apart, "password": given[1]}):
        vendor.settings[part] |= settings
        for words in (("run",), ("check", "--json"), ("status",)):
            assert_silent(vendor, *words, canary=canary)
    if part == "source":
        vendor.settings["source"]["admin_url"] = given[0]
        assert assert_silent(vendor, "source", "prepare", "--apply", canary=canary) in {2, 20}


WRONG: Final[tuple[Callable[[str], object], ...]] = (
    lambda canary: [canary],
    lambda canary: {"evn": canary},
    lambda canary: {"env": "A", "file": canary},
    lambda canary: {"env": [canary]},
    lambda canary: {"file": {"file": canary}},
)


@pytest.mark.parametrize(
    ("destination", "name"),
    [(name, secret) for name, model in DESTINATIONS.items() for secret in sorted(secret_fields(model))],
)
def test_a_mistake_in_a_configuration_does_not_show_the_secret(
    vendor: Vendor, destination: str, name: str
) -> None:
    """Given in a wrong way, under a mistyped key, or beside what it does not go with."""
    canary = "canary-zwitscher"
    values: list[dict[str, object]] = [{name: wrong(canary)} for wrong in WRONG]
    values += [{f"{name}s": canary}, {name: canary, "buckt": "b"}, {name: canary}]
    for number, value in enumerate(values):
        vendor.export(f"wrong-{number}", destination={"type": destination, **value})
    for words in (
        ("run", "--json"),
        ("check",),
        *(("run", "--export", f"wrong-{number}") for number in (0, 5)),
    ):
        assert assert_silent(vendor, *words, canary=canary) in {2, 10}


@pytest.mark.parametrize(
    "destination",
    [
        {"type": "s3", "bucket": "b", "endpoint_url": "https://user:CANARY@127.0.0.1:1"},
        {"type": "gcs", "bucket": "bucket", "endpoint_url": "https://CANARY@127.0.0.1:1"},
        {
            "type": "azure",
            "container": "audit",
            "account_url": "https://account.blob.core.windows.net/?sig=CANARY",
        },
        {"type": "azure", "container": "audit", "account_url": "https://CANARY@127.0.0.1:1/account"},
        {
            "type": "azure",
            "container": "audit",
            "connection_string": "BlobEndpoint=https://x;AccountKey CANARY",
        },
        {
            "type": "gcs",
            "bucket": "bucket",
            "credentials": '{"type": "service_account", "private_key": CANARY}',
        },
        {"type": "splunk_hec", "url": "https://x:CANARY@127.0.0.1:1", "token": "a"},
        {"type": "splunk_hec", "url": "127.0.0.1:1/services/collector?token=CANARY", "token": "a"},
        {"type": "splunk_hec", "url": "https://127.0.0.1:1", "token": "Splunk CANARY"},
        {"type": "gcs", "bucket": "bucket", "credentials": '{"type": "CANARY", "private_key": "CANARY"}'},
    ],
)
def test_a_secret_in_a_wrong_place_is_not_shown(vendor: Vendor, destination: dict[str, str]) -> None:
    """Where people paste them: in front of the host, behind it, or in text that cannot be understood."""
    canary = "canary-zwitscher"
    pasted = {key: value.replace("CANARY", canary) for key, value in destination.items()}
    vendor.export("pasted", destination=pasted)
    vendor.insert("pasted", START)
    for words in (("check",), ("run", "--json"), ("status",)):
        assert assert_silent(vendor, *words, canary=canary) in {0, 10}
