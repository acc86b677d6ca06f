"""The setup packs: names, times and rights fit this consumer and this export, or it is warned of."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import Rendering
from exporter.siem.consumers import CONSUMERS
from exporter.siem.delivery import Delivery, Origin, Pace, TimeField, delivery_of
from exporter.siem.packs import pack_of
from exporter.siem.sections import slug
from tests.siem.deliveries import AZURE, ELSEWHERE, GCS, MAPPINGS, S3, delivery, files
from tests.siem.readers import conf_of

if TYPE_CHECKING:
    from exporter.siem.consumers import Siem

# --- names -------------------------------------------------------------------------------------------

NAMES = [
    "客户一",
    "客户二",
    "a.b",
    "a_b",
    "A-B",
    "a-b",
    "a--b",
    "a",
    "x" * 60,
    "x" * 61,
    "x" * 28,
    "x" * 27 + "-y",
    "",
]


def named(export: str, reader: str) -> str:
    return slug(replace(delivery(S3, export=export), reader=reader))


def test_no_two_exports_and_no_two_consumers_of_one_get_the_same_queue() -> None:
    found = [named(export, reader) for export in NAMES for reader in CONSUMERS]
    assert len(set(found)) == len(found)
    assert named("a-b", "elastic") == "audit-a-b-elastic", "a name that can be one is itself"


@given(st.text(max_size=80), st.sampled_from(list(CONSUMERS)))
def test_every_system_takes_the_name_of_a_queue(export: str, reader: Siem) -> None:
    """Azure's are the strictest, and one of them has `-dead` behind it."""
    assert re.fullmatch("[a-z0-9](-?[a-z0-9])+", named(export, reader))
    assert len(named(export, reader) + "-dead") <= 63


def test_a_table_of_sentinel_differs_where_its_name_differs_in_more_than_case() -> None:
    tables = set()
    for export in ("a-b", "ab", "A-B", "a_b"):
        texts = files("sentinel-aws", delivery(S3, export=export))
        tables.add(json.loads(texts["table.json"])["properties"]["schema"]["name"].lower())
    assert len(tables) == 4


@pytest.mark.parametrize("name", ["elastic", "datadog"])
def test_where_s3_has_several_readers_a_topic_is_named(name: Siem) -> None:
    assert any("SNS topic" in note for note in pack_of(name, delivery(S3)).notes)
    assert not any("SNS topic" in note for note in pack_of(name, delivery(ELSEWHERE)).notes)


# --- times -------------------------------------------------------------------------------------------


def processors(found: Delivery) -> dict[str, Any]:
    (source,) = yaml.safe_load(files("elastic", found)["filebeat.yml"])["filebeat.inputs"]
    return {name: options for one in source["processors"] for name, options in one.items()}


def splunk(found: Delivery) -> dict[str, str]:
    conf = conf_of(files("splunk-addon", found)["props.conf"])
    return dict(conf[conf.sections()[0]])


def test_a_native_time_without_a_zone_is_utc_to_whoever_can_be_told() -> None:
    """As PostgreSQL and MariaDB have it: 2026-11-20T14:02:05.759970."""
    found = delivery(S3, "native")
    assert found.time == TimeField(("created_at",), "")
    props = splunk(found)
    assert (props["TZ"], "TIME_FORMAT" in props) == ("UTC", False)
    (quoted,) = re.findall(props["TIME_PREFIX"] + "(.{26})", '{"created_at":"2026-11-20T14:02:05.759970"}')
    assert quoted == "2026-11-20T14:02:05.759970"
    moment = processors(found)["timestamp"]
    assert (moment["field"], moment["timezone"]) == ("audit.created_at", "UTC")
    assert "2006-01-02T15:04:05.999999999" in moment["layouts"]
    assert 'timezone="UTC", field="created_at"' in files("logscale", found)["parser.txt"]
    (remapper,) = json.loads(files("datadog", found)["pipeline.json"])["processors"]
    assert remapper["sources"] == ["created_at"]
    rule = json.loads(files("sentinel-aws", found)["data-collection-rule.json"])["properties"]
    assert 'coalesce(todatetime(["created_at"]), now())' in rule["dataFlows"][0]["transformKql"]


