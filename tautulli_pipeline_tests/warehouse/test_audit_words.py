"""The words that commands offer are those that the table takes, and no others."""

from __future__ import annotations

import re

import duckdb
import pytest

from tautulli_pipeline.warehouse.audit_words import LAYERS, REASONS, STATUSES

WORDS = {"dedupe_layer": LAYERS, "dedupe_reason": REASONS, "status": STATUSES}
INSERT = """
    INSERT INTO dedupe_audit_log (id, discarded_event_id, discarded_payload, discarded_subject,
        matched_event_id, dedupe_layer, dedupe_reason, status, stream_id, stream_sequence,
        created_at)
    VALUES (uuid(), uuid(), '{}', 's', uuid(), $dedupe_layer, $dedupe_reason, $status, 'S', 1,
        now())
"""


@pytest.mark.parametrize("column", WORDS)
def test_the_table_takes_these_words_alone(warehouse, column):
    usual = {name: words[0] for name, words in WORDS.items()}
    for word in WORDS[column]:
        warehouse.execute(INSERT, usual | {column: word})
    for word in ("", WORDS[column][0].upper(), "stream"):
        with pytest.raises(duckdb.ConstraintException, match="CHECK"):
            warehouse.execute(INSERT, usual | {column: word})


@pytest.mark.parametrize("column", WORDS)
def test_no_word_of_the_table_is_left_out(warehouse, column):
    checks = warehouse.execute(
        "SELECT constraint_text FROM duckdb_constraints() "
        "WHERE table_name = 'dedupe_audit_log' AND constraint_type = 'CHECK'"
    ).fetchall()
    (check,) = [text for (text,) in checks if column in text]
    assert set(re.findall(r"'(\w+)'", check)) == set(WORDS[column])
