"""`siem`, and `siem:` in a configuration: which consumers there are, a setup, and what a name chooses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from exporter.cli import app
from exporter.siem.consumers import CONSUMERS
from tests.kit.command_line import START, Vendor

if TYPE_CHECKING:
    from pathlib import Path

S3 = {"type": "s3", "bucket": "acme-audit", "prefix": "vendor", "region": "eu-central-1"}


@pytest.fixture
def two(tmp_path: Path) -> Vendor:
    """An export to S3 and one to a folder."""
    made = Vendor(tmp_path)
    made.export("acme", destination=S3)
    made.export("globex")
    return made


def chosen(vendor: Vendor, name: str, export: str) -> dict[str, Any]:
    answer = vendor("siem", name, "--export", export, "--json")
    assert answer.status == 0, answer.err
    found: dict[str, Any] = json.loads(answer.out)
    return found


def abouts(vendor: Vendor, name: str, export: str = "acme") -> list[str]:
    return [one["about"] for one in chosen(vendor, name, export)["cautions"]]


def test_without_a_name_it_lists_who_reads_what_and_needs_no_configuration() -> None:
    out = CliRunner().invoke(app, ["siem"]).stdout
    for name, consumer in CONSUMERS.items():
        (line,) = [line for line in out.splitlines() if line.split(" ")[0] == name]
        assert all(word in line for word in (*consumer.destinations, *consumer.archives))
    machine = json.loads(CliRunner().invoke(app, ["siem", "--json"]).stdout)
    assert machine["wazuh"]["max_record_bytes"] == 60_000


def test_it_shows_warnings_then_files_then_what_to_fill_in(two: Vendor) -> None:
    out = two("siem", "elastic", "--export", "acme").out
    places = [
        "Elastic (Filebeat or Elastic Agent) for export acme: vendor/audit/acme/*.zip",
        "WARNING elastic reads gzip, and this export writes zip",
        "write instead: archive: gzip in the export itself, or siem: elastic there and no archive",
        "--- filebeat.yml: ",
        "queue_url: https://sqs.eu-central-1.amazonaws.com/<AWS ACCOUNT ID>/audit-acme-elastic",
        "--- reader-policy.json: ",
        "--- To fill in",
        "<AWS ACCOUNT ID>: the 12 digits",
        "ask again when it is changed",
    ]
    found = [out.find(place) for place in places]
    assert found == sorted(found)
    assert found[0] == 0


def test_with_several_exports_it_says_which_to_choose_from(two: Vendor) -> None:
    answer = two("siem", "elastic")
    assert answer.status == 2
    assert "choose one with --export NAME: acme, globex" in answer.err
    two.settings["exports"].pop()
    assert two("siem", "elastic").status == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("elastik",), "did you mean elastic?"),
        (("xyz",), "see them all with: audit-exporter siem"),
        (("elastic", "--export", "acne"), "did you mean acme?"),
        (("elastic", "--export", "q"), "there are acme, globex"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_ones(two: Vendor, words: tuple[str, ...], told: str) -> None:
    answer = two("siem", *words)
    assert answer.status == 2
    assert told in answer.err


def test_an_export_that_was_set_aside_says_why(two: Vendor) -> None:
    two.settings["exports"][0]["every"] = "5h"
    answer = two("siem", "elastic", "--export", "acme")
    assert answer.status == 2
    assert "exports[0].every" in answer.err


def test_a_setup_can_be_made_where_the_source_is_not(two: Vendor) -> None:
    two.settings["exports"][0]["format"] = "native"
    two.database.unlink()
    assert chosen(two, "splunk-addon", "acme")["sections"]


def test_no_secret_is_printed(two: Vendor) -> None:
    two.settings["exports"][0]["destination"] = S3 | {
        "access_key_id": "canary-key-id",
        "secret_access_key": "canary-secret",
        "session_token": "canary-session",
    }
    for name in CONSUMERS:
        answer = two("siem", name, "--export", "acme")
        assert "canary" not in answer.out + answer.err


# --- siem: in a configuration ------------------------------------------------------------------------


def test_siem_chooses_archive_body_and_limit(two: Vendor) -> None:
    two.settings["exports"][0]["siem"] = "elastic"
    assert abouts(two, "elastic") == []
    assert "WARNING" not in two("siem", "elastic", "--export", "acme").out
    two.settings["exports"][0] |= {"siem": "datadog", "every": "4h"}
    assert abouts(two, "datadog") == []
    two.settings["exports"][0] |= {"siem": "wazuh"}
    assert abouts(two, "wazuh") == []


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("elastic", "archive", "zip"),
        ("elastic", "body", "json_array"),
        ("datadog", "max_record", "1MB"),
        ("datadog", "part_limit", "33MB"),
        ("datadog", "every", "24h"),
        ("datadog", "grace", "20h"),
        ("wazuh", "part_limit", "1GiB"),
    ],
)
def test_what_stands_beside_siem_wins_and_is_warned_of(
    two: Vendor, name: str, setting: str, value: str
) -> None:
    two.settings["exports"][0] |= {"siem": name, "every": "4h", setting: value}
    assert abouts(two, name) == ["every" if setting == "grace" else setting]


def test_the_exports_own_level_wins_over_the_defaults(two: Vendor) -> None:
    """Whichever of the two says `siem` and whichever says it outright."""
    two.settings["defaults"] |= {"archive": "zip"}
    two.settings["exports"][0]["siem"] = "elastic"
    assert abouts(two, "elastic") == []
    two.settings["defaults"] = {"siem": "elastic"}
    two.settings["exports"][0] = {"account": "acme", "destination": S3, "archive": "zip"}
    assert abouts(two, "elastic") == ["archive"]
    two.settings["exports"][0] = {"account": "acme", "destination": S3}
    assert abouts(two, "elastic") == []


def test_the_hint_of_a_caution_helps_where_the_defaults_say_otherwise(two: Vendor) -> None:
    """Either half of it."""
    two.settings["defaults"] |= {"siem": "wazuh", "body": "json_array"}
    assert abouts(two, "wazuh") == ["body"]
    two.settings["exports"][0]["siem"] = "wazuh"
    assert abouts(two, "wazuh") == []
    two.settings["exports"][0] = {"account": "acme", "destination": S3, "body": "ndjson"}
    assert abouts(two, "wazuh") == []


def test_an_unknown_siem_is_a_mistake_with_the_nearest_name(two: Vendor) -> None:
    two.settings["exports"][0]["siem"] = "elastik"
    answer = two("siem", "elastic", "--export", "acme")
    assert "exports[0].siem" in answer.err
    assert "did you mean 'elastic'?" in answer.err


def test_check_warns_of_what_the_exports_reader_cannot_read(tmp_path: Path) -> None:
    """And goes on: a warning keeps nobody from delivering."""
    vendor = Vendor(tmp_path)
    vendor.export("acme", siem="elastic", archive="zip")
    vendor.export("globex", siem="elastic", destination={"type": "directory", "path": "other"})
    vendor.insert("acme", START)
    vendor.start()
    answer = vendor("check", "--json")
    found = [one for one in json.loads(answer.out) if one["level"] == "warning"]
    warned = {(one["subject"], one["message"].partition(",")[0], one["hint"]) for one in found}
    place = ("elastic reads from s3", "write instead: destination: {type: s3, …}")
    assert {one for one in warned if "elastic" in one[1]} == {
        ("acme", *place),
        ("globex", *place),
        (
            "acme",
            "elastic reads gzip",
            "write instead: archive: gzip in the export itself, or siem: elastic there and no archive",
        ),
    }
    assert answer.status == 0


def test_an_export_of_a_query_has_a_setup_too(tmp_path: Path) -> None:
    vendor = Vendor(tmp_path)
    vendor.settings["exports_from"] = {"query": "SELECT settings FROM audit_exports"}
    vendor.execute("CREATE TABLE audit_exports (settings TEXT)")
    row = {"account": "acme", "siem": "qradar", "destination": S3}
    vendor.execute("INSERT INTO audit_exports VALUES (?)", json.dumps(row))
    assert abouts(vendor, "qradar") == []


def test_a_setup_needs_no_source_unless_the_format_takes_its_names(two: Vendor) -> None:
    """Whoever makes it may have neither the database nor its password."""
    two.settings["source"]["url"] = {"env": "NOBODY_SET_THIS"}
    assert chosen(two, "elastic", "acme")["sections"]
    two.settings["exports"][0]["format"] = "native"
    assert chosen(two, "elastic", "acme")["sections"]


def test_events_are_set_up_by_the_destinations_own_settings(two: Vendor) -> None:
    url = "https://splunk.acme.example:8088"
    destination = {"type": "splunk_hec", "url": url, "token": "canary", "index": "audit"}
    two.settings["exports"][0] |= {"siem": "splunk-hec", "destination": destination}
    found = chosen(two, "splunk-hec", "acme")
    assert found["cautions"] == []
    text = "".join(section["text"] for section in found["sections"])
    assert url in text
    assert "canary" not in text
    assert abouts(two, "elastic") == ["destination"]
