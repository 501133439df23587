"""The `query` and `export` commands: what they print and write, and what they refuse."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sys
import threading
from datetime import datetime
from pathlib import Path
from uuid import UUID

import duckdb
import pyarrow.parquet as pq
import pytest

from tautulli_pipeline.analytics.catalog import TABLES
from tautulli_pipeline.cli.app import application
from tautulli_pipeline.cli.asking import run_export, run_query
from tautulli_pipeline.cli.looking import run_report
from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.reporting.exporting import RAW_TABLES, export
from tautulli_pipeline.settings import Settings
from tautulli_pipeline_tests.cases import play
from tautulli_pipeline_tests.reporting.histories import data_dir_with

HOSTILE = "a\x1b[31m\u202e\"q\", 'x'\n[red]b[/red]"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    plays = [play(1), play(2, title=HOSTILE), play(3, year="")]
    data_dir = data_dir_with(plays, tmp_path_factory.mktemp("asked"))
    return Settings(pipeline_data_dir=data_dir, pipeline_timezone="UTC")


@pytest.fixture
def empty_folder(monkeypatch, tmp_path):
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(settings, sql, capsys, **options):
    given = {"on_warehouse": False, "as_csv": False, "as_json": False, **options}
    run_query(settings, sql, **given)
    return capsys.readouterr()


TYPED = """
    SELECT NULL AS a, 1 AS a, 2::HUGEINT AS b, 1.5::DECIMAL(4, 2) AS c, 0.25 AS d, true AS e,
        TIMESTAMP '2024-01-02 03:04:05' AS f, DATE '2024-01-02' AS g, INTERVAL 90 MINUTES AS h,
        [1, 2] AS i, {'x': 'y'} AS j, 'ab'::BLOB AS k, '' AS l
