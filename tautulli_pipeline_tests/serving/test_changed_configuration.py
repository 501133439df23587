"""A change of `pipeline.toml` while a real `up` runs."""

from __future__ import annotations

import os
from select import select
from typing import TYPE_CHECKING

import pytest

from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import query, run, wait_until
from tautulli_pipeline_tests.served import Served, serving
from tautulli_pipeline_tests.serving.sites import send

if TYPE_CHECKING:
    from pathlib import Path

WAITS_SECONDS = 120
ASSETS = "query { assetNodes { assetKey { path } } }"


def server(name: str) -> str:
    return f'[[servers]]\nid = "{name}"\nsource = "../{name}.db"\n'


class Said:
    """What `up` prints from now on."""

    def __init__(self, served: Served) -> None:
        assert served.process.stderr is not None
        self._file = served.process.stderr.fileno()
        self._text = ""

    def line_with(self, words: str) -> str:
        """Wait for a line with these words."""

        def found() -> str | None:
            if select([self._file], [], [], 0)[0]:
                self._text += os.read(self._file, 65_536).decode()
            whole, _, _ = self._text.rpartition("\n")
            return next((line for line in whole.splitlines() if words in line), None)

        return str(wait_until(found, WAITS_SECONDS))


def servers_in_ui(served: Served) -> set[str]:
    keys = (node["assetKey"]["path"] for node in served.ask(ASSETS))
    return {key[0] for key in keys if key[1:] == ["playback_stream"]}


@pytest.mark.slow
def test_up_takes_a_new_server_from_the_file_and_keeps_the_last_good_one(data_dir: Path) -> None:
    for n, name in enumerate(("home", "cabin"), 1):
        plays = [play(row, started=n * 10**8 + row * 10**4) for row in range(1, 4)]
        make_database(data_dir.with_name(f"{name}.db"), plays=plays)
    data_dir.mkdir()
    file = data_dir / "pipeline.toml"
    file.write_text(server("home"))
    with serving(data_dir, data_dir.with_name("home.db")) as served:
        said = Said(served)
        assert servers_in_ui(served) == {"home"}
        file.write_text(server("home") + server("cabin"))
        changed = said.line_with("has changed")
        assert changed == f"{file} has changed; the servers are home, cabin"
        wait_until(lambda: servers_in_ui(served) == {"home", "cabin"}, WAITS_SECONDS, 0.3)

        file.write_text(server("home") + server("my cabin"))
        refused = said.line_with("is not usable")
        assert "servers[1].id = 'my cabin' is not allowed" in refused
        assert refused.endswith("the last good one stays in force")
        assert run("import", data_dir=data_dir).exit_code == 2
        assert servers_in_ui(served) == {"home", "cabin"}

        started = send(served.port, "POST", "/api/v1/import/tautulli", "{}")
        for run_id in started.json["run_ids"]:
            assert served.ended(run_id) == "SUCCESS"
    sql = "SELECT server_id, count(*) FROM playback_events GROUP BY ALL ORDER BY 1"
    assert query(data_dir, sql) == [("cabin", 3), ("home", 3)]
