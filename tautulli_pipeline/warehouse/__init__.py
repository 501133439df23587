"""The warehouse: decoding, deduplication, the table and the ledger."""
