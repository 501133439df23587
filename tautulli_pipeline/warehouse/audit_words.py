"""The values of `dedupe_audit_log`: reasons (the matching key), layers and statuses."""

from __future__ import annotations

from typing import Final

REASONS_IN_WORDS: Final = {
    "event_id": "same event",
    "session_key": "same session",
    "correlation_key": "same correlation key",
    "cross_source_key": "reported by another source",
    "rating_key_user_started": "same item, user and start",
    "guid_user_started": "same item by guid, user and start",
}
REASONS: Final = tuple(REASONS_IN_WORDS)
LAYERS: Final = ("cache", "database")
STATUSES_IN_WORDS: Final = {
    "auto_dedupe": "",
    "user_confirmed": "confirmed",
    "user_restored": "restored",
}
STATUSES: Final = tuple(STATUSES_IN_WORDS)
