"""What a finished job reports about its rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from lasttoken.bulk.job import JobResult, Source
from lasttoken.bulk.parts import Counts
from lasttoken.bulk.summary import sentences
from lasttoken.core.errors import DataError

SOURCE = Path("rows.csv")


def test_only_what_happened_is_reported() -> None:
    assert list(sentences(JobResult(Counts(3), 64), Source(SOURCE))) == ["3 rows classified"]


def test_empty_and_cut_rows_are_counted() -> None:
    said = " ".join(sentences(JobResult(Counts(n_rows=5, n_cut=2, n_rejected=0, n_empty=1), 64), Source(SOURCE)))
    assert "1 rows have an empty text" in said
    assert "2 of them cut to 64 tokens" in said


def test_a_job_whose_rows_are_all_rejected_fails_after_naming_their_file(tmp_path: Path) -> None:
    data, rejects = tmp_path / "rows.csv", tmp_path / "rejects.csv"
    data.write_bytes("text\ncafé\n".encode("cp1252"))
    rejects.write_text("1,2,a byte that is not utf-8\n", "utf-8")
    said = sentences(JobResult(Counts(n_rejected=1), 64, rejects=rejects), Source(data))
    assert str(rejects) in next(said)
    assert "--encoding" in next(said)
    with pytest.raises(DataError, match=r"rows\.csv"):
        next(said)
