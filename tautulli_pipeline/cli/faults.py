"""Report an error as a message, a hint and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final, TextIO

import click
import orjson

from tautulli_pipeline.cli.lines import wrap_for
from tautulli_pipeline.data_dir.logs import log_to_stderr
from tautulli_pipeline.errors import ConfigurationError, PipelineError, StoppedError
from tautulli_pipeline.printable import json_for, lines_without_controls, without_controls

_UNEXPECTED_HINT: Final = "run it again with --debug and report the output"


def run_reporting_faults(application: click.Command, arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    as_json, debug = "--json" in arguments, "--debug" in arguments
    try:
        with log_to_stderr(enabled=debug):
            application.main(args=list(arguments), standalone_mode=False)
        sys.stdout.flush()
    except PipelineError as error:
        return _report(error, as_json=as_json, debug=debug)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return ConfigurationError.exit_code
    except click.ClickException as error:
        usage = ConfigurationError(error.format_message(), hint="see --help")
        return _report(usage, as_json=as_json, debug=debug)
    except (KeyboardInterrupt, click.Abort):
        return _report(StoppedError("stopped"), as_json=as_json, debug=debug)
    except Exception as error:  # the last resort: report any error in one line
        cause = str(error).strip().splitlines()
        message = f"unexpected {type(error).__name__}: {cause[0] if cause else 'no message'}"
        fault = PipelineError(message, hint=_UNEXPECTED_HINT)
        return _report(fault, as_json=as_json, debug=debug)
    return 0


def _report(error: PipelineError, *, as_json: bool, debug: bool) -> int:
    if debug:
        sys.stderr.write(lines_without_controls(traceback.format_exc()))
    message = without_controls(error.message)
    if as_json:
        facts = orjson.dumps(error.facts | {"error": message}).decode()
        _write(sys.stdout, json_for(sys.stdout, facts))
    # Not `sys.stderr`: an abandoned thread may still be redirecting it to hide Dagster's output.
    stderr = sys.__stderr__ or sys.stderr
    _write(stderr, wrap_for(stderr, f"tautulli-pipeline: {message}"))
    if error.hint:
        _write(stderr, wrap_for(stderr, error.hint, indent="  "))
    return error.exit_code


def _write(stream: TextIO, line: str) -> None:
    """Write a line. If the reader has gone away, the exit code has to suffice."""
    try:
        stream.write(line + "\n")
        stream.flush()
    except OSError:
        # Discard the rest of the buffer, so that flushing it at exit does not fail again.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
