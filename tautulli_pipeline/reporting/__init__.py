"""The report: one HTML page of tables and charts, made from `analytics.duckdb`."""
