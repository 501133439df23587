"""The user's files as plain bytes: their observed state and the detection of changes."""

from __future__ import annotations

import hashlib
import os
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tautulli_pipeline.errors import SourceChangedError, SourceError
from tautulli_pipeline.source.original import (
    Observed,
    ObservedFile,
    chunks,
    locate,
    observe,
    open_regular,
    require_digest,
    sidecar,
)
from tautulli_pipeline_tests.folders import content_of

SECOND = 1_000_000_000
WROTE_AT = 1_700_000_000 * SECOND + 7
HEADER = bytes(range(100))
SEEN = ObservedFile(
    device=1, inode=2, size=4096, mtime_ns=WROTE_AT, ctime_ns=WROTE_AT, header=HEADER
)
OTHERS = {
    "device": 9,
    "inode": 9,
    "size": 9,
    "mtime_ns": WROTE_AT + 1,
    "ctime_ns": WROTE_AT + 1,
    "header": HEADER[::-1],
}
CHANGES = pytest.mark.parametrize(("name", "value"), OTHERS.items(), ids=OTHERS)


@pytest.fixture
def plain_file(tmp_path):
    path = tmp_path / "home" / "tautulli.db"
    path.parent.mkdir()
    path.write_bytes(b"database" * 1000)
    return path


def changed_from(before, after):
    """Return why `after` is rejected as a change of `before`; '' if it is accepted."""
    try:
        before.require_same(after)
    except SourceChangedError as change:
        return change.message
    return ""


def test_the_tests_cover_every_attribute_of_a_file():
    assert [field.name for field in fields(ObservedFile)] == list(OTHERS)


@CHANGES
def test_any_change_to_the_database_or_its_journal_is_detected(name, value):
    changed = replace(SEEN, **{name: value})
    for part, words in [
        ("database", "the database changed"),
        ("journal", "its rollback journal changed"),
    ]:
        before = Observed(SEEN, None, SEEN)
        assert changed_from(before, before) == ""
        assert changed_from(before, replace(before, **{part: changed})) == words
        assert changed_from(before, replace(before, **{part: None})) == words


@CHANGES
def test_a_log_may_grow_but_not_restart(name, value):
    before = Observed(SEEN, SEEN, None)
    after = replace(before, wal=replace(SEEN, **{name: value}))
    restarts = name in {"device", "inode", "header"}
    words = "its write-ahead log was restarted"
    assert changed_from(before, after) == (words if restarts else "")
    assert changed_from(before, replace(before, wal=None)) == words
    assert changed_from(replace(before, wal=None), before) == words


def test_only_the_first_32_bytes_identify_a_log():
    before = Observed(SEEN, SEEN, None)
    for at, same in [(0, False), (31, False), (32, True), (99, True)]:
        header = HEADER[:at] + b"\xff" + HEADER[at + 1 :]
        after = replace(before, wal=replace(SEEN, header=header))
        assert (changed_from(before, after) == "") is same


@pytest.mark.parametrize("part", ["database", "wal", "journal"])
@CHANGES
def test_the_name_depends_on_every_attribute_of_every_file(part, name, value):
    path, before = Path("tautulli.db"), Observed(SEEN, SEEN, SEEN)
    after = replace(before, **{part: replace(SEEN, **{name: value})})
    gone = replace(before, **{part: None})
    assert before.name_at(path) == Observed(SEEN, SEEN, SEEN).name_at(path)
    assert len({seen.name_at(path) for seen in (before, after, gone)}) == 3


