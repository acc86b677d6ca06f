"""Values of chosen columns are dropped, masked, truncated or pseudonyms before any format sees them."""

from __future__ import annotations

import base64
import gc
import hashlib
import hmac
import ipaddress
import json
import weakref
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.columns import Layout, Roles, RowBlock, TextTimes
from exporter.errors import ConfigError, ExportError, MissingColumn
from exporter.formats import compile_format
from exporter.formats.protection import account_key, bind_protection, key_id, shown_of
from exporter.formats.settings import ProtectSettings
from exporter.model import LEADING_BYTES, BadRecord, Branch, Json, Occasion, Rendering, flat_mapping

NAMES = ("id", "time", "account", "email", "ip", "note")
ROLES = {
    "id": "id",
    "time": "time",
    "account": "account",
    "email": "email",
    "ip_address": "ip",
    "action": None,
}
KEY = account_key("0123456789abcdef", "acme")
END = datetime(2026, 11, 19, 4, tzinfo=UTC)
NAN = float("nan")

MAPPED = flat_mapping({"Id": ("string", "id"), "Email": ("string", "email"), "IP": ("value", "ip")})


def block(*rows: tuple[Any, Any, Any]) -> RowBlock:
    whole = [(number, "2026-11-19T04:00:00Z", "acme", *row) for number, row in enumerate(rows)]
    return RowBlock(Branch.ON_TIME, Layout(NAMES, NAMES, Roles("id", "time", "account"), TextTimes()), whole)


def lines_of(
    one: RowBlock, mapping: Json = None, *, key: bytes | None = KEY, **protected: str
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """What goes out, as JSON, and what was counted."""
    rendering = Rendering("mine", mapping, protected=protected, key_id=key_id(key) if key else "")
    lines, counts = compile_format(rendering, Occasion(1, END, key=key)).encode(one)
    return [json.loads(line) for line in lines.splitlines()], dict(counts)


# --- the four ways -------------------------------------------------------------------------------------


def test_a_dropped_column_is_as_if_it_were_not_there() -> None:
    """Null in a field that is made of it, left out where every column is given; what was there is counted."""
    rows = block(("ada@x.example", "::1", "n"), (None, "::1", "n"))
    lines, counts = lines_of(rows, MAPPED, email="drop")
    assert [line["Email"] for line in lines] == [None, None]
    assert counts == {"email drop": 1}
    lines, counts = lines_of(rows, email="drop")
    assert all(list(line) == ["id", "time", "account", "ip", "note"] for line in lines)
    assert counts == {"email drop": 1}


def test_a_mask_says_that_there_was_a_value() -> None:
    lines, counts = lines_of(
        block(("ada", "::1", 1), ("", "::1", 2), (None, "::1", 3)), email="mask", note="mask"
    )
    assert [line["email"] for line in lines] == ["[masked]", "[masked]", None]
    assert [line["note"] for line in lines] == ["[masked]"] * 3
    assert counts == {"email mask": 2, "note mask": 3}


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ("2001:DB8:1::6", "2001:db8:1::"),
        ("::ffff:203.0.113.77", "::ffff:cb00:7100"),
        ("fe80::1%eth0", "fe80::"),
        ("203.0.113.77:443", "[masked]"),
        ("203.0.113.077", "[masked]"),
        ("10.1.2.3, 203.0.113.7", "[masked]"),
        ("localhost", "[masked]"),
        ("", "[masked]"),
        (4711, "[masked]"),
        (NAN, "[masked]"),
        (None, None),
    ],
)
def test_an_address_is_truncated_to_its_network_and_anything_else_masked(
    address: object, network: object
) -> None:
    lines, _ = lines_of(block((None, address, None)), MAPPED, ip="truncate")
    assert lines[0]["IP"] == network


@given(st.ip_addresses())
def test_a_truncated_address_is_an_address_of_the_same_network(address: ipaddress.IPv4Address) -> None:
    lines, _ = lines_of(block((None, str(address), None)), MAPPED, ip="truncate")
    found = ipaddress.ip_address(lines[0]["IP"])
    bits = 24 if address.version == 4 else 48
    if address.version == 4 or address.ipv4_mapped is None:
        assert found == ipaddress.ip_network((address, bits), strict=False).network_address


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(deadline=None)
@given(st.lists(st.none() | texts, min_size=1, max_size=8))
def test_a_pseudonym_is_the_hmac_of_a_text_with_the_accounts_key(values: list[str | None]) -> None:
    """The same text, the same name; 32 digits; null stays null."""
    lines, counts = lines_of(block(*((value, None, None) for value in values)), MAPPED, email="pseudonymise")
    expected = [
        None if value is None else hmac.new(KEY, value.encode(), hashlib.sha256).hexdigest()[:32]
        for value in values
    ]
    assert [line["Email"] for line in lines] == expected
    assert counts.get("email pseudonymise", 0) == len(values) - values.count(None)


