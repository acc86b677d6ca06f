"""Secrets are masked wherever they stand, nothing else is touched, and the signs miss none of them.

The secrets are put together here, so that no scanner takes this file for one that leaks.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.columns import Layout, Roles, RowBlock, TextTimes
from exporter.formats import compile_format
from exporter.formats.masking import masked, suspicious
from exporter.formats.secret_forms import mask_text
from exporter.formats.secret_names import MASK
from exporter.model import Branch, Rendering, flat_mapping

if TYPE_CHECKING:
    import uuid

BODY = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0"
JWT = f"eyJ{BODY[:12]}.eyJ{BODY[:20]}.{BODY[:22]}-_x"
KEY = f"-----BEGIN RSA PRIVATE KEY-----\n{BODY}\n{BODY}\n-----END RSA PRIVATE KEY-----"
TOKENS = (
    *(f"gh{kind}_{BODY[:36]}" for kind in "pousr"),
    f"github_pat_{BODY[:22]}_{BODY}",
    f"glpat-{BODY[:20]}",
    f"xoxb-123456789012-{BODY[:24]}",
    f"sk_live_{BODY[:24]}",
    f"rk_live_{BODY[:24]}",
    f"npm_{BODY[:36]}",
    f"AIza{BODY[:35]}",
    f"SG.{BODY[:22]}.{BODY}",
    f"sk-{BODY}",
    f"sk-ant-api03-{BODY}",
    JWT,
    f"eyJ{BODY[:30]}..{BODY[:16]}.{BODY}.{BODY[:22]}",
    KEY,
    f"sk_test_{BODY[:24]}",
    f"rk_test_{BODY[:24]}",
    f"whsec_{BODY[:32]}",
    f"pypi-AgEIcHlwaS5vcmc{BODY}",
    f"hf_{BODY[:34]}",
    f"GOCSPX-{BODY[:28]}",
    f"ya29.{BODY}",
    f"glrt-{BODY[:20]}",
    f"xapp-1-A0123456-1234567890-{BODY}",
    *(f"shp{kind}_{BODY[:32]}" for kind in ("at", "ca", "pa", "ss")),
    f"dop_v1_{BODY}",
    f"hvs.{BODY}",
)
PLACES = (
    *(("Authorization: Bearer {}", "Authorization: Basic {}", "-H 'authorization: Splunk {}' https://x")),
    *(
        (
            "https://x.example/a?access_token={}&page=2",
            "?sig={}",
            "X-Amz-Signature={}",
            "&X-Amz-Security-Token={}",
        )
    ),
    *(("postgres://ada:{}@db.example/audit", "api_key={};", "DB_PASSWORD={}")),
    *(('{{"password": "{}", "a": 1}}', 'sent {{"client_secret":"{}"}} to x', '{{\\"apiKey\\":\\"{}\\"}}')),
    *('{{"newPassword": "{}"}}', '{{"webhook_secret": "{}"}}', "signing_secret={}", "totp_secret = {}"),
    *(
        "pwd={}",
        "csrf_token={}",
        "https://x.example/reset?reset_token={}",
        'password="{}", ',
        "password='{}'",
    ),
    *("password = {}", 'PASSWORD: "{}"', "X-API-Key: {}", "private-token: {}"),
    *("x-auth-token: {}", "secret={}"),
    *(("{{'refresh_token': '{}'}}", '[{{"Authorization": "{}"}}]', '{{"id_token" : "{}"}}')),
)
ORDINARY = (
    "the token was revoked",
    "password changed",
    "Password: changed by an administrator",
    "Bearer authentication was enabled",
    "signature verified; secret rotated",
    "user ada@acme.example signed in from 203.0.113.7",
    "https://app.example.com/settings?tab=security&id=42#top",
    "git@github.com:acme/repo.git",
    "sk-Skandinavia and task-force-management-of-2026",
    "9d9b76ce-47bb-4838-a96a-1b5fd4d1b564",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "AKIA is a prefix, ASIAN is a word",
    "arn:aws:iam::123456789123:user/pedro",
    '{"token_type": "oauth", "granular_bot_token": true, "password": null, "secret": false}',
    '{"NextToken": "AAIAAUCZLcGdOTmfTz2Vwy7qCVgVq6KNMDDo2s"}',
    "password=null token=none secret=true sig=",
    "eyJ alone, SG.x.y, npm_install, ghp_short",
    "a: b, c: d; key=value; monkey=banana",
    *("xoxo-hugs-and-kisses", "sk-learn-and-something-more-words-2", "sk-SK-slovak-locale-something-2026"),
    *("account_key=A-17", '{"signature":"Best regards, Bob"}', "signature=valid", "secret=yes", "sig=ma"),
    *("Authorization: Basic plan", "Authorization: token expired", "authorization=allowed"),
    *("Authorization: granted", "X-API-Key: missing", "Cookie: accepted", "Set-Cookie: refused"),
    *(
        "pypi-package-name-of-some-length",
        "password= token= x",
        'password=""',
        '{"password": [], "secret": {}}',
    ),
    *('{"secret": {"created": true, "by": null}}', "eyJohn.doe.of.acme.example", '{"cookie": "accepted"}'),
)


def as_json(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode()


# --- what is masked ------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("around", ["{}", "it was {}, they say", '"{}"', "({})", "\n{}\n"])
def test_a_token_of_a_known_form_is_masked_wherever_it_stands(token: str, around: str) -> None:
    assert mask_text(around.format(token)) == around.format(MASK)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("secret", ["hunter2.Horse+Battery", "deadbeef-0000-4000-8000-1234567890ab"])
def test_a_secret_in_a_known_place_is_masked_and_nothing_beside_it(place: str, secret: str) -> None:
    assert mask_text(place.format(secret)) == place.format(MASK)


def test_of_an_access_key_id_the_last_four_characters_stay() -> None:
    """They tell which of several it is, and nothing else."""
    assert mask_text(f"AKIA{'Q' * 12}7Z4X used") == f"{MASK}7Z4X used"
    assert mask_text(f"ASIA{'Q' * 12}7Z4X") == f"{MASK}7Z4X"


@pytest.mark.parametrize("text", ORDINARY)
def test_an_ordinary_text_stays_as_it_is(text: str) -> None:
    assert mask_text(text) == text
    assert masked(as_json(text)) == as_json(text)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_json_stays_json_however_deep_it_lies_in_texts(depth: int) -> None:
    """Members after a secret are whole, and those around it mean what they meant."""
    value: Any = {
        "a": 'q"\\',
        "password": 'p"\\w',
        "n": 1.50,
        "list": [TOKENS[0], {"token": 7}],
        "z": "ü\u2028",
    }
    wanted: Any = value | {"password": MASK, "list": [MASK, {"token": MASK}]}
    for _ in range(depth):
        value = {"inner": json.dumps(value)}
    found = json.loads(masked(json.dumps(value).encode()))
    for _ in range(depth):
        found = json.loads(found["inner"])
    assert found == wanted
    assert b"1.5" in masked(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('Authorization: Digest username="ada", realm="x y", response="6629f", nc=1\nHost: x',
         "Authorization: Digest {}\nHost: x"),
        ("authorization: AWS4-HMAC-SHA256 Credential=AK/2026/us, SignedHeaders=a;b, Signature=fe19",
         "authorization: AWS4-HMAC-SHA256 {}"),
        ("Set-Cookie: sid=abc; Path=/; HttpOnly", "Set-Cookie: {}; HttpOnly"),
        ("Cookie: a=b; c=d\nHost: x", "Cookie: {}\nHost: x"),
        ("https://hooks.slack.com/services/T0000/B0000/abcdefgh", "https://hooks.slack.com/services/{}"),
        ('sent {"password": ["x", {"y": [1]}], "b": [1]} to x', 'sent {"password": "{}", "b": [1]} to x'),
        ('sent {"password": 4711, "b": 1} to x', 'sent {"password": "{}", "b": 1} to x'),
        ('sent {"password": "never ends', 'sent {"password": "{}'),
        ('sent {"a": "\\\\", "password": "x\\\\", "b": 1} to x',
         'sent {"a": "\\\\", "password": "{}", "b": 1} to x'),
    ],
)  # fmt: skip
def test_all_of_a_secret_is_masked_and_what_is_around_it_stays(text: str, wanted: str) -> None:
    assert mask_text(text) == wanted.replace("{}", MASK)
    assert suspicious([as_json(text)]) == [0]


def test_lists_and_objects_of_a_secret_keep_their_form() -> None:
    """Readers have a type for each field, so texts in it become others, and objects stay objects."""
    value = {
        "password": ["x", 5, None, True, ""],
        "newSecret": {"old": "a", "new": {"deep": ["b"]}, "n": -1.5},
        "a": [{"token": [["t"]]}, "kept"],
        "secret": [],
        "z": 1,
    }
    wanted = {
        "password": [MASK, MASK, None, True, ""],
        "newSecret": {"old": MASK, "new": {"deep": [MASK]}, "n": MASK},
        "a": [{"token": [[MASK]]}, "kept"],
        "secret": [],
        "z": 1,
    }
    fragment = json.dumps(value).encode()
    assert json.loads(masked(fragment)) == wanted
    assert masked(masked(fragment)) == masked(fragment)
    assert suspicious([fragment]) == [0]
    assert json.loads(json.loads(masked(as_json(fragment.decode())))) == wanted


def test_what_is_a_secret_without_the_one_in_it_is_masked_at_once() -> None:
    fragment = json.dumps({"account_key": f"{KEY}-with-more"}).encode()
    assert json.loads(masked(fragment)) == {"account_key": MASK}


@pytest.mark.parametrize("fragment", [b" null ", b' {"a": 1} ', b' "x" ', b"\t5"])
def test_space_around_json_stays_where_there_is_no_secret(fragment: bytes) -> None:
    """What is changed is counted, and nothing is here."""
    assert masked(fragment) == fragment


def test_json_that_is_nested_without_end_is_masked_without_recursion() -> None:
    deep = "[" * 50_000 + f'{{"password": ["{BODY}"]}}' + "]" * 50_000
    assert BODY not in mask_text(deep)
    assert BODY.encode() not in masked(deep.encode())


# --- properties ----------------------------------------------------------------------------------------

hosts = st.sampled_from([*TOKENS, *ORDINARY, *(place.format("s3cr3t-V") for place in PLACES)])
SPACES = ("", " ", "  ", "\n", "\t ", "\r\n")
named = st.builds(
    "{1}{0}{1}{2}{3}{2}{1}s3cr3t{1}".format,
    st.sampled_from(
        ["password", "Authorization", "client_secret", "apiKey", "sig", "PASSWD", "a-b_passphrase"]
    ),
    st.builds(lambda slashes, quote: "\\" * slashes + quote, st.integers(0, 9), st.sampled_from("\"'")),
    st.sampled_from(SPACES),
    st.sampled_from(":="),
)
"""A secret's name and value, quoted and spaced in whatever way."""

