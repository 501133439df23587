"""Folder contents, and processes that are bound by file modes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Without these two capabilities, root is bound by file modes like any other user.
_WITHOUT_PRIVILEGE = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
if os.geteuid() == 0:
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def without_privilege(*arguments: object) -> list[str]:
    """Return a command that runs Python with `arguments`, bound by file modes."""
    return [sys.executable, "-c", _WITHOUT_PRIVILEGE, *map(str, arguments)]


def content_of(folder: Path) -> list[tuple[object, ...]] | None:
    """Return name, times, mode and bytes of each file in a folder; None without a folder."""
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
