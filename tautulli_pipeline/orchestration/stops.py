"""Deliberate stops, as Dagster shows them."""

from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager

import dagster as dg

from tautulli_pipeline.errors import PipelineError, StoppedError


@contextmanager
def stop_as_cancellation(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
) -> Iterator[None]:
    """Record a deliberate stop as a canceled run rather than a failed one."""
    try:
        yield
    except (StoppedError, CancelledError):
        context.instance.report_run_canceling(context.run)
        raise


@contextmanager
def fault_as_failure() -> Iterator[None]:
    """Show a fault of ours as a failure with what failed, why and what to do."""
    try:
        yield
    except StoppedError:
        raise
    except PipelineError as error:
        progress = error.facts.get("progress") or {}
        raise dg.Failure(
            f"{error.message}. {error.hint}" if error.hint else error.message,
            metadata={"progress": dg.MetadataValue.json(progress)} if progress else {},
            allow_retries=False,
        ) from error
