"""Options that are not possible are rejected."""

from __future__ import annotations

import pytest

from lasttoken.core.errors import SettingsError
from lasttoken.data.tables.options import ReadOptions


def test_invalid_options_are_rejected() -> None:
    from lasttoken.core.resolve import resolve

    for name, value in [("field_separator", ";;"), ("field_separator", '"'), ("max_row_bytes", "much"),
                        ("max_row_bytes", "0")]:  # fmt: skip
        with pytest.raises(SettingsError, match=value.replace("|", r"\|")):
            resolve("default", {name: value})
    assert ReadOptions.of(resolve("default", {"field_separator": "tab"})).separator == "\t"
