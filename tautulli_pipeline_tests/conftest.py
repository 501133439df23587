"""Which tests have coverage look into the processes that they start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# A command that is measured takes half again as long, and what these tests have it do is all
# that others have it do as well.
MEASURED = {
    "orchestration.test_checks",
    "orchestration.test_runs",
    "orchestration.test_serving",
}


@pytest.fixture(scope="module", autouse=True)
def _children_measured_where_it_tells_something(request: pytest.FixtureRequest) -> Iterator[None]:
    name = request.module.__name__.partition(".")[2]
    with pytest.MonkeyPatch.context() as patched:
        if name not in MEASURED and not name.startswith("stream."):
            for variable in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
                patched.delenv(variable, raising=False)
        yield