noise = (
    named
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.text('"\\{}[]:=@/ \n-_', max_size=6)
)
texts = st.lists(hosts | noise, max_size=5).map("".join)
values = st.recursive(
    texts | st.integers() | st.booleans() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["password", "a", "token"]) | noise, inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=300)
@given(texts)
def test_masking_twice_is_masking_once(text: str) -> None:
    assert mask_text(mask_text(text)) == mask_text(text)


@settings(deadline=None, max_examples=300)
@given(values, st.booleans())
def test_a_masked_value_is_one_line_of_json(value: Any, is_nested: bool) -> None:  # noqa: ANN401, FBT001 - JSON
    """Of the same shape, with the same names unless these were secrets themselves."""
    fragment = as_json(json.dumps(value)) if is_nested else json.dumps(value).encode()
    found = masked(fragment)
    assert b"\n" not in found
    assert type(json.loads(found)) is type(json.loads(fragment))


@settings(deadline=None, max_examples=300)
@given(st.lists(values, min_size=1, max_size=6), st.booleans())
def test_no_secret_is_without_a_sign(column: list[Any], is_ascii: bool) -> None:  # noqa: FBT001 - a draw
    """What the quick look passes over is what the slow one would leave as it is."""
    fragments = [json.dumps(value, ensure_ascii=is_ascii).encode() for value in column]
    suspects = suspicious(fragments)
    assert suspects == sorted(set(suspects))
    passed = [fragment for index, fragment in enumerate(fragments) if index not in suspects]
    assert [masked(fragment) for fragment in passed] == passed


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([*TOKENS, *(place.format("s3cr3t-V") for place in PLACES)]) | named, st.data())
def test_a_secret_whose_characters_are_spelt_out_is_found(secret: str, data: st.DataObject) -> None:
    """JSON may write any character as `\\u0070`, and several levels of JSON write each its own way."""
    for _ in range(data.draw(st.integers(1, 3))):
        spelt = data.draw(st.sets(st.sampled_from(sorted(set(secret))), max_size=3))
        secret = "".join(
            f"\\u{ord(one):04x}" if one in spelt else json.dumps(one, ensure_ascii=False)[1:-1]
            for one in secret
        )
        secret = f'{{"a": "{secret}"}}'
    fragment = secret.encode()
    json.loads(fragment)
    assert masked(fragment) == fragment or suspicious([fragment]) == [0]


