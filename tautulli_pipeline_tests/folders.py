"""What a folder holds, and processes that are held to its mode."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Root without these two capabilities is held to a file's mode like anybody else.
_WITHOUT_PRIVILEGE = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
if os.geteuid() == 0:
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def without_privilege(*arguments: object) -> list[str]:
    """The command that runs Python with `arguments`, bound by the modes of files."""
    return [sys.executable, "-c", _WITHOUT_PRIVILEGE, *map(str, arguments)]


def content_of(folder: Path) -> list[tuple[object, ...]] | None:
    """Every name below a folder with its times, mode and bytes; None where there is no folder."""
    if not folder.exists():
        return None
    return [
        (
            str(entry),
            entry.lstat().st_mode,
            entry.lstat().st_mtime_ns,
            entry.lstat().st_ctime_ns,
            entry.lstat().st_ino,
            entry.lstat().st_size,
            entry.read_bytes() if entry.is_file() and os.access(entry, os.R_OK) else None,
        )
        for entry in sorted([folder, *folder.rglob("*")])
    ]
