import time
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from tautulli_pipeline.imports.receipts import ROWS, Receipt, ReceiptFolder

KEY = "0000000001-0000001000"


def receipt(*outcomes, key=KEY, last_sequence=17):
    rows = [
        (n, f"event-{n}", outcome, None, '{"title":"Ærø"}', 2**64 - 1 - n)
        for n, outcome in enumerate(outcomes)
    ]
    table = pa.Table.from_pylist([dict(zip(ROWS.names, row, strict=True)) for row in rows], ROWS)
    moment = datetime(2026, 1, 2, 3, 4, 5, 678)
    return Receipt("import-1", key, "the server", moment, table, last_sequence)


@pytest.fixture
def folder(tmp_path):
    return ReceiptFolder(tmp_path / "receipts" / "import-1")


@pytest.mark.parametrize("outcomes", [(), ("published", "duplicate", "rejected", "unreadable")])
def test_a_receipt_round_trips(folder, outcomes):
    folder.write(receipt(*outcomes))
    assert folder.read(KEY) == receipt(*outcomes)


def test_each_receipt_is_read_once_in_key_order_and_again_after_a_replacement(folder):
    assert list(folder.unseen({})) == []
    for key in ("other", KEY, "0000001001-0000002000"):
        folder.write(receipt("published", key=key))
    seen = {key: written_at for key, written_at, _ in folder.unseen({})}
    assert list(seen) == [KEY, "0000001001-0000002000", "other"]
    assert list(folder.unseen(seen)) == []
    time.sleep(0.02)
    replaced = receipt("duplicate", last_sequence=18)
    folder.write(replaced)
    ((key, written_at, content),) = folder.unseen(seen)
    assert (key, content) == (KEY, replaced)
    assert written_at > seen[KEY]


def test_receipts_can_be_removed_while_they_are_read(folder):
    for key in (KEY, "other"):
        folder.write(receipt("published", key=key))
    reading = folder.unseen({})
    assert next(reading)[0] == KEY
    folder.remove()
    assert list(reading) == []


def test_a_partially_written_receipt_is_ignored(folder, monkeypatch):
    folder.write(receipt("published"))
    write = Path.write_bytes

    def cut_short(file, content):
        write(file, content[:20])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", cut_short)
    for key in (KEY, "other"):
        with pytest.raises(KeyboardInterrupt):
            folder.write(receipt("rejected", key=key))
    assert [key for key, _, _ in folder.unseen({})] == [KEY]
    assert folder.read(KEY) == receipt("published")


def test_removing_deletes_all_receipts(folder):
    folder.remove()
    folder.write(receipt("published"))
    folder.remove()
    assert list(folder.unseen({})) == []
    assert not folder.path.exists()
