"""How an audit names its rows."""

from __future__ import annotations

from lasttoken.audit.findings import AuditRow, ListedRow


def test_a_row_is_named_by_its_number_and_its_split() -> None:
    assert AuditRow("train", 3, "a text", "ham").place == "row 3 of train"


def test_a_table_shows_the_fields_that_are_not_empty() -> None:
    assert ListedRow("row 3 of test", "a text", "", "row 1 of train", "a Text").cells == (
        "row 3 of test",
        "a text",
        "row 1 of train",
        "a Text",
    )
    assert ListedRow("row 3 of test", "a text", "ham").cells == ("row 3 of test", "ham", "a text")
