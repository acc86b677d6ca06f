"""No text takes longer to mask than its length says, whatever a stranger writes."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

import pytest

from exporter.formats.masking import masked, suspicious

if TYPE_CHECKING:
    from collections.abc import Callable

BEGINNINGS: Final = (
    *("ghp_", "github_pat_", "glpat-", "glrt-", "xoxb-", "xapp-1-", "sk_live_", "rk_test_", "whsec_", "npm_"),
    *("hf_", "shpat_", "dop_v1_", "AIza", "SG.", "sk-", "pypi-", "GOCSPX-", "ya29.", "hvs.", "eyJ", "AKIA"),
    *("-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "Bearer ", "https://a:", "hooks.slack.com/services/"),
    *(
        "token=",
        "token = ",
        "token='",
        'token=\\"',
        '"token":"',
        "'token': '",
        '"token":',
        '"token":[',
        "token",
    ),
    *("password=token=basic ", "Authorization: ", "Authorization: Basic ", "Authorization: Digest a=b,"),
    *("authorization:\n", "Cookie: ", "Cookie: a=b;", "X-API-Key: ", "sig=", "account_key=", "://", ":"),
)
FILLINGS: Final = (
    "",
    "a",
    "a1",
    "_",
    "a-",
    "eyJ.",
    "-eyJ",
    "-sk-",
    '"',
    "\\",
    '\\"',
    " ",
    "=",
    "[",
    "{",
    "A ",
    ":/@",
)

HOSTILE: Final[tuple[Callable[[int], str], ...]] = (
    lambda size: "".join("\\" * depth + '"token":' + "\\" * depth + '"' for depth in range(int(size**0.5))),
    lambda size: "".join("token=" + "\\" * depth + "'" for depth in range(int((2 * size) ** 0.5))),
    lambda size: '{"token":' * (size // 9) + "1" + "}" * (size // 9),
    lambda size: '{"token":' + "[" * (size // 2) + "]" * (size // 2) + "}",
    lambda size: json.dumps([json.dumps({"token": ["x"]})] * (size // 24)),
    lambda size: '{"a": "' + '\\"' * (size // 2) + '"}',
    lambda size: "token=" + "bearer " * (size // 7),
    lambda size: "".join(f"https://a:b{n}@c " for n in range(size // 16)),
)


def seconds(text: str) -> float:
    """What looking at a text quickly and then carefully costs."""
    fragment = json.dumps(text).encode()
    start = time.process_time()
    suspicious([fragment])
    masked(fragment)
    return time.process_time() - start


def is_linear(text_of: Callable[[int], str]) -> bool:
    """Whether eight times the length costs far less than 64 times the time; what costs nothing is."""
    large = min(seconds(text_of(40_000)) for _ in range(2))
    return large < 0.03 or large < 20 * min(seconds(text_of(5_000)) for _ in range(3))


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_a_beginning_of_a_secret_again_and_again_costs_what_its_length_says(beginning: str) -> None:
    """Whatever stands behind it, once at the end or each time."""
    slow = [
        filling
        for filling in FILLINGS
        if not is_linear(lambda size: (beginning + filling) * (size // len(beginning + filling)))  # noqa: B023 - called at once
        or not is_linear(lambda size: beginning + (filling or "a") * (size // len(filling or "a")))  # noqa: B023 - as above
    ]
    assert slow == []


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_is_built_to_be_slow_costs_what_its_length_says(hostile: Callable[[int], str]) -> None:
    assert is_linear(hostile)
    assert seconds(hostile(1_000_000)) < 5
