"""Brings a Tautulli history into DuckDB whole, fast and provably complete."""