def test_another_account_or_another_key_gives_another_name() -> None:
    names = {
        lines_of(block(("ada", None, None)), MAPPED, key=key, email="pseudonymise")[0][0]["Email"]
        for key in (KEY, account_key("0123456789abcdef", "globex"), account_key("0123456789abcdeF", "acme"))
    }
    assert len(names) == 3


@pytest.mark.parametrize("how", ["mask", "drop"])
def test_a_block_goes_as_soon_as_its_lines_are_there(how: str) -> None:
    """And not when garbage is collected: many blocks of a large window would be in memory until then."""
    form = compile_format(
        Rendering("native", None, protected={"email": how}, mask_secrets=True), Occasion(1, END)
    )
    one = block(("ada@x.org", "10.0.0.1", "password=hunter2"))
    form.encode(one)
    seen = weakref.ref(one)
    gc.disable()
    try:
        del one
        assert seen() is None
    finally:
        gc.enable()


def test_a_value_that_cannot_be_read_spoils_no_record() -> None:
    """It would not go out as it is anyway."""
    rows = block((NAN, None, "a"), ("ada", None, "b"))
    for how in ("mask", "pseudonymise", "truncate"):
        lines, counts = lines_of(rows, MAPPED, email=how)
        assert lines[0]["Email"] == "[masked]"
        assert counts == {f"email {how}": 2}


# --- lookups, keys, columns ----------------------------------------------------------------------------


def lookup(subject: Json) -> dict[str, Json]:
    found: Json = ["match", subject, [["*@acme*", ["const", '"ours"']], ["?*", ["column", "email", "text"]]]]
    fields: Json = ["object", [["Id", ["column", "id", "text"]], ["Who", found]]]
    return {
        "line": "json",
        "nulls": "keep",
        "header": [],
        "fields": fields,
        "shared": [["column", "email", "text"]],
        "envelope": None,
    }


@pytest.mark.parametrize("subject", [["column", "email", "text"], ["shared", 0]])
@pytest.mark.parametrize(("how", "seen"), [("mask", "ours"), ("pseudonymise", "ours"), ("drop", None)])
def test_lookups_decide_by_what_was_there_and_show_what_may_be_seen(
    subject: Json, how: str, seen: str | None
) -> None:
    """A dropped column is empty for them, too."""
    lines, _ = lines_of(
        block(("ada@acme.example", None, None), ("bob@x.example", None, None)), lookup(subject), email=how
    )
    assert lines[0]["Who"] == seen
    assert "bob" not in json.dumps(lines)


def test_a_plan_with_a_lost_column_still_has_its_lookups() -> None:
    mapping = lookup(["column", "email", "text"])
    rendering = Rendering("mine", mapping, protected={"email": "mask", "gone": "mask"})
    form = compile_format(rendering, Occasion(1, END, columns=frozenset(NAMES)))
    assert form.columns == ["email", "id"]
    lines, _ = form.encode(block(("ada@acme.example", None, None)))
    assert json.loads(lines)["Who"] == "ours"


def test_a_plan_is_not_rendered_with_another_key() -> None:
    """Its object may have landed, and would hold other names; the message shows no key."""
    rendering = Rendering("mine", MAPPED, protected={"email": "pseudonymise"}, key_id=key_id(KEY))
    assert compile_format(rendering).columns == ["email", "id", "ip"]
    for key in (None, account_key("0123456789abcdeF", "acme")):
        with pytest.raises(ExportError, match=rf"pseudonyms of another key \(id {key_id(KEY)}\)") as caught:
            compile_format(rendering, Occasion(1, END, key=key))
        assert "put the earlier key back" in caught.value.hint


def test_a_protected_column_that_there_is_not_is_found() -> None:
    """By the source, which is asked for it; by the format, if that gives every column."""
    rendering = Rendering("mine", MAPPED, protected={"emial": "mask"})
    assert compile_format(rendering).columns == ["email", "emial", "id", "ip"]
    with pytest.raises(MissingColumn, match="'emial'") as caught:
        lines_of(block((1, 2, 3)), emial="mask")
    assert "did you mean 'email'?" in caught.value.hint


# --- settings ------------------------------------------------------------------------------------------


def bind(columns: dict[str, Any], needed: set[str] | None = None) -> dict[str, str]:
    return bind_protection(ProtectSettings(columns=columns), ROLES, needed)


def test_a_role_stands_for_its_column_and_any_other_name_for_itself() -> None:
    assert bind({"ip_address": "truncate", "note": "drop"}) == {"ip": "truncate", "note": "drop"}


def test_a_role_that_the_format_does_not_need_is_not_read_for_this() -> None:
    """A column by its own name is, so that a mistyped one is found."""
    assert bind({"ip_address": "truncate", "email": "mask", "notes": "drop"}, {"id", "email"}) == {
        "email": "mask",
        "notes": "drop",
    }


