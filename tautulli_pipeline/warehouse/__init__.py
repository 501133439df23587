"""The DuckDB warehouse: decoding, deduplication, the tables and the ledger."""
