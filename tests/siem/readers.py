"""Readers with the documented rules of each consumer, written from those and from nothing of the product's.

A reader gets objects as (key, bytes) in the order of their creation, and gives the records that arrive: dicts
as they are indexed, or text where what arrived is no record.
"""

from __future__ import annotations

import configparser
import gzip
import io
import json
import random
import re
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Object = tuple[str, bytes]
Found = dict[str, Any] | str
Pack = dict[str, str]
"""What the program printed for the consumer: the text of each file, by its name."""


def parsed(line: str) -> Found:
    """A record, or the text itself where it is none."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError:
        return line
    return value if isinstance(value, dict) else line


def queued(objects: list[Object]) -> list[Object]:
    """A queue promises no order."""
    mixed = list(objects)
    random.Random(7).shuffle(mixed)  # always the same one
    return mixed


def listed(objects: list[Object]) -> Iterator[Object]:
    """A listing after each new object, from behind the last key that was seen: what sorts earlier is lost."""
    marker, there = "", dict[str, bytes]()
    for key, data in objects:
        there[key] = data
        for one in sorted(there):
            if one > marker:
                marker = one
                yield one, there[one]


def gunzipped(data: bytes) -> str | None:
    """Text, plain or gzip by its magic bytes; None for what is no text."""
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def conf_of(text: str) -> configparser.RawConfigParser:
    found = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=("#",), interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign]  # Splunk's keys have a case
    found.read_string(text)
    return found


def splunk_addon(objects: list[Object], pack: Pack) -> list[Found]:
    """CustomLogs: all members of a zip, gzip by its suffix; events as the printed props.conf breaks them."""
    (name,) = conf_of(pack["props.conf"]).sections()
    props = conf_of(pack["props.conf"])[name]
    found: list[Found] = []
    for key, data in queued(objects):
        for text in _splunk_files(key, data):
            for raw in re.split(props["LINE_BREAKER"], text)[::2]:
                event = raw.encode()[: int(props["TRUNCATE"])].decode(errors="replace")
                if event:
                    found.append(parsed(event))
    return found


def _splunk_files(key: str, data: bytes) -> Iterator[str]:
    if key.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield from (archive.read(name).decode() for name in archive.namelist())
    elif key.endswith(".gz"):
        yield gzip.decompress(data).decode()
    else:
        yield data.decode(errors="replace")


def splunk_time(raw: str, pack: Pack) -> datetime | None:
    """The time that Splunk finds in an event, by TIME_PREFIX and TIME_FORMAT; None if it finds none."""
    (name,) = conf_of(pack["props.conf"]).sections()
    props = conf_of(pack["props.conf"])[name]
    prefix = re.search(props["TIME_PREFIX"], raw)
    assert props["TZ"] == "UTC"
    if prefix is None:
        return None
    ahead = raw[prefix.end() :][: int(props["MAX_TIMESTAMP_LOOKAHEAD"])]
    if props["TIME_FORMAT"] == "%s%3N":
        found = re.match(r"\d{13}", ahead)
        return datetime.fromtimestamp(int(found[0]) / 1000, UTC) if found else None
    assert props["TIME_FORMAT"] == "%Y-%m-%dT%H:%M:%S.%6N"
    found = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", ahead)
    return datetime.fromisoformat(found[0]).replace(tzinfo=UTC) if found else None


def qradar(objects: list[Object], pack: Pack) -> list[Found]:
    """gzip; line by line; keys that the printed file pattern fits, in an order that only grows."""
    pattern = json.loads(pack["log-source.json"])["File Pattern"]
    prefix = json.loads(pack["log-source-by-listing.json"])["Directory Prefix"]
    found: list[Found] = []
    for key, data in listed(objects):
        text = gunzipped(data)
        if re.fullmatch(pattern, key) and key.startswith(prefix) and text is not None:
            found += [parsed(line) for line in re.split(r"\r?\n", text) if line]
    return found


def sentinel_aws(objects: list[Object], pack: Pack) -> list[Found]:
    """JsonLine in gzip, as the connector says; of a record, the columns that the rule's stream declares."""
    data_format = json.loads(pack["connector.json"])["properties"]["dataFormat"]
    return _sentinel(queued(objects), pack, gz=data_format["IsCompressed"])


def sentinel_azure(objects: list[Object], pack: Pack) -> list[Found]:
    """JSON in gzip, as the connector says; the path `$` is each value of the file."""
    response = json.loads(pack["connector.json"])["properties"]["response"]
    assert response["EventsJsonPaths"] == ["$"]
    return _sentinel(queued(objects), pack, gz=response["IsGzipCompressed"])


def _sentinel(objects: list[Object], pack: Pack, *, gz: bool) -> list[Found]:
    rule = json.loads(pack["data-collection-rule.json"])["properties"]
    ((_, stream),) = rule["streamDeclarations"].items()
    columns = {column["name"] for column in stream["columns"]}
    assert all(re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,44}", name) for name in columns)
    found: list[Found] = []
    for _, data in objects:
        text = gunzipped(data) if gz else (None if data[:2] == b"\x1f\x8b" else gunzipped(data))
        records = (value for value in _values(text or "") if isinstance(value, dict))
        found += [{name: record[name] for name in record if name in columns} for record in records]
    return found


