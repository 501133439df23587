"""Renders the results as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.measurements import Measurements, ProcessUse, Recording, Run, StageProfile
from benchmarks.targets import Target, judge

_INTRODUCTION: Final = """\
All figures are from one run of `python -m benchmarks` on the same generated databases, which
have Tautulli's newest schema.

- **Seconds** of an import are the wall time of the whole command, `python -m tautulli_pipeline
  import DB --json`, including the start of Python. The other runs have an advantage: they are
  timed from the first row read to the last commit, without their start.
- **Direct copy**: DuckDB reads the three tables joined inside SQLite, writes every column as
  text to one table, and runs a checkpoint. Its speed counts as 1.
- **The ADR's algorithm** reads batches of 1,000 with `WHERE id > last ORDER BY id LIMIT 1000`
  from the attached tables and awaits one publish with `Nats-Msg-Id` for each event. A consumer
  in a separate process has a cache of keys and runs one `INSERT ... ON CONFLICT DO NOTHING` per
  1,000 events, into a table with three unique keys. It reads the columns of the ADR that exist
  in a real database, as text, because DuckDB cannot read them with their declared types.
- **dlt** loads the three tables through its SQLAlchemy backend, with write disposition `merge`
  on their ids.
- **Peak MiB and CPU s** are the resident memory and CPU time of each process, sampled ten times
  per second. The last tenth of a second may be missing."""

_STAGES: Final = """\
CPU time of {rows:,} rows that pass through the package's own functions, one stage
after the other in one process, with a real embedded server. `publish` includes building the
messages and handling the PubAcks; `fetch` includes the pull and building the table of messages.
`decode` decodes the keys and, in a query that stores nothing, the whole events. `write` is the
rest of the writer's batch without `decode` and `dedup`, plus the checkpoint. The time of the
server is in the table above. Start, private copy, survey and ledger are not in any stage."""

_DAGSTER: Final = """\
`import_job` runs on a new instance with the project's own storage. Its op records every partition
as in the import, but nothing is read or published. The share is this run plus loading Dagster and
the definitions, opening the instance, and reading and registering the partitions, relative to the
wall time of the first import. In an import, part of this runs in parallel with other work, so the
share is an upper bound."""


def render(measured: Measurements, machine: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """Return all measurements so far as Markdown."""
    used = {**versions, **({"dlt": measured.dlt_version} if measured.dlt_version else {})}
    parts = ["# Import speed", _line("Machine", machine), _line("Versions", used), _INTRODUCTION]
    if measured.runs:
        parts += ["## Runs", _runs(measured)]
    if measured.profile:
        parts += ["## Stages", _STAGES.format(rows=measured.profile.rows)]
        parts.append(_stages(measured.profile))
    if measured.recordings:
        parts += ["## Dagster", _DAGSTER, _recordings(measured)]
    if targets := judge(measured):
        parts += ["## Targets", _targets(targets)]
    return "\n\n".join(parts) + "\n"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """Return a Markdown table; the first `texts` columns are text, the others figures."""
    rule = ["---" if n < texts else "---:" for n in range(len(heading))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heading, rule, *rows))


def _line(name: str, facts: Mapping[str, str]) -> str:
    return f"{name}: {', '.join(f'{key} {value}' for key, value in facts.items())}."


def _runs(measured: Measurements) -> str:
    heading = [
        "run",
        "outcomes",
        "peak MiB",
        "CPU s",
        "rows",
        "seconds",
        "rows/s",
        "relative to direct copy",
    ]
    ordered = sorted(measured.runs, key=lambda run: run.rows)
    return table(heading, [_run(run, measured) for run in ordered], texts=4)


def _run(run: Run, measured: Measurements) -> list[str]:
    ratio = measured.ratio_to_direct_copy(run)
    return [
        run.kind,
        run.outcomes or "-",
        _of_each({name: f"{use.peak_mib:.0f}" for name, use in _sorted(run)}),
        _of_each({name: f"{use.cpu_seconds:.1f}" for name, use in _sorted(run)}),
        f"{run.rows:,}",
        f"{run.seconds:.1f}",
        "-" if run.rows_per_second is None else f"{run.rows_per_second:,.0f}",
        "-" if ratio is None else f"{ratio:.3f}",
    ]


def _sorted(run: Run) -> list[tuple[str, ProcessUse]]:
    return sorted(run.processes.items())


def _of_each(figures: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {figure}" for name, figure in figures.items()) or "-"


def _stages(profile: StageProfile) -> str:
    total = sum(profile.cpu_seconds.values())
    rows = [
        (stage, f"{1000 * seconds / profile.rows:.4f}", f"{seconds / total:.0%}")
        for stage, seconds in profile.cpu_seconds.items()
    ]
    rows.append(("total", f"{1000 * total / profile.rows:.4f}", "100%"))
    return table(["stage", "CPU s per 1,000 rows", "share"], rows)


def _recordings(measured: Measurements) -> str:
    parts = list(dict.fromkeys(part for r in measured.recordings for part in r.seconds))
    heading = ["rows", "partitions", *(f"{part}, s" for part in parts), "share of import time"]
    return table(heading, [_recording(r, parts, measured) for r in measured.recordings], texts=0)


def _recording(recording: Recording, parts: Sequence[str], measured: Measurements) -> list[str]:
    share = measured.dagster_share(recording.rows)
    return [
        f"{recording.rows:,}",
        f"{recording.partitions:,}",
        *(f"{recording.seconds.get(part, 0):.2f}" for part in parts),
        "-" if share is None else f"{share:.0%}",
    ]


def _targets(targets: Sequence[Target]) -> str:
    rows = [(t.name, "yes" if t.met else "**no**", t.required, t.measured) for t in targets]
    return table(["target", "met", "required", "measured"], rows, texts=2)
