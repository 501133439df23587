"""The words of `dedupe_audit_log`: by which key, in which layer, and what was decided."""

from __future__ import annotations

from typing import Final

REASONS: Final = (
    *("event_id", "session_key", "correlation_key", "cross_source_key"),
    "rating_key_user_started",
)
LAYERS: Final = ("cache", "database")
STATUSES: Final = ("auto_dedupe", "user_confirmed", "user_restored")
