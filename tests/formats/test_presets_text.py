"""The `cef` and `leef` formats, read back: CEF by pycef, LEEF by a reader as strict as its guide."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pycef  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.formats.presets_kit import ADDRESSES, TIME_MS, lines_of, records, texts

if TYPE_CHECKING:
    from collections.abc import Mapping

slow_data = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])

_ESCAPED: Final = {"n": "\n", "r": "\r"}
_BREAKS: Final = re.compile("[\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
_CONTROLS: Final = re.compile(r"[\x00-\x09\x0e-\x1f\x7f-\x9f]")


def read_cef(line: str) -> Mapping[str, Any]:
    """What pycef finds; it leaves escapes as they are, and so they are taken away here."""
    found: Mapping[str, str] | None = pycef.parse(line)
    assert found is not None
    return {
        name: re.sub(r"\\(.)", lambda escape: _ESCAPED.get(escape[1], escape[1]), value)
        for name, value in found.items()
    }


def read_leef(line: str) -> tuple[list[str], dict[str, str]]:
    """LEEF 2.0: no escapes, so every separator is one."""
    version, *header, attributes = line.split("|", 6)
    assert version == "LEEF:2.0"
    assert header[-1] == "x09"
    assert len(header) == 5
    pairs = [one.partition("=") for one in attributes.split("\t")]
    assert all(name.isalnum() and equals for name, equals, _ in pairs)
    assert len({name for name, _, _ in pairs}) == len(pairs)
    return header, {name: value for name, _, value in pairs}


def one_line(text: str) -> str:
    """A text as an extension can say it: line breaks as such, other controls as spaces."""
    return _CONTROLS.sub(" ", _BREAKS.sub("\n", text)).strip()


def test_cef_has_the_six_fields_and_the_id() -> None:
    """Date, Email, Action, Action ID, Description and IP Address are where ArcSight looks for them."""
    record = {
        "id": 7,
        "action": "Campaign Save",
        "email": "ada@acme.example",
        "action_id": "campaign-1",
        "description": "saved = well",
        "ip_address": "203.0.113.9",
        "outcome": "success",
        "severity": "high",
    }
    (line,) = lines_of("cef", [record], vendor="Acme", product="Acme Mail", version="2")
    assert line.startswith("CEF:0|Acme|Acme Mail|2|Campaign Save|saved = well|8|")
    found = read_cef(line.replace("|saved = well|", "|saved|"))  # pycef takes no `=` in a header
    assert found["rt"] == str(TIME_MS)
    assert (found["suser"], found["act"], found["src"]) == (
        "ada@acme.example",
        "Campaign Save",
        "203.0.113.9",
    )
    assert (found["externalId"], found["outcome"], found["msg"]) == ("7", "success", "saved = well")
    assert (found["Account"], found["Action ID"]) == ("acme", "campaign-1")


@pytest.mark.parametrize("address", ADDRESSES)
def test_cef_addresses_stand_in_the_field_of_their_kind(address: str) -> None:
    """`src` has IPv4 alone, `c6a2` IPv6; what is neither is kept as text."""
    found = read_cef(lines_of("cef", [{"ip_address": address, "action": "Login"}])[0])
    version = (
        "src" if "src" in found else "Source IPv6 Address" if "Source IPv6 Address" in found else "Source"
    )
    assert found.get(version, "") == address
    assert re.fullmatch(r"(\d+\.){3}\d+", found.get("src", "0.0.0.0"))
    assert ":" in found.get("Source IPv6 Address", ":")


@pytest.mark.parametrize("how", ["mask", "pseudonymise", "truncate"])
@pytest.mark.parametrize("address", ["203.0.113.9", "2001:db8::1"])
def test_protected_values_stand_in_no_field_for_something_else(how: str, address: str) -> None:
    """The severity stays a number, an address field has an address, and no label stands there alone."""
    row = {"ip_address": address, "severity": "7", "action": "Login"}
    protected = {"ip_address": how, "severity": "mask"}
    (line,) = lines_of("cef", [row], protected)
    assert line.split("|")[6] == "7"
    found = read_cef(line)
    assert re.fullmatch(r"(\d+\.){3}\d+", found.get("src", "0.0.0.0"))
    assert ("c6a2Label=" in line) == ("c6a2=" in line) == (how == "truncate" and ":" in address)
    assert ("cs3Label=" in line) == ("cs3=" in line) == (how != "truncate")
    _, attributes = read_leef(lines_of("leef", [row], protected)[0])
    assert attributes["sev"] == "7"
    assert ("src" in attributes) == (how == "truncate")


# pycef takes no `=`, no backslash and so no escape in a header; the test below this one reads those.
plain = texts.map(lambda text: re.sub(r"[=\\|]", "", text))


@slow_data
@given(texts, texts, plain, plain)
def test_cef_gives_back_every_value(email: str, target: str, action: str, description: str) -> None:
    """Whatever a value holds, the parser finds it again, and nothing else."""
    row = {"email": email, "action_id": target, "action": action, "description": description}
    (line,) = lines_of("cef", [row])
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", line)
    if not one_line(action) or not one_line(description):
        return  # pycef refuses an empty header
    found = read_cef(line)
    for name, text in {"suser": email, "Action ID": target, "act": action, "msg": description}.items():
        assert found.get(name, "").strip() == one_line(text)
    assert set(found) <= {
        *("DeviceVendor", "DeviceProduct", "DeviceVersion", "DeviceEventClassID", "Name", "DeviceName"),
        *(
            "Severity",
            "DeviceSeverity",
            "CEFVersion",
            "rt",
            "externalId",
            "act",
            "suser",
            "Account",
            "Action ID",
        ),
        *("msg", "cs2", "cs2Label"),
    }


@slow_data
@given(st.lists(records, min_size=1, max_size=4))
def test_text_lines_are_whole_whatever_a_record_holds(rows: list[dict[str, object]]) -> None:
    """One line each, with all of its header, and no control character but LEEF's tabs."""
    for line in lines_of("cef", rows):
        assert re.fullmatch(r"CEF:0(\|([^|\\]|\\[|\\])*){6}\|[^\x00-\x1f\x7f-\x9f\u2028\u2029]*", line)
        assert int(re.split(r"(?<!\\)(?:\\\\)*\|", line)[6]) in range(11)
    for line in lines_of("leef", rows):
        header, attributes = read_leef(line)
        assert header[:3] == ["audit-exporter", "audit-exporter", "1.0"]
        assert attributes["devTime"] == str(TIME_MS)
        assert int(attributes["sev"]) in range(1, 11)


