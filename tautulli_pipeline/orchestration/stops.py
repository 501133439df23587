"""Report stops to Dagster as canceled runs, and pipeline errors as failures."""

from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any, Final

import dagster as dg

from tautulli_pipeline.errors import PipelineError, StoppedError, WarehouseBrokenError

# The label of the exit code in the metadata of a failure.
EXIT_CODE: Final = "exit_code"


@contextmanager
def stop_as_cancellation(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
) -> Iterator[None]:
    """Record a requested stop as a canceled run instead of a failed one."""
    try:
        yield
    except (StoppedError, CancelledError):
        context.instance.report_run_canceling(context.run)
        raise


@contextmanager
def fault_as_failure() -> Iterator[None]:
    """Turn a `PipelineError` into a Dagster failure with its message, hint and progress."""
    try:
        yield
    except (StoppedError, WarehouseBrokenError):  # neither is the end of the run
        raise
    except PipelineError as error:
        metadata: dict[str, Any] = {EXIT_CODE: error.exit_code}
        if progress := error.facts.get("progress"):
            metadata["progress"] = dg.MetadataValue.json(progress)
        description = f"{error.message}. {error.hint}" if error.hint else error.message
        # Dagster shows a failure with the name of its class and a traceback.
        dg.get_dagster_logger().error(description)
        raise dg.Failure(description, metadata, allow_retries=False) from error
