"""The values that commands offer are exactly those that the table accepts."""

from __future__ import annotations

import re

import duckdb
import pytest

from tautulli_pipeline.warehouse.audit_words import LAYERS, REASONS, STATUSES

VALUES = {"dedupe_layer": LAYERS, "dedupe_reason": REASONS, "status": STATUSES}
INSERT = """
    INSERT INTO dedupe_audit_log (id, discarded_event_id, discarded_payload, discarded_subject,
        matched_event_id, dedupe_layer, dedupe_reason, status, stream_id, stream_sequence,
        created_at)
    VALUES (uuid(), uuid(), '{}', 's', uuid(), $dedupe_layer, $dedupe_reason, $status, 'S', 1,
        now())
"""


@pytest.mark.parametrize("column", VALUES)
def test_the_table_accepts_only_these_values(warehouse, column):
    defaults = {name: values[0] for name, values in VALUES.items()}
    for value in VALUES[column]:
        warehouse.execute(INSERT, defaults | {column: value})
    for value in ("", VALUES[column][0].upper(), "stream"):
        with pytest.raises(duckdb.ConstraintException, match="CHECK"):
            warehouse.execute(INSERT, defaults | {column: value})


@pytest.mark.parametrize("column", VALUES)
def test_every_value_of_the_table_is_listed(warehouse, column):
    checks = warehouse.execute(
        "SELECT constraint_text FROM duckdb_constraints() "
        "WHERE table_name = 'dedupe_audit_log' AND constraint_type = 'CHECK'"
    ).fetchall()
    (check,) = [text for (text,) in checks if column in text]
    assert set(re.findall(r"'(\w+)'", check)) == set(VALUES[column])
