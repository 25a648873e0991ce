"""The derived limits."""

from __future__ import annotations

import json

from lasttoken.serving.intake import holds_at_most
from lasttoken.serving.limits import Limits


def test_the_largest_allowed_batch_of_pairs_is_within_the_number_of_values() -> None:
    limits = Limits(texts=100)
    body = json.dumps({"inputs": [["a", "b"]] * limits.texts, "model": "spam", "truncate": True}).encode()
    assert holds_at_most(body, limits.values)
    assert not holds_at_most(json.dumps({"inputs": ["a"] * 10 * limits.texts}).encode(), limits.values)


def test_at_least_four_of_the_longest_bodies_are_held_at_once() -> None:
    for limits in (Limits(), Limits(body_bytes=100_000_000)):
        assert limits.held_bytes >= 4 * limits.body_bytes
