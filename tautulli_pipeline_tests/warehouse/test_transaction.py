"""A commit that fails leaves a file in which its rows can still be written."""

import duckdb
import pytest

from tautulli_pipeline.warehouse.transaction import transaction

ROWS = 2048


def open_file(path, memory_limit):
    # Loose rows stay in memory until a checkpoint; here there is none.
    config = {"threads": 1, "memory_limit": memory_limit, "wal_autocheckpoint": "1GB"}
    connection = duckdb.connect(config={**config, "temp_directory": f"{path}.tmp"})
    connection.execute(f"ATTACH '{path}' AS warehouse (TYPE duckdb)")
    connection.execute("USE warehouse")
    return connection


def insert(connection, batch):
    connection.execute(
        "INSERT INTO plays SELECT md5(i::VARCHAR)::UUID, repeat(md5(i::VARCHAR), 2) "
        f"FROM range({batch * ROWS}, {(batch + 1) * ROWS}) plays(i)"
    )


def insert_twice(connection):
    insert(connection, 0)
    insert(connection, 0)


def insert_until_a_commit_fails(connection, batches_per_checkpoint):
    """How many batches were committed before."""
    for batch in range(1000):
        if batch % batches_per_checkpoint == 0:
            connection.execute("CHECKPOINT")
        try:
            with transaction(connection):
                insert(connection, batch)
        except duckdb.TransactionException:
            return batch
    pytest.fail("memory was enough")


# Without the care taken, each of these leaves a key that no row can have any more.
@pytest.mark.parametrize(
    ("memory_limit", "batches_per_checkpoint"), [("12MB", 10), ("20MB", 5), ("24MB", 5)]
)
def test_the_rows_of_a_failed_commit_can_be_written_after_the_file_was_closed(
    tmp_path, memory_limit, batches_per_checkpoint
):
    path = tmp_path / "plays.duckdb"
    with open_file(path, memory_limit) as connection:
        connection.execute("CREATE TABLE plays (id UUID PRIMARY KEY, key VARCHAR UNIQUE)")
        committed = insert_until_a_commit_fails(connection, batches_per_checkpoint)
    with open_file(path, "400MB") as connection:
        for batch in range(committed, committed + 3):
            with transaction(connection):
                insert(connection, batch)
        ((rows, ids),) = connection.execute(
            "SELECT count(*), count(DISTINCT id) FROM plays"
        ).fetchall()
    assert rows == ids == (committed + 3) * ROWS


def test_what_fails_inside_is_taken_back(tmp_path):
    with open_file(tmp_path / "plays.duckdb", "400MB") as connection:
        connection.execute("CREATE TABLE plays (id UUID PRIMARY KEY, key VARCHAR UNIQUE)")
        with pytest.raises(duckdb.ConstraintException), transaction(connection):
            insert_twice(connection)
        assert connection.execute("SELECT count(*) FROM plays").fetchone() == (0,)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, SystemExit, ValueError])
def test_whatever_ends_the_work_takes_it_back_and_the_next_is_committed(tmp_path, fault):
    def interrupted(connection):
        with transaction(connection):
            insert(connection, 0)
            raise fault

    with open_file(tmp_path / "plays.duckdb", "400MB") as connection:
        connection.execute("CREATE TABLE plays (id UUID PRIMARY KEY, key VARCHAR UNIQUE)")
        with pytest.raises(fault):
            interrupted(connection)
        with transaction(connection):
            insert(connection, 0)
        with connection.cursor() as other:
            assert other.execute("SELECT count(*) FROM warehouse.plays").fetchone() == (ROWS,)


def test_nobody_sees_half_of_it(tmp_path):
    with open_file(tmp_path / "plays.duckdb", "400MB") as connection:
        connection.execute("CREATE TABLE plays (id UUID PRIMARY KEY, key VARCHAR UNIQUE)")
        with connection.cursor() as other:
            with transaction(connection):
                insert(connection, 0)
                assert other.execute("SELECT count(*) FROM warehouse.plays").fetchone() == (0,)
            assert other.execute("SELECT count(*) FROM warehouse.plays").fetchone() == (ROWS,)
