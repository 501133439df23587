"""The tables of `analytics.duckdb`, built from the warehouse."""
