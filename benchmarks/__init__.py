"""Compares imports with other ways to load the same rows into DuckDB."""
