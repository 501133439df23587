"""Error messages about files that the operating system cannot or will not read."""

from __future__ import annotations

import errno
import os
from ast import literal_eval
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tautulli_pipeline.errors import SourceError
from tautulli_pipeline.source.faults import cause, read_faults, shown, spelled_out, unreadable

PATH = Path("/home/me/tautulli.db")
NAMES = st.binary(min_size=1, max_size=20).filter(lambda name: not {0, 0x2F} & set(name))


@given(st.text(st.characters(exclude_characters="\0"), min_size=1).map(Path))
def test_a_shown_path_is_one_line_and_unambiguous(path):
    assert len(shown(path).splitlines()) == 1
    assert literal_eval(shown(path)) == str(path)


@given(NAMES.map(os.fsdecode).map(Path))
def test_a_spelled_out_path_is_valid_utf8(path):
    assert str(spelled_out(path)).encode().decode() == str(spelled_out(path))


def test_only_bytes_that_are_not_utf8_are_escaped():
    assert spelled_out(Path("/home/Zoë/東京.db")) == Path("/home/Zoë/東京.db")
    assert spelled_out(Path(os.fsdecode(b"/home/Zo\xeb/\xff.db"))) == Path(r"/home/Zo\xeb/\xff.db")


def test_a_cause_is_the_system_message_in_lowercase():
    assert cause(OSError(errno.EIO, "Input/output error", "/dev/sda")) == "input/output error"
    assert cause(OSError("Half a Word")) == "half a word"


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.EACCES, "give this user read access"),
        (errno.EPERM, "give this user read access"),
        (errno.EIO, "check the path"),
        (errno.ENAMETOOLONG, "check the path"),
    ],
    ids=errno.errorcode.get,
)
def test_the_hint_depends_on_the_error(number, hint):
    fault = unreadable(PATH, OSError(number, os.strerror(number)))
    assert fault.message == f"cannot read '{PATH}': {os.strerror(number).lower()}"
    assert fault.hint.startswith(hint)


def test_a_system_error_is_reported_with_the_path_and_its_cause():
    error = OSError(errno.EIO, os.strerror(errno.EIO))
    with pytest.raises(SourceError) as caught, read_faults(PATH):
        raise error
    assert caught.value.message == f"cannot read '{PATH}': input/output error"
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("passing", [FileNotFoundError(errno.ENOENT, "none"), ValueError("odd")])
def test_a_missing_file_and_other_errors_are_not_converted(passing):
    with pytest.raises(type(passing)) as caught, read_faults(PATH):
        raise passing
    assert caught.value is passing
