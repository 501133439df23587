import time
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pytest

from tautulli_pipeline.imports.receipts import ROWS, Receipt, ReceiptFolder

KEY = "0000000001-0000001000"


def receipt(*outcomes, key=KEY, last_sequence=17):
    rows = [
        (n, f"event-{n}", outcome, None, '{"title":"Ærø"}') for n, outcome in enumerate(outcomes)
    ]
    table = pa.Table.from_pylist([dict(zip(ROWS.names, row, strict=True)) for row in rows], ROWS)
    moment = datetime(2026, 1, 2, 3, 4, 5, 678)
    return Receipt("import-1", key, "the server", last_sequence, moment, table)


@pytest.fixture
def folder(tmp_path):
    return ReceiptFolder(tmp_path / "receipts" / "import-1")


@pytest.mark.parametrize("outcomes", [(), ("published", "duplicate", "rejected", "unreadable")])
def test_a_receipt_reads_back_whole(folder, outcomes):
    folder.write(receipt(*outcomes))
    assert folder.read(KEY) == receipt(*outcomes)


def test_versions_name_each_receipt_in_key_order_and_change_when_it_is_replaced(folder):
    assert list(folder.versions()) == []
    for key in ("other", KEY, "0000001001-0000002000"):
        folder.write(receipt("published", key=key))
    before = dict(folder.versions())
    assert list(before) == [KEY, "0000001001-0000002000", "other"]
    time.sleep(0.02)
    folder.write(receipt("duplicate", last_sequence=18))
    after = dict(folder.versions())
    assert [key for key in before if before[key] != after[key]] == [KEY]
    assert folder.read(KEY) == receipt("duplicate", last_sequence=18)


def test_a_receipt_that_was_not_finished_does_not_count(folder, monkeypatch):
    folder.write(receipt("published"))
    write = pyarrow.feather.write_feather

    def cut_short(rows, path, **options):
        write(rows, path, **options)
        with Path(path).open("r+b") as file:
            file.truncate(20)
        raise KeyboardInterrupt

    monkeypatch.setattr(pyarrow.feather, "write_feather", cut_short)
    for key in (KEY, "other"):
        with pytest.raises(KeyboardInterrupt):
            folder.write(receipt("rejected", key=key))
    assert [key for key, _ in folder.versions()] == [KEY]
    assert folder.read(KEY) == receipt("published")


def test_removing_takes_them_all(folder):
    folder.remove()
    folder.write(receipt("published"))
    folder.remove()
    assert list(folder.versions()) == []
    assert not folder.path.exists()
