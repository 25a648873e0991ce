"""What clients send, in the bodies of the interfaces that they know already.

    POST /classify        ours: {"text": …} or {"texts": […]};  vLLM's: {"model": …, "input": …}
    POST /  /models/NAME  the Hugging Face text-classification task: {"inputs": …, "parameters": {"top_k": …}}
    POST /predict         text-embeddings-inference: {"inputs": …, "raw_scores": …}
    POST /v2/models/NAME/infer   the Open Inference Protocol, version 2

A field that would change the answer is honoured or refused by its name; one that changes nothing is accepted.

Sources: huggingface.co/docs/inference-providers/tasks/text-classification; text-embeddings-inference's OpenAPI
document, `PredictRequest`; vLLM's `ClassificationRequest`; github.com/kserve/open-inference-protocol,
inference_rest.md.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

Text = Annotated[StrictStr, Field(description="A text.")]
Texts = Annotated[list[Text], Field(fail_fast=True)]  # the first error ends the check of a list
Pairs = Annotated[list[Texts], Field(fail_fast=True)]


class _Body(BaseModel):
    """Fields that are not known are refused, for a misspelt one would be ignored."""

    model_config = ConfigDict(extra="forbid")


class ClassifyBody(_Body):
    """One text or many, for one model, or for all of them with "*". `input` in place of `texts` is vLLM's body."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"text": "You won $1000!"}, {"texts": ["You won $1000!", "see you at 6"], "top_k": 2}]
        },
    )
    text: Text | None = Field(None, description="One text.")
    texts: Texts | None = Field(None, description="Many texts.")
    input: Text | Texts | None = Field(None, description="vLLM's name of the texts.")
    model: StrictStr | None = Field(None, description="A model's name; needed where the server has several.")
    top_k: StrictInt | None = Field(None, ge=1, description="Probabilities to give; default: all.")
    # vLLM's, which change nothing here
    user: StrictStr | None = None
    priority: StrictInt | None = None
    cache_salt: StrictStr | None = None
    add_special_tokens: StrictBool | None = Field(None, description="GPT-2's tokenizer adds none.")
    # vLLM's, with the values that are honoured
    request_id: StrictStr | None = Field(None, max_length=200, description="Comes back in the answer's id.")
    activation: Literal[True] | None = Field(None, description="Scores are probabilities: true, or left out.")
    use_activation: Literal[True] | None = Field(None, description="The same.")
    softmax: Literal[True] | None = Field(None, description="The same.")
    truncate_prompt_tokens: Literal[-1] | None = Field(None, description="-1: as the classifier cuts texts.")

    @property
    def vllm_fields(self) -> list[str]:
        """Fields that only vLLM's clients send, and that this body has."""
        ours = {"text", "texts", "input", "model", "top_k"}
        return sorted(name for name in self.model_fields_set - ours if getattr(self, name) is not None)


class Parameters(_Body):
    """Of the Hugging Face task."""

    top_k: StrictInt | None = Field(None, ge=1)
    function_to_apply: StrictStr | None = None
    truncation: Literal[True] | None = Field(None, description="Texts are cut as the classifier was trained.")


class TaskBody(_Body):
    """The Hugging Face text-classification task."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"inputs": "You won $1000!"}]})
    inputs: Text | Texts
    model: StrictStr | None = Field(None, description="A model's name; needed where the server has several.")
    parameters: Parameters | None = None
    options: dict[str, Any] | None = Field(None, description="The hub's own: caching and waiting. Accepted, unused.")


class PredictBody(_Body):
    """text-embeddings-inference: a text, or a list of lists of one text, or of two that belong together."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"inputs": "You won $1000!"}, {"inputs": [["one"], ["two"]]}]}
    )
    inputs: Text | Texts | Pairs
    model: StrictStr | None = Field(None, description="A model's name; needed where the server has several.")
    raw_scores: Literal[False] | None = Field(None, description="Scores are calibrated: false, or left out.")
    truncate: StrictBool | None = Field(None, description="false: a text that would be cut is refused with 413.")
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = Field(
        None, description="The side that the classifier cuts, if it is said."
    )


class ExplainBody(_Body):
    """Which words moved the decision for a text."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"text": "You won $1000!"}]})
    text: Text
    model: StrictStr | None = None
    label: StrictStr | None = Field(None, description="The label to explain; default: the likeliest.")


class InferParameters(_Body):
    """Parameters of the Open Inference Protocol, with the values that are honoured."""

    content_type: Literal["str"] | None = Field(None, description="MLServer's word for strings.")
    binary_data: Literal[False] | None = None
    binary_data_output: Literal[False] | None = None
    priority: StrictInt | None = None


class InferTensor(_Body):
    """A tensor of the Open Inference Protocol; here of strings."""

    name: StrictStr
    shape: Annotated[list[StrictInt], Field(fail_fast=True)]
    datatype: Literal["BYTES"]
    data: Texts | Pairs = Field(description="Texts, or lists of one text.")
    parameters: InferParameters | None = None


class InferOutput(_Body):
    """An output that is asked for."""

    name: StrictStr
    parameters: InferParameters | None = None


class InferBody(_Body):
    """The Open Inference Protocol, version 2: one input `text` of datatype BYTES and shape [N] or [N, 1]."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["You won $1000!"]}]}]
        },
    )
    id: StrictStr | None = None
    inputs: Annotated[list[InferTensor], Field(fail_fast=True)]
    outputs: Annotated[list[InferOutput], Field(fail_fast=True)] | None = None
    parameters: InferParameters | None = None


BODIES: tuple[type[BaseModel], ...] = (ClassifyBody, TaskBody, PredictBody, ExplainBody, InferBody)
