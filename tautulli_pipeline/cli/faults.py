"""Faults as people see them: one or two lines, and the exit code."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Final, TextIO

import click
import orjson

from tautulli_pipeline.data_dir.logs import log_to_stderr
from tautulli_pipeline.errors import ConfigurationError, PipelineError, StoppedError

# A name in a message may hold line breaks, terminal controls or bytes that are no text.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNEXPECTED_HINT: Final = "run it again with --debug and report what it prints"


def run_reporting_faults(application: click.Command, arguments: Sequence[str]) -> int:
    """Run the command; give the exit code of the contract."""
    as_json, debug = "--json" in arguments, "--debug" in arguments
    if debug:
        log_to_stderr()
    try:
        application.main(args=list(arguments), standalone_mode=False)
        sys.stdout.flush()
    except PipelineError as error:
        return _report(error, as_json=as_json, debug=debug)
    except click.ClickException as error:
        return _report_usage(error, as_json=as_json, debug=debug)
    except (KeyboardInterrupt, click.Abort):
        return _report(StoppedError("stopped"), as_json=as_json, debug=debug)
    except Exception as error:  # the last boundary: whatever it is, it gets one line
        cause = str(error).strip().splitlines()
        message = f"unexpected {type(error).__name__}: {cause[0] if cause else 'no message'}"
        fault = PipelineError(message, hint=_UNEXPECTED_HINT)
        return _report(fault, as_json=as_json, debug=debug)
    return 0


def _report_usage(error: click.ClickException, *, as_json: bool, debug: bool) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return ConfigurationError.exit_code
    usage = ConfigurationError(error.format_message(), hint="see --help")
    return _report(usage, as_json=as_json, debug=debug)


def _report(error: PipelineError, *, as_json: bool, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    message = without_controls(error.message)
    if as_json:
        _write(sys.stdout, orjson.dumps(error.facts | {"error": message}).decode())
    # The real one: a thread that was given up may still keep Dagster's words off the other.
    stderr = sys.__stderr__ or sys.stderr
    _write(stderr, f"tautulli-pipeline: {message}")
    if error.hint:
        _write(stderr, f"  {error.hint}")
    return error.exit_code


def without_controls(text: str) -> str:
    """The text with what would move a terminal's cursor, or is no text, spelled out."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def _write(stream: TextIO, line: str) -> None:
    """Write a line; where nobody can read any more, the exit code alone has to do."""
    try:
        stream.write(line + "\n")
        stream.flush()
    except OSError:
        # What is left of it must not fail again when Python ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
