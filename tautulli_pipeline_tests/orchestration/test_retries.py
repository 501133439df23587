"""When a failed job may be tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tautulli_pipeline.errors import SourceError, StreamError
from tautulli_pipeline.orchestration.instance import COMMAND_LINE_TAGS
from tautulli_pipeline.orchestration.retries import Failures, latest_failures
from tautulli_pipeline_tests.orchestration.ended_runs import run_job

ENDED_AT = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("count", "minutes"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60)]
)
def test_the_pause_doubles_up_to_an_hour(count, minutes):
    failures = Failures("import_job", count, ENDED_AT, exit_code=5)
    due_at = ENDED_AT + timedelta(minutes=minutes)
    reason = failures.skip_reason(due_at - timedelta(seconds=1))
    assert reason == (
        f"import_job failed at {ENDED_AT:%Y-%m-%d} 12:00:00 UTC; "
        f"it is tried again at {due_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    assert failures.skip_reason(due_at) is None


@pytest.mark.parametrize("exit_code", [2, 3])
def test_a_lasting_reason_has_to_change_first(exit_code):
    failures = Failures("import_job", 1, ENDED_AT, exit_code)
    next_year = ENDED_AT.replace(year=2027)
    assert failures.skip_reason(next_year, cause_changed=False) == (
        f"import_job failed at {ENDED_AT:%Y-%m-%d} 12:00:00 UTC; "
        "it is tried again when the database or the settings change"
    )
    assert failures.skip_reason(next_year) is None
    assert f"tried again at {ENDED_AT:%Y-%m-%d} 12:01:00" in (failures.skip_reason(ENDED_AT) or "")


def test_failures_in_a_row_are_counted(instance):
    assert latest_failures(instance, "import_job") is None
    for count in range(1, 10):
        run_job(instance, "import_job", StreamError("no server"))
        run_job(instance, "consume_job")
        run_job(instance, "import_job", tags=COMMAND_LINE_TAGS)
        found = latest_failures(instance, "import_job")
        assert (found.count, found.exit_code) == (min(count, 7), 5)
    assert abs(datetime.now(UTC) - found.ended_at) < timedelta(minutes=1)
    run_job(instance, "import_job")
    assert latest_failures(instance, "import_job") is None
    run_job(instance, "import_job", SourceError("no database"))
    found = latest_failures(instance, "import_job")
    assert (found.count, found.exit_code) == (1, 3)


def test_an_unexpected_failure_has_no_exit_code(instance):
    run_job(instance, "consume_job", RuntimeError("odd"))
    assert latest_failures(instance, "consume_job").exit_code is None