@pytest.mark.parametrize(
    ("mtime_ns", "after_ns", "settled"),
    [
        (WROTE_AT, SECOND // 2, False),
        (WROTE_AT, SECOND // 2 + 1, True),
        (WROTE_AT - 7, SECOND, False),  # whole seconds may come from a coarse clock
        (WROTE_AT - 7, 3 * SECOND, False),
        (WROTE_AT - 7, 3 * SECOND + 1, True),
        (WROTE_AT, -SECOND, False),  # the clock was set back
    ],
)
def test_times_settle_one_clock_tick_after_a_write(mtime_ns, after_ns, settled):
    file = replace(SEEN, mtime_ns=mtime_ns, ctime_ns=mtime_ns - 5)
    assert file.settled_at(mtime_ns + after_ns) is settled
    young = replace(file, ctime_ns=mtime_ns + 10 * SECOND)
    assert not young.settled_at(mtime_ns + after_ns)
    assert Observed(file, None, None).settled_at(mtime_ns + after_ns) is settled
    assert not Observed(file, young, None).settled_at(mtime_ns + after_ns)


def test_the_needed_space_counts_the_log_twice():
    sizes = [replace(SEEN, size=size) for size in (1000, 200, 30)]
    assert Observed(*sizes).copy_bytes == 1430
    assert Observed(sizes[0], None, None).copy_bytes == 1000
    assert Observed(None, None, None).copy_bytes == 0


def test_observing_returns_the_state_and_changes_nothing(plain_file):
    sidecar(plain_file, "-wal").write_bytes(b"log")
    before = content_of(plain_file.parent)
    seen = observe(plain_file)
    assert content_of(plain_file.parent) == before
    assert (seen.database.size, seen.database.header) == (8000, (b"database" * 13)[:100])
    assert (seen.database.inode, seen.wal.size, seen.wal.header) == (
        *(plain_file.stat().st_ino, 3, b"log"),
    )
    assert seen.journal is None
    assert observe(sidecar(plain_file, ".gone")) == Observed(None, None, None)


def test_a_suffix_is_appended_to_the_full_database_name():
    assert sidecar(Path("/home/me/my.tautulli.db"), "-wal") == Path("/home/me/my.tautulli.db-wal")


def test_links_are_followed_to_the_file_itself(plain_file, tmp_path):
    for name, target in [("one", plain_file), ("two", tmp_path / "one")]:
        (tmp_path / name).symlink_to(target)
    assert locate(tmp_path / "two") == locate(plain_file) == plain_file


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.db", "it does not exist"),
        ("dangling.db", "it is a broken link"),
        ("loop.db", "too many levels of symbolic links"),
        ("home/tautulli.db/x.db", "not a directory"),
        ("n" * 300, "file name too long"),
    ],
)
def test_a_path_without_a_file_is_rejected_with_the_reason(plain_file, tmp_path, name, words):
    (tmp_path / "dangling.db").symlink_to(tmp_path / "gone.db")
    (tmp_path / "loop.db").symlink_to("loop.db")
    with pytest.raises(SourceError) as caught:
        locate(tmp_path / name)
    assert caught.value.message == f"cannot read {str(tmp_path / name)!r}: {words}"
    assert "check the path" in caught.value.hint


def test_only_regular_files_are_opened_and_links_are_not_followed(plain_file, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(plain_file)
    for name, kind in [("pipe", "not a regular file"), ("home", "a folder")]:
        with pytest.raises(SourceError, match=f"it is {kind}$"):
            open_regular(tmp_path / name)
    with pytest.raises(SourceError, match=r"it is not a regular file$"):
        open_regular(tmp_path / "link")
    with open_regular(plain_file) as file:
        assert not file.writable()
        assert not os.get_inheritable(file.fileno())


@settings(max_examples=50, deadline=None)
@given(size=st.integers(0, 50), chunk=st.integers(1, 20))
def test_chunks_return_exactly_the_first_bytes(tmp_path_factory, size, chunk):
    content = bytes(range(50))
    path = tmp_path_factory.getbasetemp() / "chunked"
    path.write_bytes(content)
    parts = [bytes(part) for part in chunks(path, size, chunk_bytes=chunk)]
    assert b"".join(parts) == content[:size]
    assert all(0 < len(part) <= chunk for part in parts)


def test_a_shorter_or_missing_file_counts_as_changed(plain_file):
    with pytest.raises(SourceChangedError, match=r"^it was truncated$"):
        list(chunks(plain_file, 8001))
    with pytest.raises(SourceChangedError, match=r"^one of its files disappeared$"):
        list(chunks(sidecar(plain_file, "-wal"), 1))


def test_bytes_read_again_must_match_the_copied_bytes(plain_file):
    digest = hashlib.sha256(b"database" * 1000).hexdigest()
    require_digest(plain_file, 8000, digest)
    with plain_file.open("r+b") as file:
        file.write(b"D")
    with pytest.raises(SourceChangedError, match=r"^it changed within one clock tick$"):
        require_digest(plain_file, 8000, digest)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("tautulli.db", "check the path of the Tautulli database"),
        (
            "nas.local:8181",
            "check the path of the Tautulli database; "
            "for a running Tautulli, write http://nas.local:8181",
        ),
    ],
)
def test_a_missing_file_named_like_an_address_is_told_how_to_write_one(tmp_path, name, hint):
    with pytest.raises(SourceError, match="it does not exist") as raised:
        locate(tmp_path / name)
    assert raised.value.hint == hint
