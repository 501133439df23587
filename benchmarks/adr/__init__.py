"""The algorithm of ADR 14 as specified, in Python, with two processes."""