"""


def test_a_query_prints_one_json_object(settings, capsys):
    printed = json.loads(asked(settings, TYPED, capsys, as_json=True).out)
    assert printed["columns"] == ["a", "a_1", *"bcdefghijkl"]
    assert list(printed["rows"][0].values()) == [
        *(None, 1, 2, 1.5, 0.25, True, "2024-01-02T03:04:05", "2024-01-02", "1:30:00"),
        *([1, 2], {"x": "y"}, "6162", ""),
    ]
    nothing = json.loads(asked(settings, "SELECT 1 AS a WHERE false", capsys, as_json=True).out)
    assert nothing == {"columns": ["a"], "rows": []}


def test_a_query_prints_csv(settings, capsys):
    out = asked(settings, TYPED, capsys, as_csv=True).out
    assert out.splitlines() == [
        "a,a_1,b,c,d,e,f,g,h,i,j,k,l",
        ',1,2,1.50,0.25,true,2024-01-02 03:04:05,2024-01-02,01:30:00,"[1,2]",'
        '"{""x"":""y""}",6162,""',
    ]
    titles = asked(settings, "SELECT title FROM plays ORDER BY row_id", capsys, as_csv=True).out
    assert [row for (row,) in csv.reader(io.StringIO(titles, newline=""))][2] == HOSTILE


def test_values_that_json_libraries_refuse_are_printed(settings, capsys):
    sql = f"SELECT {2**100}::HUGEINT AS a, [{2**90}::HUGEINT] AS b, true AS c"
    printed = json.loads(asked(settings, sql, capsys, as_json=True).out)
    assert printed["rows"] == [{"a": 2**100, "b": [2**90], "c": True}]
    sql = "SELECT '12:00:00+02'::TIMETZ AS a, TIMESTAMP '2024-01-02 03:04:05' AS b"
    printed = json.loads(asked(settings, sql, capsys, as_json=True).out)
    assert printed["rows"] == [{"a": "12:00:00+02:00", "b": "2024-01-02T03:04:05"}]
    assert f"[{2**90}]" in asked(settings, f"SELECT [{2**90}::HUGEINT] AS a", capsys).out


@pytest.mark.parametrize(
    ("sql", "lines"),
    [
        ("SELECT 1 AS a; ", ["a", "1"]),
        ("SELECT 1 AS a -- it ends; here", ["a", "1"]),
        # Readers skip empty lines.
        ("SELECT NULL AS a UNION ALL SELECT ''", ["a", '""', '""']),
        ("SELECT unnest([3, 1, 2]) AS a ORDER BY a LIMIT 2", ["a", "1", "2"]),
        ("SELECT {'b': [2]} AS a, MAP {'d': 3} AS a", ["a,a_1", '"{""b"":[2]}","{""d"":3}"']),
        ("PIVOT plays ON media USING count(*) GROUP BY watched", ["watched,Movies", "false,3"]),
        ("SELECT 1 AS a WHERE false", ["a"]),
    ],
)
def test_csv_has_a_line_for_every_row(settings, capsys, sql, lines):
    assert asked(settings, sql, capsys, as_csv=True).out.splitlines() == lines


def test_a_reader_that_has_seen_enough_ends_a_query(settings, monkeypatch):
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as output:
        monkeypatch.setattr("sys.stdout", output)
        os.close(reading)
        for as_csv in (True, False):
            with pytest.raises(BrokenPipeError):
                run_query(
                    settings,
                    "FROM range(100000)",
                    on_warehouse=False,
                    as_csv=as_csv,
                    as_json=not as_csv,
                )
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_ends_a_query_in_one_line(settings, monkeypatch):
    with Path("/dev/full").open("w") as output:
        monkeypatch.setattr("sys.stdout", output)
        for as_csv in (True, False):
            with pytest.raises(ConfigurationError, match="cannot write the result: No space left"):
                run_query(
                    settings, "FROM plays", on_warehouse=False, as_csv=as_csv, as_json=not as_csv
                )
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())


def test_csv_on_a_terminal_obeys_no_codes(settings, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    out = asked(settings, "SELECT title FROM plays WHERE row_id = 2", capsys, as_csv=True).out
    assert out == 'title\n"a\\x1b[31m\\u202e""q"", \'x\'\n[red]b[/red]"\n'


def test_a_password_in_the_environment_is_not_shown(settings, capsys, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@proxy")
    out = asked(settings, "FROM duckdb_settings()", capsys, as_json=True).out
    assert "http_proxy" in out
    assert "secret@" not in out


def test_a_table_fits_into_80_columns_and_obeys_no_codes(settings, capsys):
    sql = "SELECT title, year, watches, last_played_at FROM top_movies ORDER BY title"
    lines = asked(settings, sql, capsys).out.splitlines()
    assert lines[0].split() == ["title", "year", "watches", "last_played_at"]
    assert all(len(line) <= 80 for line in lines)
    assert r"a\x1b[31m\u202e" in "".join(lines)
    assert "[red]" in "".join(lines)
    assert "2023-11-15 01:00:00" in "".join(lines)
    assert "NULL" in "".join(lines)


def test_rows_with_many_columns_are_shown_one_by_one(settings, capsys):
    lines = asked(settings, "FROM plays ORDER BY row_id LIMIT 1", capsys).out.splitlines()
    fields = dict(line.split(maxsplit=1) for line in lines if line.strip())
    assert (fields["full_title"].strip(), fields["show"].strip()) == ("Film 1", "NULL")


def test_a_long_table_says_how_to_see_the_rest(settings, capsys):
    printed = asked(settings, "FROM range(5000)", capsys)
    assert len(printed.out.splitlines()) == 1001
    assert printed.err == "only the first 1,000 rows are shown; --csv and --json print all\n"
    assert len(asked(settings, "FROM range(5000)", capsys, as_csv=True).out.splitlines()) == 5001


@pytest.mark.parametrize(
    "sql",
    [
        "WITH a AS (SELECT 1) FROM a;",
        "SHOW TABLES",
        "DESCRIBE plays",
        "SUMMARIZE about",
        "EXPLAIN FROM plays",
        "PIVOT plays ON media USING count(*) GROUP BY weekday",
        "-- the plays\nFROM plays",
    ],
)
def test_every_way_to_read_is_allowed(settings, capsys, sql):
    assert asked(settings, sql, capsys, as_csv=True).out


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("FROM playz", "playz does not exist"),
        ("SELECT 1; SELECT 2", "more than one query"),
        (" -- nothing", "the query is empty"),
        ("SELECT 'x'::INTEGER", "Could not convert string 'x'"),
        ("DELETE FROM plays", "it is a DELETE statement"),
        ("CREATE TABLE mine AS SELECT 1", "it is a CREATE statement"),
        ("COPY plays TO 'stolen.csv'", "it is a COPY statement"),
        ("ATTACH 'other.duckdb'", "it is a ATTACH statement"),
        ("INSTALL httpfs", "it is a LOAD statement"),
        ("SET enable_external_access = true", "it is a SET statement"),
        ("CALL enable_logging(storage_path = 'log')", "it is a CALL statement"),
        ("SELECT * FROM read_text('/etc/passwd')", "disabled by configuration"),
        ("SELECT * FROM read_csv('http://127.0.0.1/x.csv')", "cannot be run"),
        ("SELECT * FROM glob('/*')", "disabled by configuration"),
        ("FROM '/etc/passwd'", "does not exist"),
        ("FROM settings", "does not exist"),
        ("EXPLAIN ANALYZE COPY plays TO 'stolen.csv'", "disabled by configuration"),
        ("FROM enable_logging(storage_path = 'log')", "it calls enable_logging"),
        ("FROM Enable_Profiling(save_location = 'log')", "it calls enable_profiling"),
        ("SELECT getenv('HOME')", "does not exist"),
        ("FROM query('COPY plays TO ''stolen.csv''')", "single SELECT"),
        ("EXPLAIN ANALYZE DELETE FROM plays", "read-only"),
    ],
)
def test_a_query_can_change_nothing_and_open_no_other_file(
    settings, capsys, empty_folder, sql, message
):
    for options in ({}, {"on_warehouse": True}):
        asking = sql.replace("plays", "users") if options else sql
        with pytest.raises(ConfigurationError) as raised:
            asked(settings, asking, capsys, **options)
        assert message in raised.value.message
        assert "\n" not in raised.value.message + raised.value.hint
    assert list(empty_folder.iterdir()) == []


def test_ctrl_c_ends_a_query(settings, capsys):
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            asked(settings, "SELECT sum(a * b) FROM range(10000000) x(a), range(9999) y(b)", capsys)
    finally:
        timer.join()


def test_ctrl_c_ends_a_query_whose_reader_does_not_read(settings, monkeypatch):
    reading, writing = os.pipe()
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    with os.fdopen(writing, "w") as output:
        monkeypatch.setattr("sys.stdout", output)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            run_query(
                settings, "FROM range(1000000)", on_warehouse=False, as_csv=True, as_json=False
            )
        timer.join()
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
    os.close(reading)


def test_a_query_of_the_warehouse_sees_its_tables(settings, capsys):
    sql = "SELECT count(*) AS plays, max(started_at) AS newest FROM playback_events"
    out = asked(settings, sql, capsys, on_warehouse=True, as_csv=True).out
    assert out == "plays,newest\n3,2023-11-15 06:33:20\n"


def test_missing_statistics_are_built_and_nothing_imported_is_said(settings, capsys, tmp_path):
    empty = Settings(pipeline_data_dir=tmp_path / "none")
    for ask in (
        lambda: asked(empty, "SELECT 1", capsys),
        lambda: asked(empty, "SELECT 1", capsys, on_warehouse=True),
        lambda: run_export(empty, (), None, "csv", as_json=False),
        lambda: run_export(empty, ("users",), None, "csv", as_json=False),
        lambda: run_report(empty, None, None, None, opening=False, as_json=False),
    ):
        with pytest.raises(ConfigurationError, match=r"there are no plays in .* yet"):
            ask()
    assert not (tmp_path / "none").exists()
    settings.layout.analytics.unlink()
    assert asked(settings, "SELECT plays FROM about", capsys, as_csv=True).out == "plays\n3\n"


def test_an_export_writes_every_table_of_the_statistics(settings, capsys, tmp_path):
    run_export(settings, (), tmp_path / "files", "parquet", as_json=True)
    printed = json.loads(capsys.readouterr().out)
    names = {table.name for table in TABLES}
    assert {file["table"] for file in printed["files"]} == names
    assert {path.name for path in (tmp_path / "files").iterdir()} == {
        f"{name}.parquet" for name in names
    }
    table = pq.read_table(tmp_path / "files" / "plays.parquet")
    assert table.schema.names == list(next(t for t in TABLES if t.name == "plays").columns)
    (first, *_) = table.sort_by("row_id").to_pylist()
    assert first["started_at"] == datetime(2023, 11, 15, 1)
    assert (first["watched"], first["seconds"]) == (False, 3600)
    with duckdb.connect() as connection:
        file = str(tmp_path / "files" / "plays.parquet")
        found = connection.execute("SELECT id FROM read_parquet(?) LIMIT 1", [file]).fetchall()
    assert isinstance(found[0][0], UUID)


def test_an_export_of_named_tables_replaces_older_files(settings, capsys, tmp_path):
    (tmp_path / "playback_events.csv").write_text("old")
    (tmp_path / "playback_events.csv").chmod(0o644)
    run_export(settings, ("playback_events", "year_in_review"), tmp_path, "csv", as_json=False)
    assert capsys.readouterr().out == f"wrote 2 tables with 4 rows to {tmp_path}\n"
    assert (tmp_path / "playback_events.csv").read_text().splitlines()[0].startswith("id,")
    assert (tmp_path / "playback_events.csv").stat().st_mode & 0o777 == 0o600
    with (tmp_path / "year_in_review.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert HOSTILE in json.loads(row["top_titles"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "playback_events.csv",
        "year_in_review.csv",
    ]


def test_unknown_names_are_listed_and_nothing_is_written(settings, tmp_path):
    with pytest.raises(ConfigurationError, match=r"there are no tables playz, \.\./x"):
        run_export(settings, ("plays", "playz", "../x"), tmp_path / "new", "csv", as_json=False)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_reported(settings, tmp_path):
    (tmp_path / "plays.csv").mkdir()
    with pytest.raises(ConfigurationError, match=r"cannot write to .*directory"):
        run_export(settings, ("plays",), tmp_path, "csv", as_json=False)
    assert [path.name for path in tmp_path.iterdir()] == ["plays.csv"]


def test_every_raw_table_exists_and_the_help_lists_it(settings, capsys):
    sql = "SELECT table_name FROM information_schema.tables"
    out = asked(settings, sql, capsys, on_warehouse=True, as_csv=True).out
    assert set(RAW_TABLES) < set(out.split())
    assert not {*RAW_TABLES} & {table.name for table in TABLES}
    words = application.commands["export"].help.replace(",", "").replace(".", "").split()
    assert {*RAW_TABLES} <= {*words}


def test_a_report_names_its_file_and_opens_it(settings, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: bool(opened.append(url)))
    run_report(settings, None, None, None, opening=True, as_json=False)
    file = settings.data_dir / "report.html"
    printed = capsys.readouterr()
    assert printed.out == f"the report of 3 plays is in {file}\n"
    assert printed.err == f"no browser was found; open {file.as_uri()} in one\n"
    assert opened == [file.as_uri()]


def test_an_export_that_fails_leaves_the_older_file(settings, tmp_path):
    (tmp_path / "plays.csv").write_text("old")
    (tmp_path / "plays.csv.new").mkdir()
    with pytest.raises(ConfigurationError, match=r"cannot write to .*irectory"):
        run_export(settings, ("plays",), tmp_path, "csv", as_json=False)
    assert (tmp_path / "plays.csv").read_text() == "old"


def test_a_second_export_into_a_folder_is_refused(settings, capsys, tmp_path):
    exports = export(settings.layout.analytics, ("about", "plays"), tmp_path, "parquet")
    next(exports)
    with pytest.raises(ConfigurationError, match=r"another export is writing to "):
        run_export(settings, ("plays",), tmp_path, "parquet", as_json=False)
    assert [one.table for one in exports] == ["plays"]
    run_export(settings, ("plays",), tmp_path, "parquet", as_json=False)
    assert "wrote 1 table with 3 rows" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"about.parquet", "plays.parquet"}
