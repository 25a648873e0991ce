"""What request bodies share: unknown fields and wrong types are rejected by name, and long lists at the first error."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import Field, ValidationError

from lasttoken.serving.bodies import Body, ModelName, Pairs, Text, Texts


class Everything(Body):
    """A body with each of the shared types."""

    text: Text = ""
    texts: Texts = Field(default_factory=list)
    pairs: Pairs = Field(default_factory=list)
    model: ModelName = None


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"txt": "a"}, ("txt",)),
        ({"text": 1}, ("text",)),
        ({"texts": "abc"}, ("texts",)),
        ({"texts": ["a", None]}, ("texts", 1)),
        ({"pairs": [["a", "b"], ["c", 1]]}, ("pairs", 1, 1)),
        ({"model": 1}, ("model",)),
    ],
)
def test_a_fault_is_named_by_its_place(content: dict[str, Any], place: tuple[str | int, ...]) -> None:
    with pytest.raises(ValidationError) as error:
        Everything.model_validate(content)
    assert [fault["loc"] for fault in error.value.errors()] == [place]


def test_a_list_is_checked_up_to_its_first_error() -> None:
    with pytest.raises(ValidationError) as error:
        Everything.model_validate({"texts": [1] * 1000})
    assert error.value.error_count() == 1