@pytest.mark.parametrize("name", ["qradar", "secops"])
def test_where_no_zone_can_be_told_a_note_says_which_it_is(name: Siem) -> None:
    def told(form: str) -> bool:
        return any("UTC where it names no zone" in note for note in pack_of(name, delivery(S3, form)).notes)

    assert told("native")
    assert not told("standard")


def test_a_native_time_is_known_by_its_name_where_the_source_is_not_there() -> None:
    rendering = Rendering("native", None, archive="gzip")
    found = delivery_of("acme", "acme", S3, rendering, Origin("at"))
    assert (found.time, found.fields) == (TimeField(("at",), ""), {})


@pytest.mark.parametrize(
    ("unit", "time"),
    [
        ("s", TimeField(("at",), "epoch_s")),
        ("ms", TimeField(("at",), "epoch_ms")),
        ("us", None),
        ("ns", None),
    ],
)
def test_a_native_time_of_numbers_counts_what_the_source_says(unit: str, time: TimeField | None) -> None:
    rendering = Rendering("native", None, archive="gzip")
    assert delivery_of("acme", "acme", S3, rendering, Origin("at", ["id", "at"], unit)).time == time


def test_splunk_takes_no_zone_from_its_own_machine_where_no_time_is_known() -> None:
    found = delivery_of("acme", "acme", S3, Rendering("native", None, archive="gzip"), Origin("at", [], "ns"))
    assert splunk(found)["TZ"] == "UTC"
    assert splunk(found)["DATETIME_CONFIG"] == "CURRENT"


@pytest.mark.parametrize(
    ("form", "script"),
    [
        ("cef", 'parseCEF()\n| parseTimestamp("millis", field="cef.ext.rt")\n'),
        ("leef", 'parseLEEF(parsetime=false)\n| parseTimestamp("millis", field="leef.ext.devTime")\n'),
        ("ocsf", 'parseJson()\n| parseTimestamp("millis", field="time")\n'),
    ],
)
def test_logscale_parses_each_kind_of_line_and_its_time(form: str, script: str) -> None:
    assert files("logscale", delivery(S3, form))["parser.txt"] == script


def test_datadog_remaps_no_date_of_a_line_that_has_no_attributes() -> None:
    assert json.loads(files("datadog", delivery(S3, "cef"))["pipeline.json"])["processors"] == []
    assert json.loads(files("datadog", delivery(S3, "ocsf"))["pipeline.json"])["processors"]


# --- what each cloud grants, and what is warned of -----------------------------------------------------


def grant(name: Siem, found: Delivery) -> dict[str, str]:
    command = shlex.split(files(name, found)["google-cloud.sh"].splitlines()[0])
    return dict(one.removeprefix("--").split("=", 1) for one in command if one.startswith("--"))


def test_a_reader_that_lists_a_bucket_of_google_may_list_it() -> None:
    """Listing is a right on the bucket; whoever is told of new objects does not need it."""
    objects = 'resource.name.startsWith("projects/_/buckets/acme-audit/objects/vendor/audit/acme/")'
    bucket = 'resource.name == "projects/_/buckets/acme-audit"'
    lists = grant("elastic", delivery(GCS))
    assert lists["condition"] == f"expression={objects} || {bucket},title=audit-acme-elastic"
    assert grant("secops", delivery(GCS))["condition"] == f"expression={objects},title=audit-acme-secops"


def test_a_comma_in_a_prefix_parts_no_condition() -> None:
    condition = grant("secops", delivery(GCS | {"prefix": 'a,"b'}))["condition"]
    assert condition.startswith("^~^expression=")
    assert condition.endswith("~title=audit-acme-secops")
    assert r"objects/a,\"b/audit" in condition


