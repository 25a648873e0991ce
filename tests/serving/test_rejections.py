"""Rejections as JSON."""

from __future__ import annotations

import json

import pytest

from lasttoken.serving.rejections import error_body, error_type


@pytest.mark.parametrize(
    ("status", "name"), [(401, "unauthorized"), (413, "too_large"), (429, "overloaded"), (418, "error")]
)
def test_a_rejection_names_its_type(status: int, name: str) -> None:
    assert error_type(status) == name
    assert json.loads(error_body(status, 'say "é"')) == {"error": 'say "é"', "error_type": name}