@pytest.mark.parametrize(
    "text",
    [
        *("'password'  : 'x'", "'password'\n: 'x'", "Authorization : Bearer x", "authorization = Basic x"),
        *("authorization\t =Basic x", '"authorization"= Basic x', "\\'password\\': \\'x\\'", "://ada:x@db"),
    ],
)
def test_a_secret_in_an_unusual_place_is_masked(text: str) -> None:
    """By the quick look and the slow one."""
    assert masked(as_json(text)) == as_json(f"{MASK}".join(text.rsplit("x", 1)))
    assert suspicious([as_json(text)]) == [0]


@pytest.mark.parametrize("depth", range(7))
def test_a_secret_is_found_however_deep_it_lies_in_texts(depth: int) -> None:
    value = {"password": "x"}
    for _ in range(depth):
        value = {"inner": json.dumps(value)}
    fragment = json.dumps(value).encode()
    assert suspicious([fragment]) == [0]
    assert MASK.encode() in masked(fragment)


@pytest.mark.parametrize(
    "secret", [*TOKENS, f"AKIA{'Q' * 16}", f"ASIA{'Q' * 16}", *(place.format("s3cr3t") for place in PLACES)]
)
def test_every_form_of_a_secret_has_a_sign_of_its_own(secret: str) -> None:
    """In a text, and in JSON in a text; and the value is found among others."""
    column = [as_json("nothing"), as_json(secret), b"null", as_json(json.dumps({"a": [secret]})), b"1"]
    assert suspicious(column) == [1, 3]
    assert masked(column[1]) != column[1]
    assert masked(column[3]) != column[3]


