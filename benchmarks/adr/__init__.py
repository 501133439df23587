"""The algorithm of ADR 14 as it stands there, in Python, with two processes."""
