"""What the request bodies of all interfaces share: the types of their texts, and the rejection of unknown fields.

A field that would change the answer is honoured, or rejected by its name; a field that changes nothing is accepted.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictStr

Text = Annotated[StrictStr, Field(description="A text.")]
Texts = Annotated[list[Text], Field(fail_fast=True)]  # the first error ends the check of a list
Pairs = Annotated[list[Texts], Field(fail_fast=True)]
ModelName = Annotated[StrictStr | None, Field(description="The name of a model; required if the server has several.")]


class Body(BaseModel):
    """The base of all bodies. Unknown fields are rejected, because a misspelt field would be ignored silently."""

    model_config = ConfigDict(extra="forbid")
