"""The setup packs: each file is valid in its own syntax, and says what the export's settings say."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any, get_args
from xml.etree import ElementTree as ET

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from exporter.siem.consumers import CONSUMERS, Siem
from exporter.siem.delivery import TimeField
from exporter.siem.packs import WRITERS, pack_of
from exporter.siem.sections import PLACEHOLDERS, Section
from tests.siem.deliveries import (
    AZURE,
    DESTINATIONS,
    ELSEWHERE,
    GCS,
    HEC,
    KEY,
    MAPPINGS,
    S3,
    delivery,
    files,
)
from tests.siem.readers import conf_of


def valid(section: Section) -> None:
    """Raises for a text that its own syntax does not have."""
    match section.syntax:
        case "json":
            json.loads(section.text)
        case "yaml":
            assert isinstance(yaml.safe_load(section.text), dict)
        case "xml":
            ET.fromstring(section.text)
        case "conf":
            conf = conf_of(section.text)
            assert conf.sections()
            assert all(dict(conf[name]) for name in conf.sections())
        case "sh":
            assert all(shlex.split(line)[0] == "gcloud" for line in section.text.splitlines())
        case "text":
            assert section.text.strip()


def test_every_consumer_is_named_by_the_type_and_has_a_pack() -> None:
    assert list(CONSUMERS) == list(get_args(Siem)) == list(WRITERS)


@pytest.mark.parametrize("form", MAPPINGS)
@pytest.mark.parametrize(
    "destination", DESTINATIONS, ids=lambda one: f"{one['type']}-{one.get('is_aws', '')}"
)
@pytest.mark.parametrize("name", CONSUMERS)
def test_each_file_is_valid_in_its_own_syntax(name: Siem, destination: dict[str, Any], form: str) -> None:
    """Also where the export delivers to what the consumer cannot read: then there is a warning as well."""
    pack = pack_of(name, delivery(destination, form))
    assert pack.sections
    for section in pack.sections:
        valid(section)
    assert len({section.file for section in pack.sections}) == len(pack.sections)


@given(
    export=st.text(min_size=1, max_size=60),
    account=st.text(st.characters(codec="utf-8"), min_size=1, max_size=60),
    name=st.sampled_from(list(CONSUMERS)),
    prefix=st.sampled_from(["", "a b", "v*?${x}/é", "[x]"]),
    destination=st.sampled_from(DESTINATIONS),
)
def test_no_name_breaks_a_file_or_is_more_than_a_name(
    export: str, account: str, name: Siem, prefix: str, destination: dict[str, Any]
) -> None:
    found = delivery(destination | {"prefix": prefix}, export=export, account=account)
    for section in pack_of(name, found).sections:
        valid(section)


@pytest.mark.parametrize(
    "destination", DESTINATIONS, ids=lambda one: f"{one['type']}-{one.get('is_aws', '')}"
)
@pytest.mark.parametrize("name", CONSUMERS)
def test_what_only_the_customer_knows_is_marked_one_way_and_listed(
    name: Siem, destination: dict[str, Any]
) -> None:
    pack = pack_of(name, delivery(destination))
    marked = {found for one in pack.sections for found in re.findall("<([A-Z][A-Z0-9 ]+)>", one.text)}
    assert set(pack.placeholders) == marked
    assert all(pack.placeholders[one] == PLACEHOLDERS[one] for one in marked)


def test_every_placeholder_that_is_explained_is_in_some_pack() -> None:
    used = {
        placeholder
        for name in CONSUMERS
        for destination in DESTINATIONS
        for placeholder in pack_of(name, delivery(destination)).placeholders
    }
    assert used == set(PLACEHOLDERS)


@pytest.mark.parametrize("archive", ["zip", "gzip"])
@pytest.mark.parametrize("name", [name for name in CONSUMERS if "s3" in CONSUMERS[name].destinations])
def test_the_bucket_tells_of_this_exports_objects_and_the_reader_may_read_no_others(
    name: Siem, archive: str
) -> None:
    """Of all ways in which an object is created, also in parts."""
    found = delivery(S3 | {"kms_key": KEY}, archive=archive)
    texts = files(name, found)
    notification = json.loads(texts["bucket-notification.json"])
    ((rule,),) = notification.values()
    assert rule["Events"] == ["s3:ObjectCreated:*"]
    rules = {one["Name"]: one["Value"] for one in rule["Filter"]["Key"]["FilterRules"]}
    assert rules == {"prefix": "vendor/audit/acme/", "suffix": {"zip": ".zip", "gzip": ".jsonl.gz"}[archive]}
    policy = json.loads(texts["reader-policy.json"])["Statement"]
    assert {one["Action"]: one["Resource"] for one in policy if isinstance(one["Action"], str)} == {
        "s3:GetObject": "arn:aws:s3:::acme-audit/vendor/audit/acme/*",
        "kms:Decrypt": KEY,
    }
    if name != "datadog":
        queue = json.loads(texts["queue-policy.json"])["Statement"][0]
        arn = f"arn:aws:sqs:eu-central-1:<AWS ACCOUNT ID>:audit-acme-{name}"
        assert queue["Resource"] == rule["QueueArn"] == arn
        assert queue["Condition"]["ArnEquals"] == {"aws:SourceArn": "arn:aws:s3:::acme-audit"}


def test_characters_that_mean_more_elsewhere_stay_themselves() -> None:
    """In the filter of S3 a space is `+` and the rest as in a URL, in a policy they are no wildcards."""
    texts = files("elastic", delivery(S3 | {"prefix": "a b+ü/*"}))
    (rule,) = json.loads(texts["bucket-notification.json"])["QueueConfigurations"]
    folder = rule["Filter"]["Key"]["FilterRules"][0]["Value"]
    assert folder == "a+b%2B%C3%BC/*/audit/acme/"
    assert json.loads(texts["reader-policy.json"])["Statement"][0]["Resource"].endswith(
        "/a b+ü/${*}/audit/acme/*"
    )


@pytest.mark.parametrize(
    ("form", "time", "prefix", "notation"),
    [
        ("standard", TimeField(("Date",), "rfc3339"), '(?<!\\\\)"Date":"', "%Y-%m-%dT%H:%M:%S.%6N"),
        ("ocsf", TimeField(("time",), "epoch_ms"), '(?<!\\\\)"time":', "%s%3N"),
    ],
)
def test_splunk_looks_for_the_time_where_the_format_has_it(
    form: str, time: TimeField, prefix: str, notation: str
) -> None:
    found = delivery(S3, form)
    assert found.time == time
    conf = conf_of(files("splunk-addon", found)["props.conf"])
    lines = dict(conf[conf.sections()[0]])
    assert (lines["TIME_PREFIX"], lines["TIME_FORMAT"], lines["TRUNCATE"]) == (prefix, notation, "4000000")


def test_sentinels_rule_takes_the_records_own_time_and_types() -> None:
    rule = json.loads(files("sentinel-aws", delivery(S3, "ocsf"))["data-collection-rule.json"])["properties"]
    ((stream, declared),) = rule["streamDeclarations"].items()
    assert {one["name"]: one["type"] for one in declared["columns"]} == {
        "time": "long",
        "class_uid": "long",
        "actor": "dynamic",
        "bad_record": "dynamic",
    }
    (flow,) = rule["dataFlows"]
    assert flow["streams"] == [stream]
    moment = 'coalesce(unixtime_milliseconds_todatetime(tolong(["time"])), now())'
    assert flow["transformKql"] == f"source | extend TimeGenerated = {moment}"


def test_a_column_that_azure_has_for_itself_gets_another_name() -> None:
    texts = files("sentinel-azure", delivery(AZURE, "native"))
    flow = json.loads(texts["data-collection-rule.json"])["properties"]["dataFlows"][0]
    assert flow["transformKql"].endswith('| project-rename record_id = ["id"]')
    columns = json.loads(texts["table.json"])["properties"]["schema"]["columns"]
    assert [one["name"] for one in columns] == ["TimeGenerated", "record_id", "created_at", "bad_record"]


def test_event_grid_tells_of_this_exports_blobs() -> None:
    found = json.loads(
        files("sentinel-azure", delivery(AZURE | {"prefix": "vendor"}))["event-subscription.json"]
    )
    assert found["properties"]["filter"]["subjectBeginsWith"] == (
        "/blobServices/default/containers/audit/blobs/vendor/audit/acme/"
    )
    assert found["properties"]["filter"]["subjectEndsWith"] == ".jsonl.gz"


def test_a_feed_of_secops_never_deletes_what_it_read() -> None:
    for destination, key in ((S3, "amazon_sqs_v2_settings"), (AZURE, "azureBlobStoreV2Settings")):
        details = json.loads(files("secops", delivery(destination))["feed.json"])["details"]
        assert details[key]["sourceDeletionOption"] == "NEVER"
    script = files("secops", delivery(GCS))["google-cloud.sh"]
    assert "--object-prefix=vendor/audit/acme/" in script


def test_elastic_polls_a_store_that_is_not_amazons() -> None:
    """With keys of that store, which may list the export's folder."""
    pack = pack_of("elastic", delivery(ELSEWHERE | {"kms_key": "key", "path_style": True}))
    (source,) = yaml.safe_load(pack.sections[0].text)["filebeat.inputs"]
    assert (source["non_aws_bucket_name"], source["endpoint"]) == ("b", "https://minio.example")
    assert source["path_style"] is True
    assert {"ACCESS KEY ID", "SECRET ACCESS KEY"} <= set(pack.placeholders)
    assert "queue_url" not in source
    assert not pack.cautions
    (read, lists) = json.loads(pack.sections[-1].text)["Statement"]
    assert (read["Action"], lists["Action"]) == ("s3:GetObject", "s3:ListBucket")
    assert lists["Resource"] == "arn:aws:s3:::b"
    assert lists["Condition"] == {"StringLike": {"s3:prefix": "audit/acme/*"}}
    assert "path_style" not in files("elastic", delivery(ELSEWHERE))["filebeat.yml"]


def test_events_need_no_bucket_and_the_token_is_never_in_a_configuration() -> None:
    texts = files("splunk-hec", delivery(HEC))
    assert set(texts) == {"inputs.conf", "props.conf", "audit-exporter.yaml"}
    (export,) = yaml.safe_load(texts["audit-exporter.yaml"])["exports"]
    assert export["destination"]["token"] == {"file": "<FILE WITH THE TOKEN>"}
    token = conf_of(texts["inputs.conf"])["http://audit-acme-splunk-hec"]
    assert (token["index"], token["useACK"], token["token"]) == ("audit", "1", "<HEC TOKEN>")
