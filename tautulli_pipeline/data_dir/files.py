"""Atomic file writes."""

from __future__ import annotations

from pathlib import Path


def write_atomically(file: Path, content: bytes) -> None:
    """Replace `file` atomically; if that fails, it keeps its old content."""
    unfinished = file.with_name(f"{file.name}.new")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(file)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