def test_leef_has_the_six_fields_and_the_id() -> None:
    """Date, Email, Action, Action ID, Description and IP Address are where QRadar looks for them."""
    record = {
        "id": 7,
        "action": "Campaign Save",
        "email": "ada@acme.example",
        "action_id": "campaign-1",
        "description": "a=b\tc",
        "ip_address": "2001:db8::1",
        "severity": "critical",
    }
    header, attributes = read_leef(lines_of("leef", [record], vendor="Acme")[0])
    assert header == ["Acme", "audit-exporter", "1.0", "Campaign Save", "x09"]
    assert attributes == {
        "devTime": str(TIME_MS),
        "cat": "Campaign Save",
        "sev": "10",
        "usrName": "ada@acme.example",
        "src": "2001:db8::1",
        "accountName": "acme",
        "resource": "campaign-1",
        "eventId": "7",
        "msg": "a=b c",
    }


def test_leef_src_is_an_address_or_not_there() -> None:
    """QRadar reads `src` as an address; what is none goes out as text."""
    for address, line in zip(
        ADDRESSES, lines_of("leef", [{"ip_address": one} for one in ADDRESSES]), strict=True
    ):
        _, attributes = read_leef(line)
        assert attributes.get("src", attributes.get("sourceName", "")) == address
        assert not {"src", "sourceName"} <= set(attributes)


def test_an_empty_text_never_makes_an_empty_header() -> None:
    """What a header cannot do without has a word in it, and no label stands there for nothing."""
    empty = {"action": "", "description": "", "action_id": "", "email": "", "ip_address": ""}
    for row in (empty, {}):
        (line,) = lines_of("cef", [row])
        assert line.startswith("CEF:0|audit-exporter|audit-exporter|1.0|unknown|unknown|3|")
        assert "cs2Label" not in line
        assert "cs3" not in line
        assert lines_of("leef", [row])[0].split("|")[4] == "unknown"
    (line,) = lines_of("cef", [{**empty, "action": "Login"}])
    assert line.startswith("CEF:0|audit-exporter|audit-exporter|1.0|Login|Login|3|")