def _values(text: str) -> Iterator[Any]:
    """JSON values one after another; none after the first that is not one."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            return
        yield value


def elastic(objects: list[Object], pack: Pack) -> list[Found]:
    """gzip by magic bytes; keys that a selector fits; lines split wherever Unicode has a line's end."""
    import yaml

    (source,) = yaml.safe_load(pack["filebeat.yml"])["filebeat.inputs"]
    (selector,) = source["file_selectors"]
    found: list[Found] = []
    for key, data in queued(objects):
        text = gunzipped(data)
        if re.search(selector["regex"], key) and text is not None:
            records = [_json_fields(line, _depth(source)) for line in text.splitlines() if line]
            unparsed = "" if "decode_cef" in pack["filebeat.yml"] else "no fields of "
            found += [one if isinstance(one, dict) else unparsed + one for one in records]
    return found


def _depth(source: dict[str, Any]) -> int:
    """How deep the printed processor looks for JSON; of CEF, there is none."""
    found = [one["decode_json_fields"] for one in source["processors"] if "decode_json_fields" in one]
    return int(found[0]["max_depth"]) if found else 1


def _json_fields(text: str, depth: int) -> Found:
    """decode_json_fields: beyond the first depth, every text that is an object becomes one as well."""
    record = parsed(text)
    if isinstance(record, dict) and depth > 1:
        texts = {key: one for key, one in record.items() if isinstance(one, str)}
        record |= {key: _json_fields(one, depth - 1) for key, one in texts.items()}
    return record


def elastic_polled(objects: list[Object], pack: Pack) -> list[Found]:
    """Of Azure and Google Cloud Storage: content types of JSON alone; values, or the items of an array."""
    import yaml

    (source,) = yaml.safe_load(pack["filebeat.yml"])["filebeat.inputs"]
    (selector,) = source["file_selectors"]
    found: list[Found] = []
    for key, data in objects:
        text = None if key.endswith(".log.gz") else gunzipped(data)
        if re.search(selector["regex"], key) and text is not None:
            first = json.loads(text) if text.startswith("[") else _values(text)
            found += [_json_fields(json.dumps(one), _depth(source)) for one in first]
    return found


def wazuh(objects: list[Object], _: Pack) -> list[Found]:
    """The subscriber of wodles/aws: how it unpacks goes by the suffix, how it parses too."""
    found: list[Found] = []
    for key, data in queued(objects):
        for record in _wazuh_records(key, data):
            filled = without_null(record)
            if "full_log" in filled:
                continue
            message = {"integration": "aws", "aws": {"log_info": {"log_file": key, "s3bucket": "bucket"}}}
            message["aws"].update(filled)  # type: ignore[attr-defined]
            sent = f"1:Wazuh-AWS:{json.dumps(message)}".encode()
            found.append(filled if len(sent) <= 65_535 else sent[:65_535].decode())
            if isinstance(filled.get("log_info"), str):
                found.append("a record whose log_info took the place of the file's name")
    return found


def _wazuh_records(key: str, data: bytes) -> list[dict[str, Any]]:
    if key.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            text = archive.read(archive.namelist()[0]).decode()
    else:
        text = gzip.decompress(data).decode()
    try:
        if key.endswith(".jsonl.gz"):
            return [dict(json.loads(line)) for line in io.StringIO(text, newline=None)]
        records, rest = [], text
        while rest:
            value, end = json.JSONDecoder().raw_decode(rest)
            records.append(dict(value.get("detail", value), source="custom"))
            rest = rest[end:].lstrip()
    except (json.JSONDecodeError, AttributeError):
        return [{"full_log": line, "source": "custom"} for line in text.splitlines()]
    except (ValueError, TypeError):  # what it does not catch ends the module, with all that was in the file
        return []
    return records


def without_null(record: dict[str, Any]) -> dict[str, Any]:
    return {
        key: without_null(value) if isinstance(value, dict) else value
        for key, value in record.items()
        if value is not None
    }


def secops(objects: list[Object], _: Pack) -> list[Found]:
    """gzip; each file once; a line of more than 4 MB does not arrive."""
    found: list[Found] = []
    for data in dict(objects).values():
        text = gunzipped(data)
        lines = [] if text is None else text.split("\n")
        found += [parsed(line) for line in lines if line and len(line.encode()) <= 4_000_000]
    return found


def logscale(objects: list[Object], pack: Pack) -> list[Found]:
    """gzip or nothing, and SplitNewline; the parser gets a line whole."""
    feed = json.loads(pack["feed.json"])["variables"]["input"]
    assert feed["preprocessing"] == {"kind": "SplitNewline"}
    found: list[Found] = []
    for _, data in queued(objects):
        text = gunzipped(data)
        found += [] if text is None else [parsed(line) for line in text.split("\n") if line]
    return found


def datadog(objects: list[Object], _: Pack) -> list[Found]:
    """The Forwarder: gzip, `splitlines` of Unicode, and nothing of more than 512,000 bytes on its way."""
    found: list[Found] = []
    for key, data in queued(objects):
        text = gunzipped(data)
        for line in (text or "").splitlines():
            item = json.dumps(
                {"message": line, "aws": {"s3": {"bucket": "bucket", "key": key}}, "ddtags": "x" * 999}
            )
            if line and len(item.encode()) <= 512_000:
                found.append(parsed(line))
    return found


READERS: dict[str, Callable[[list[Object], Pack], list[Found]]] = {
    "splunk-addon": splunk_addon,
    "qradar": qradar,
    "sentinel-aws": sentinel_aws,
    "sentinel-azure": sentinel_azure,
    "elastic": elastic,
    "wazuh": wazuh,
    "secops": secops,
    "logscale": logscale,
    "datadog": datadog,
}
