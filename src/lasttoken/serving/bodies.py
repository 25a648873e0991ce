"""What clients send, in the bodies of the interfaces that they know already.

    POST /classify        ours: {"text": …} or {"texts": […]};  vLLM's: {"model": …, "input": …}
    POST /  /models/NAME  the Hugging Face text-classification task: {"inputs": …, "parameters": {"top_k": …}}
    POST /predict         text-embeddings-inference: {"inputs": …, "raw_scores": …}
    POST /v2/models/NAME/infer   the Open Inference Protocol, version 2

Sources: huggingface.co/docs/inference-providers/tasks/text-classification; text-embeddings-inference's OpenAPI
document, `PredictRequest`; vLLM's `ClassificationRequest`; github.com/kserve/open-inference-protocol,
inference_rest.md.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

Text = Annotated[StrictStr, Field(description="A text.")]


class _Body(BaseModel):
    """Fields that are not known are refused, for a misspelt one would be ignored."""

    model_config = ConfigDict(extra="forbid")


class ClassifyBody(_Body):
    """One text or many, for one model, or for all of them with "*". `input` in place of `texts` is vLLM's body."""

    model_config = ConfigDict(
        extra="allow",  # vLLM's clients send more
        json_schema_extra={
            "examples": [{"text": "You won $1000!"}, {"texts": ["You won $1000!", "see you at 6"], "top_k": 2}]
        },
    )
    text: Text | None = Field(None, description="One text.")
    texts: list[Text] | None = Field(None, description="Many texts.")
    input: Text | list[Text] | None = Field(None, description="vLLM's name of the texts.")
    model: StrictStr | None = Field(None, description="A model's name; needed where the server has several.")
    top_k: StrictInt | None = Field(None, ge=1, description="Probabilities to give; default: all.")


class Parameters(BaseModel):
    """Of the Hugging Face task."""

    model_config = ConfigDict(extra="ignore")
    top_k: StrictInt | None = Field(None, ge=1)
    function_to_apply: StrictStr | None = None


class TaskBody(BaseModel):
    """The Hugging Face text-classification task."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [{"inputs": "You won $1000!"}]})
    inputs: Text | list[Text]
    parameters: Parameters | None = None


class PredictBody(BaseModel):
    """text-embeddings-inference: a text, or a list of lists of one text, or of two that belong together."""

    model_config = ConfigDict(
        extra="ignore", json_schema_extra={"examples": [{"inputs": "You won $1000!"}, {"inputs": [["one"], ["two"]]}]}
    )
    inputs: Text | list[Text] | list[list[Text]]
    raw_scores: bool = False
    truncate: bool | None = None


class ExplainBody(_Body):
    """Which words moved the decision for a text."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"text": "You won $1000!"}]})
    text: Text
    model: StrictStr | None = None
    label: StrictStr | None = Field(None, description="The label to explain; default: the likeliest.")


class InferTensor(BaseModel):
    """A tensor of the Open Inference Protocol; here of strings."""

    model_config = ConfigDict(extra="ignore")
    name: StrictStr
    shape: list[StrictInt]
    datatype: StrictStr
    data: list[Any]
    parameters: dict[str, Any] = Field(default_factory=dict)


class InferOutput(BaseModel):
    """An output that is asked for."""

    model_config = ConfigDict(extra="ignore")
    name: StrictStr


class InferBody(BaseModel):
    """The Open Inference Protocol, version 2: one input `text` of datatype BYTES and shape [N] or [N, 1]."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["You won $1000!"]}]}]
        },
    )
    id: StrictStr | None = None
    inputs: list[InferTensor]
    outputs: list[InferOutput] | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)


Number = StrictInt | StrictFloat
