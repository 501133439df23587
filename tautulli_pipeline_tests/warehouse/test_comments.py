"""People who browse the file find out what its tables and columns mean."""


def test_every_table_view_and_column_has_a_comment(shared_warehouse):
    found = shared_warehouse.execute("""
        SELECT table_name FROM duckdb_tables() WHERE comment IS NULL AND NOT internal
        UNION ALL SELECT view_name FROM duckdb_views() WHERE comment IS NULL AND NOT internal
        UNION ALL SELECT concat_ws('.', table_name, column_name)
        FROM duckdb_columns() WHERE comment IS NULL AND NOT internal
    """).fetchall()
    assert found == []
