"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.bars import Bar, judge
from benchmarks.measurements import Measurements, ProcessUse, Recording, Run, StageProfile

_INTRODUCTION: Final = """\
Everything below was measured in one run of `python -m benchmarks`, side by side on the same
made-up databases of Tautulli's newest schema.

- **Seconds** of an import are wall time of the whole command, `python -m tautulli_pipeline
  import DB --json`, start of Python included. Those of the others are more favourable to them:
  from the first row read to the last commit, without their start.
- **Direct copy**: DuckDB reads the three tables joined inside SQLite and puts every column as
  text into one table, then a checkpoint. Its rows a second are 1.00.
- **The ADR's own algorithm**: batches of 1,000 by `WHERE id > last ORDER BY id LIMIT 1000` from
  the attached tables, one awaited publish with `Nats-Msg-Id` for each event, a consumer in a
  process of its own with a cache of keys and one `INSERT ... ON CONFLICT DO NOTHING` for each
  1,000 into a table with three unique keys. It reads the ADR's columns, those that a real
  database has, and as text: by their declared types none can be read.
- **dlt** loads the three tables with write disposition `merge` on their ids, by its SQLAlchemy
  backend.
- **Peak MiB and CPU s** of each process: resident memory and processor time, sampled ten times a
  second, so that the last tenth of a second may be missing."""

_STAGES: Final = """\
Processor time of {rows:,} rows that go through the package's own functions one stage after the
other in one process, with a real embedded server. `publish` has the making of messages and the
taking in of PubAcks, `fetch` the pulling and the table of messages. `decode` is the decoding of
keys and, in a query that stores nothing, of whole events; `write` is the writer's whole batch
less its `decode` and `dedup`, with the checkpoint. The server's own time is in the table above;
start, private copy, survey and ledger are in no stage."""

_DAGSTER: Final = """\
Dagster: `import_job` is run on a fresh instance with the project's own storage, its op recording
every partition as in the import while nothing is read or published. This and the loading of
Dagster and the definitions, the opening of the instance and the partitions' reading and showing
are taken as its share of the first import's wall time. In an import, part of it happens while
others work, so that the share is an upper bound."""


def render(measured: Measurements, machine: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """All that was measured so far."""
    used = {**versions, **({"dlt": measured.dlt_version} if measured.dlt_version else {})}
    parts = ["# Import speed", _line("Machine", machine), _line("Versions", used), _INTRODUCTION]
    if measured.runs:
        parts += ["## Runs", _runs(measured)]
    if measured.profile:
        parts += ["## Stages", _STAGES.format(rows=measured.profile.rows)]
        parts.append(_stages(measured.profile))
    if measured.recordings:
        parts += ["## Dagster", _DAGSTER, _recordings(measured)]
    if bars := judge(measured):
        parts += ["## Bars", _bars(bars)]
    return "\n\n".join(parts) + "\n"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """A Markdown table; all but the first `texts` columns are figures."""
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
        "of direct copy",
    ]
    ordered = sorted(measured.runs, key=lambda run: run.rows)
    return table(heading, [_run(run, measured) for run in ordered], texts=4)


def _run(run: Run, measured: Measurements) -> list[str]:
    ratio = measured.ratio_to_direct_copy(run)
    return [
        run.what,
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
    rows.append(("all", f"{1000 * total / profile.rows:.4f}", "100%"))
    return table(["stage", "CPU s per 1,000 rows", "share"], rows)


def _recordings(measured: Measurements) -> str:
    parts = list(dict.fromkeys(part for r in measured.recordings for part in r.seconds))
    heading = ["rows", "partitions", *(f"{part}, s" for part in parts), "of the import's wall time"]
    return table(heading, [_recording(r, parts, measured) for r in measured.recordings], texts=0)


def _recording(recording: Recording, parts: Sequence[str], measured: Measurements) -> list[str]:
    share = measured.dagster_share(recording.rows)
    return [
        f"{recording.rows:,}",
        f"{recording.partitions:,}",
        *(f"{recording.seconds.get(part, 0):.2f}" for part in parts),
        "-" if share is None else f"{share:.0%}",
    ]


def _bars(bars: Sequence[Bar]) -> str:
    rows = [(b.name, "yes" if b.reached else "**no**", b.asked, b.measured) for b in bars]
    return table(["bar", "reached", "asked", "measured"], rows, texts=2)