@pytest.mark.parametrize(
    "before", ["", "\n", "\t", "\x0b", "\x1f", "\u2028", "\u00fc", '"', "\\", "/", "_", " "]
)
@pytest.mark.parametrize("depth", range(3))
def test_a_token_is_seen_whatever_stands_before_it(before: str, depth: int) -> None:
    """And however that is spelt in JSON in a text in JSON."""
    for token in TOKENS:
        value: Any = f"{before}{token}"
        for _ in range(depth):
            value = {"inner": json.dumps(value)}
        fragment = as_json(value) if isinstance(value, str) else json.dumps(value).encode()
        assert masked(fragment) == fragment or suspicious([b'"x"', fragment]) == [1]
        assert depth or before == "_" or masked(fragment) != fragment


@given(st.uuids(), st.emails(), st.integers(), st.binary(max_size=64))
def test_ids_addresses_and_hashes_are_no_secrets(one: uuid.UUID, email: str, number: int, raw: bytes) -> None:
    text = f"{one} {one.hex} {email} {number} {raw.hex()}"
    assert mask_text(text) == text


# --- in a format ---------------------------------------------------------------------------------------

NAMES = ("id", "time", "account", "password", "details")
MAPPED = flat_mapping(
    {"Event ID": ("string", "id"), "Text": ("string", "details"), "Json": ("value", "details")}
)


