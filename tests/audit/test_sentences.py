"""Findings as sentences."""

from __future__ import annotations

from lasttoken.audit.audit import Audit
from lasttoken.audit.collecting import audit_splits
from lasttoken.audit.sentences import rows_in_words
from lasttoken.data.files import Examples


def found_in(texts: list[str], labels: list[str] | None = None) -> Audit:
    return audit_splits({"data": Examples(texts, labels or ["ab"[at % 2] for at in range(len(texts))])})


def test_long_lists_are_cut_in_sentences_only() -> None:
    assert rows_in_words(list(range(1, 405))) == "rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 394 more"
    assert len(found_in([""] * 404).to_json()["splits"]["data"]["empty"]) == 404