@pytest.mark.parametrize(
    ("url", "there"),
    [
        ("https://acme.blob.core.windows.net", None),
        ("https://acme.blob.core.usgovcloudapi.net", "https://acme.blob.core.usgovcloudapi.net/"),
        ("https://acme.blob.core.chinacloudapi.cn/", "https://acme.blob.core.chinacloudapi.cn/"),
    ],
)
def test_elastic_is_told_which_cloud_of_azure_an_account_is_in(url: str, there: str | None) -> None:
    pack = pack_of("elastic", delivery(AZURE | {"account_url": url}))
    (source,) = yaml.safe_load(pack.sections[0].text)["filebeat.inputs"]
    assert source.get("storage_url") == there
    assert any("AZURE_AUTHORITY_HOST" in note for note in pack.notes) == (there is not None)


def test_no_placeholder_of_one_consumer_is_explained_by_another() -> None:
    assert "Filebeat" not in pack_of("secops", delivery(AZURE)).placeholders["CLIENT ID"]


def cautions(name: Siem, found: Delivery) -> dict[str, str]:
    return {one.about: one.message for one in pack_of(name, found).cautions}


@pytest.mark.parametrize(
    ("hours", "form", "warned"),
    [(18, "ocsf", False), (19, "ocsf", True), (25, "ocsf", True), (25, "cef", False)],
)
def test_what_datadog_drops_as_too_old_is_warned_of(hours: int, form: str, *, warned: bool) -> None:
    """A line that says no time is as old as its arrival."""
    found = replace(delivery(S3, form), pace=Pace(age=timedelta(hours=hours)))
    assert ("every" in cautions("datadog", found)) == warned
    assert "every" not in cautions("elastic", found)


@pytest.mark.parametrize("name", ["datadog", "wazuh"])
def test_a_reader_with_objects_whole_in_memory_gets_smaller_ones(name: Siem) -> None:
    most = (CONSUMERS[name].part_limit_mb or 0) * 1_000_000
    found = delivery(S3)
    assert "part_limit" not in cautions(name, replace(found, pace=Pace(most)))
    assert f"hold {most + 1:,} bytes" in cautions(name, replace(found, pace=Pace(most + 1)))["part_limit"]


@pytest.mark.parametrize(
    ("prefix", "found"),
    [("vendor/a.b_c-d", True), ("a b", False), ("é", False), ("a=b", False), ("a+b", False)],
)
def test_wazuh_finds_no_key_that_a_notification_has_encoded(prefix: str, *, found: bool) -> None:
    assert ("prefix" not in cautions("wazuh", delivery(S3 | {"prefix": prefix}))) == found
    assert "prefix" not in cautions("elastic", delivery(S3 | {"prefix": prefix}))


def test_a_caution_names_the_cause_and_the_setting_of_the_export_itself() -> None:
    rendering = Rendering("standard", MAPPINGS["standard"], archive="gzip", body="json_array")
    found = delivery_of("acme", "acme", S3, rendering, Origin("created_at"), Pace(1))
    (caution,) = [one for one in pack_of("wazuh", found).cautions if one.about == "body"]
    assert caution.message.startswith("wazuh reads ndjson, and this export writes json_array: ")
    assert caution.instead == "body: ndjson in the export itself, or siem: wazuh there and no body"


@pytest.mark.parametrize(
    ("branches", "kind"),
    [
        ([["const", "3"], ["const", "5"]], "long"),
        ([["const", "3"], ["column", "severity", "text"]], "dynamic"),
        ([["const", "null"], ["column", "email", "text"]], "string"),
        ([["const", "null"], ["object", [["name", ["column", "email", "text"]]]]], "dynamic"),
        ([["const", "null"]], "string"),
    ],
)
def test_a_column_of_sentinel_takes_what_every_branch_gives(branches: list[Any], kind: str) -> None:
    choice = ["match", ["column", "action", "text"], [["*", branch] for branch in branches]]
    mapping: Any = {"line": "json", "nulls": "keep", "fields": ["object", [["field", choice]]]}
    found = delivery_of("acme", "acme", S3, Rendering("mine", mapping, archive="gzip"), Origin("at"))
    assert found.fields == {"field": kind}