@pytest.mark.parametrize("name", ["id", "time", "account"])
def test_what_every_record_needs_cannot_be_protected(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' is the source's {name}, which cannot be protected"):
        bind({name: "mask"})


def test_one_column_by_two_names_has_one_protection() -> None:
    assert bind({"ip_address": "mask", "ip": "mask"}) == {"ip": "mask"}
    with pytest.raises(ConfigError, match="say different things"):
        bind({"ip_address": "mask", "ip": "drop"})


def test_a_short_key_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigError, match="is 15 bytes long, and needs 16 or more") as caught:
        account_key("canary-and-more", "acme")
    assert "canary" not in caught.value.message + caught.value.hint
    assert len(account_key("ü" * 8, "acme")) == 32


def test_pseudonyms_need_a_key() -> None:
    with pytest.raises(ValueError, match="needs a `key` to pseudonymise 'email'"):
        ProtectSettings(columns={"email": "pseudonymise"})


# --- bad records ---------------------------------------------------------------------------------------


def bad_form_of(rendering: Rendering, record: BadRecord) -> dict[str, Any]:
    line = compile_format(rendering, Occasion(1, END, key=KEY)).bad_line(record)
    form: dict[str, Any] = json.loads(line)["bad_record"]
    form["leading_bytes"] = base64.b64decode(form["leading_bytes"])
    return form


def bad_record(*row: Any, reason: str = "it cannot be") -> BadRecord:  # noqa: ANN401 - any value
    raw = block(row).raw(0)
    return BadRecord("0", reason, len(raw), raw)


@pytest.mark.parametrize("how", ["drop", "mask", "truncate", "pseudonymise"])
@pytest.mark.parametrize("mapping", [None, MAPPED])
def test_what_goes_out_of_a_bad_record_shows_no_protected_column(how: str, mapping: Json) -> None:
    """Its length is that of all there was, as the quarantine keeps it."""
    record = bad_record("ada@acme.example", "203.0.113.77", NAN)
    form = bad_form_of(Rendering("mine", mapping, protected={"email": how, "ip": "truncate"}), record)
    assert b"ada" not in form["leading_bytes"]
    assert b"203.0" not in form["leading_bytes"]
    assert (
        form["leading_bytes"] == b'{"id": 0, "time": "2026-11-19T04:00:00Z", "account": "acme", "note": NaN}'
    )
    assert form["length"] == len(record.body)


def test_what_goes_out_of_a_bad_record_shows_no_column_of_the_filter_alone() -> None:
    """Nor one that the format leaves out; with nothing to hide, all of it is shown."""
    record = bad_record("ada", "::1", NAN)
    assert bad_form_of(Rendering("mine", MAPPED), record)["leading_bytes"] == record.body
    mapped = Rendering("mine", MAPPED, chosen={"where": [["note", ["*"]]], "fields": []})
    assert b"note" not in bad_form_of(mapped, record)["leading_bytes"]
    native = Rendering("native", None, chosen={"where": [], "fields": ["!note"]})
    assert b"note" not in bad_form_of(native, record)["leading_bytes"]


def test_secrets_in_a_bad_record_are_masked_before_it_is_cut() -> None:
    """One that reaches over the leading bytes' end, too; and in the reason."""
    token = "ghp_" + "a1B2" * 9
    for start in (0, LEADING_BYTES - 90, LEADING_BYTES - 100, LEADING_BYTES):
        record = bad_record("ada", "::1", "x" * start + " " + token, reason=f"bad {token}")
        form = bad_form_of(Rendering("native", None, mask_secrets=True), record)
        assert b"ghp_" not in form["leading_bytes"]
        assert form["reason"] == "bad [masked]"
    lone = BadRecord("0", "r", 9, b'{"a": "\xff token=abc"}')
    assert bad_form_of(Rendering("native", None, mask_secrets=True), lone)["leading_bytes"] == (
        b'{"a": "\xff token=[masked]"}'
    )


@given(
    st.dictionaries(
        texts,
        st.recursive(st.none() | texts | st.floats(), lambda one: st.lists(one, max_size=2)),
        max_size=5,
    ),
    st.integers(0, 200),
)
def test_however_a_record_is_cut_off_nothing_hidden_is_shown(record: dict[str, Any], cut: int) -> None:
    record = {"hidden": "SECRET"} | record | {"also hidden": ["SECRET"]}
    raw = json.dumps(record, ensure_ascii=False).encode()[:cut]
    shown = shown_of(raw, lambda name: "hidden" not in name)
    assert b"SECRE" not in shown
    whole = json.dumps(record, ensure_ascii=False).encode()
    rest = {name: value for name, value in record.items() if "hidden" not in name}
    assert repr(json.loads(shown_of(whole, lambda name: "hidden" not in name))) == repr(rest)


def test_what_is_no_json_is_shown_as_it_is() -> None:
    """A line in another form is made of protected values."""
    assert shown_of(b"CEF:0|a|b", lambda _: False) == b"CEF:0|a|b"
