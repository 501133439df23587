"""After a failed commit, its rows can still be written to the file."""

import duckdb
import pytest

from tautulli_pipeline.warehouse.transaction import transaction

ROWS = 2048


def open_file(path, memory_limit):
    # Loose rows stay in memory until a checkpoint, which never runs by itself here.
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
    """Insert batches until a commit fails; return the number of committed ones."""
    for batch in range(1000):
        if batch % batches_per_checkpoint == 0:
            connection.execute("CHECKPOINT")
        try:
            with transaction(connection):
                insert(connection, batch)
        except duckdb.TransactionException:
            return batch
    pytest.fail("no commit failed")


# A plain transaction would leave a key in each case that no row could use again.
@pytest.mark.parametrize(
    ("memory_limit", "batches_per_checkpoint"), [("12MB", 10), ("20MB", 5), ("24MB", 5)]
)
def test_rows_of_a_failed_commit_can_be_written_after_reopening_the_file(
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


def test_an_error_in_the_block_rolls_back(tmp_path):
    with open_file(tmp_path / "plays.duckdb", "400MB") as connection:
        connection.execute("CREATE TABLE plays (id UUID PRIMARY KEY, key VARCHAR UNIQUE)")
        with pytest.raises(duckdb.ConstraintException), transaction(connection):
            insert_twice(connection)
        assert connection.execute("SELECT count(*) FROM plays").fetchone() == (0,)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, SystemExit, ValueError])
def test_any_exception_rolls_back_and_the_next_transaction_commits(tmp_path, fault):
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


def test_other_connections_see_only_committed_rows(tmp_path):
    with open_file(tmp_path / "plays.duckdb", "400MB") as connection:
        connection.execute("CREATE TABLE plays (id UUID PRIMARY KEY, key VARCHAR UNIQUE)")
        with connection.cursor() as other:
            with transaction(connection):
                insert(connection, 0)
                assert other.execute("SELECT count(*) FROM warehouse.plays").fetchone() == (0,)
            assert other.execute("SELECT count(*) FROM warehouse.plays").fetchone() == (ROWS,)
