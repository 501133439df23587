"""Imports the history of a Tautulli database into DuckDB."""
