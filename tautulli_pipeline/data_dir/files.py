"""Files that are replaced whole or not at all."""

from __future__ import annotations

from pathlib import Path


def write_atomically(file: Path, content: bytes) -> None:
    """Replace `file`; whoever reads it sees the old content or the new one.

    Raises:
        OSError: there is no room or no right to write it; the old content stays.
    """
    unfinished = file.with_name(f"{file.name}.new")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(file)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
