"""Columns, keys and row mapping of playback events, as SQL text."""
