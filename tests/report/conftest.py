"""The tests of the report draw real figures."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def drawn(real_figures: None) -> None:
    """See `real_figures`."""
