"""Measures imports beside other ways to bring the same rows into DuckDB."""
