"""What is said to a database means the same in each, whatever is in the values."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.ledger.connection import keys
from tests.kit.ledgers import connected

if TYPE_CHECKING:
    from tests.kit.ledgers import Opens

NASTY = st.sampled_from(
    ["", "NULL", "null", "{}", '"', "\\", ",", "%s", "%", "?", "a b", "\n", "é", "\x1a0000"]
)
KEYS = st.lists(
    NASTY | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), unique=True
)


def test_among_several_keys_are_these_and_no_others(opens: Opens) -> None:
    """Braces, quotes, commas and marks in a key are nothing but its characters."""
    with closing(opens()) as storage, connected(storage) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute("SET search_path = audit_exporter")
        connection.execute("BEGIN")

        @settings(deadline=None, max_examples=60)
        @given(KEYS, KEYS)
        def the_same(there: list[str], sought: list[str]) -> None:
            connection.execute("DELETE FROM mappings")
            rows = [(key, key) for key in there]
            connection.execute_for_each("INSERT INTO mappings (id, value) VALUES (?, ?)", rows)
            found = connection.execute("SELECT id FROM mappings WHERE id AMONG ?", [keys(connection, sought)])
            assert sorted(one for (one,) in found) == sorted({*there} & {*sought})

        the_same()
        connection.execute("ROLLBACK")