def block(*rows: tuple[Any, Any, Any]) -> RowBlock:
    whole = [(one, "2026-11-19T04:00:00Z", "acme", *others) for one, *others in rows]
    roles = Roles("id", "time", "account")
    return RowBlock(Branch.ON_TIME, Layout(NAMES, NAMES, roles, TextTimes(), frozenset({"details"})), whole)


def test_values_with_a_secret_are_counted_once_each() -> None:
    """However many secrets are in one, and however many fields show it."""
    form = compile_format(Rendering("mine", MAPPED, mask_secrets=True))
    two = json.dumps({"token": "x", "b": TOKENS[0]})
    lines, counts = form.encode(block((1, None, two), (2, None, '{"a": 1}'), (3, None, "token=abc")))
    assert counts == {"secrets": 2}
    first, second, third = map(json.loads, lines.splitlines())
    assert first == {
        "Event ID": "1",
        "Text": json.dumps({"token": MASK, "b": MASK}),
        "Json": {"token": MASK, "b": MASK},
    }
    assert second["Json"] == {"a": 1}
    assert third == {"Event ID": "3", "Text": f"token={MASK}", "Json": f"token={MASK}"}


def test_a_column_of_lists_that_is_called_a_password_is_one() -> None:
    """Arrays and documents, too."""
    layout = Layout(NAMES, NAMES, Roles("id", "time", "account"), TextTimes(), frozenset({"password"}))
    rows = [(1, "2026-11-19T04:00:00Z", "acme", '["hunter2", {"a": "hunter3"}]', None)]
    form = compile_format(Rendering("native", None, mask_secrets=True))
    lines, counts = form.encode(RowBlock(Branch.ON_TIME, layout, rows))
    assert json.loads(lines)["password"] == [MASK, {"a": MASK}]
    assert counts == {"secrets": 1}


def test_a_column_that_is_called_a_password_is_one() -> None:
    form = compile_format(Rendering("native", None, mask_secrets=True))
    lines, counts = form.encode(block((1, "hunter2", "{}"), (2, None, "{}"), (3, 4711, "{}")))
    assert [json.loads(line)["password"] for line in lines.splitlines()] == [MASK, None, MASK]
    assert counts == {"secrets": 2}


@pytest.mark.parametrize("record_id", [TOKENS[0], "token=abc", JWT])
def test_a_records_id_is_never_masked(record_id: str) -> None:
    """Whatever it looks like: it is what records are told apart by."""
    form = compile_format(Rendering("mine", MAPPED, mask_secrets=True))
    lines, counts = form.encode(block((record_id, None, "{}")))
    assert json.loads(lines)["Event ID"] == record_id
    assert counts == {}


def test_without_a_secret_a_block_is_encoded_as_if_nobody_looked() -> None:
    plain = Rendering("native", None)
    rows = [(number, None, json.dumps({"a": text})) for number, text in enumerate(ORDINARY)]
    expected, _ = compile_format(plain).encode(block(*rows))
    assert compile_format(replace(plain, mask_secrets=True)).encode(block(*rows)) == (expected, {})
