"""Object names: injective, safe on every store, and only ever growing."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.keys import (
    MAX_KEY_BYTES,
    account_folder,
    encode_account,
    member_name,
    next_stamp,
    normal_prefix,
    object_name,
)
from exporter.model import Stamp

AT = datetime(2026, 11, 19, 4, tzinfo=UTC)
SUFFIXES = [".zip", ".jsonl.gz", ".json.gz", ".log.gz"]


def decode_account(encoded: str) -> str:
    """The way back: that there is one is what keeps two accounts apart."""
    return unquote_to_bytes(encoded.replace("_", "%")).decode()


accounts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30) | st.text(
    "aZ0-._/2EF é", min_size=1, max_size=12
)
times = st.datetimes(datetime(1, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("account", "encoded"),
    [
        ("R6R-KRR-7K7Z", "R6R-KRR-7K7Z"),
        ("acme.example.com", "acme.example.com"),
        ("a_b", "a_5Fb"),
        ("É", "_C3_89"),
        ("a b/c", "a_20b_2Fc"),
        ("../../x", "_2E_2E_2F_2E_2E_2Fx"),
        (".", "_2E"),
        (".a", "_2Ea"),
        ("a.", "a_2E"),
        ("a..b", "a_2E_2Eb"),
        ("a.é", "a_2E_C3_A9"),
        ("a.b.c", "a.b.c"),
        ("-.-", "-.-"),
        ("_5F", "_5F5F"),
        ("a\n", "a_0A"),
    ],
)
def test_an_account_is_written_as_the_design_says(account: str, encoded: str) -> None:
    assert encode_account(account) == encoded


@given(account=accounts)
def test_an_account_comes_back_from_its_encoding_so_no_two_share_one(account: str) -> None:
    assert decode_account(encode_account(account)) == account


@given(account=accounts)
def test_an_encoded_account_holds_only_safe_characters_and_single_inner_dots(account: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", encode_account(account))


@pytest.mark.parametrize(
    ("account", "sentence"),
    [
        ("", "the account is empty; give the account its id in the source"),
        ("a\ud800", r"the account 'a\ud800' is not Unicode text; write it in UTF-8"),
    ],
)
def test_an_account_that_is_no_text_is_refused(account: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        encode_account(account)


@pytest.mark.parametrize(
    ("prefix", "normal"),
    [("", ""), ("vendor", "vendor/"), ("vendor/", "vendor/"), ("a/b", "a/b/"), ("v.1/año 2", "v.1/año 2/")],
)
def test_a_prefix_ends_in_one_slash_or_is_empty(prefix: str, normal: str) -> None:
    assert normal_prefix(prefix) == normal
    assert normal_prefix(normal) == normal


@pytest.mark.parametrize(
    "prefix",
    [
        "/",
        "/a",
        "a//b",
        "a//",
        ".",
        "a/./b",
        "..",
        "a/../b",
        "a..b",
        "a\\b",
        "a\nb",
        "a\x7f",
        "a\u2028",
        "\ud800",
    ],
)
def test_a_prefix_that_a_store_would_take_for_another_path_is_refused_by_its_value(prefix: str) -> None:
    with pytest.raises(
        ValueError, match=r"^the prefix .*; write the prefix as plain folder names"
    ) as refused:
        normal_prefix(prefix)
    assert repr(prefix) in str(refused.value)


@pytest.mark.parametrize(
    ("stamp", "suffix", "name"),
    [
        (Stamp(AT), ".zip", "v/audit/a_5Fb/audit_a_5Fb_20261119T040000Z.zip"),
        (Stamp(AT, 2), ".zip", "v/audit/a_5Fb/audit_a_5Fb_20261119T040000Z_0002.zip"),
        (Stamp(AT, 9999), ".jsonl.gz", "v/audit/a_5Fb/audit_a_5Fb_20261119T040000Z_9999.jsonl.gz"),
    ],
)
def test_an_object_is_named_after_account_time_and_number(stamp: Stamp, suffix: str, name: str) -> None:
    assert object_name("v", "a_b", stamp, suffix) == name


def test_without_a_prefix_names_begin_with_audit() -> None:
    assert object_name("", "acme", Stamp(AT), ".zip") == "audit/acme/audit_acme_20261119T040000Z.zip"


@given(account=accounts, number=st.integers(1, 9999), suffix=st.sampled_from(SUFFIXES))
def test_every_object_lies_directly_in_its_account_folder(account: str, number: int, suffix: str) -> None:
    name = object_name("a/b", account, Stamp(AT, number), suffix)
    assert name.startswith(account_folder("a/b", account))
    assert "/" not in name.removeprefix(account_folder("a/b", account))


@given(account=accounts, number=st.integers(1, 9999), suffix=st.sampled_from(SUFFIXES))
def test_a_member_is_called_like_its_object_but_ends_in_its_own_way(
    account: str, number: int, suffix: str
) -> None:
    name = object_name("a/b", account, Stamp(AT, number), suffix)
    assert member_name(name) == name.rpartition("/")[2].removesuffix(suffix) + ".json"
    assert member_name(name, ".log") == name.rpartition("/")[2].removesuffix(suffix) + ".log"


def test_a_member_of_an_account_that_ends_like_a_suffix_keeps_the_account() -> None:
    assert member_name(object_name("", "x.zip", Stamp(AT), ".zip")) == "audit_x.zip_20261119T040000Z.json"


def test_a_key_of_1024_bytes_is_taken_and_a_longer_one_refused_with_its_length() -> None:
    rest = len(object_name("", "acme", Stamp(AT), ".zip")) + len("/")
    assert len(object_name("v" * (MAX_KEY_BYTES - rest), "acme", Stamp(AT), ".zip")) == MAX_KEY_BYTES
    with pytest.raises(ValueError, match=r"has 1025 bytes, and stores take 1024; shorten the .* prefix"):
        object_name("é" + "v" * (MAX_KEY_BYTES - rest - 1), "acme", Stamp(AT), ".zip")


def test_an_account_of_300_bytes_is_taken_if_its_name_is_short_enough() -> None:
    assert len(object_name("", "a" * 300, Stamp(AT), ".zip")) < MAX_KEY_BYTES
    with pytest.raises(ValueError, match=r"has 1[0-9]{3} bytes"):
        object_name("", "é" * 150, Stamp(AT), ".zip")


@given(
    wanted=st.lists(times | st.timedeltas(timedelta(0), timedelta(seconds=3)).map(lambda off: AT + off)),
    suffixes=st.lists(st.sampled_from(SUFFIXES), min_size=1),
)
def test_names_grow_byte_by_byte_whatever_the_times_and_suffixes(
    wanted: list[datetime], suffixes: list[str]
) -> None:
    stamp, names = None, []
    for index, time in enumerate(wanted):
        stamp = next_stamp(time, stamp)
        names.append(object_name("v", "acme", stamp, suffixes[index % len(suffixes)]).encode())
    assert all(one < two for one, two in pairwise(names))


def test_names_grow_through_ten_thousand_objects_of_one_second_and_beyond() -> None:
    stamp = Stamp(AT, 9997)
    names = [object_name("", "acme", stamp, ".jsonl.gz")]
    for suffix in SUFFIXES * 3:
        stamp = next_stamp(AT, stamp)
        names.append(object_name("", "acme", stamp, suffix))
    assert names == sorted(set(names))
    assert stamp == Stamp(AT + timedelta(seconds=1), 9997 + 3 * len(SUFFIXES) - 9999)


@given(wanted=times)
def test_a_first_stamp_is_the_whole_second_wanted_and_never_later(wanted: datetime) -> None:
    stamp = next_stamp(wanted, None)
    assert stamp.number == 1
    assert stamp.time.microsecond == 0
    assert timedelta(0) <= wanted - stamp.time < timedelta(seconds=1)


def test_a_later_second_starts_at_one_again() -> None:
    assert next_stamp(AT + timedelta(seconds=1), Stamp(AT, 7)) == Stamp(AT + timedelta(seconds=1))


def test_a_stamp_never_goes_back_when_the_clock_does() -> None:
    assert next_stamp(AT - timedelta(days=1), Stamp(AT)) == Stamp(AT, 2)
