"""Playback events: their columns, their keys, and the mapping from rows, all pure SQL text."""
