"""Atomic file writes."""

from __future__ import annotations

from pathlib import Path


def write_atomically(file: Path, content: bytes) -> None:
    """Replace `file` atomically, readable by its owner only; if that fails, it stays as it is."""
    unfinished = file.with_name(f"{file.name}.new")
    try:
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)
        unfinished.write_bytes(content)
        unfinished.replace(file)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
