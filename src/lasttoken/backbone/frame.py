"""The frame: the token ids that a model's own tokenizer puts before and after every text.

    Llama 3            <|begin_of_text|> text
    Qwen3-Embedding    text <|endoftext|>          the last token, which is pooled, is then the end token
    GPT-2              text                        no frame

A tokenizer.json says it in its post-processor. Only a constant prefix and a constant suffix are accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer as Encoder

from lasttoken.core.errors import BackboneError

MAX_FRAME = 16  # tokens; published models have one or two
PROBES = ("a", "see you at six", "")
TEMPLATE = "TemplateProcessing"

Frame = tuple[tuple[int, ...], tuple[int, ...]]  # the ids before a text, and those after it


def frame_of(encoder: Encoder, where: str) -> Frame:
    """The frame of a tokenizer, found by encoding three texts with and without special tokens.

    Raises:
        BackboneError: what is added is not constant, or more than `MAX_FRAME` tokens; it names `where`.
    """
    whole = encoder.encode(PROBES[0], add_special_tokens=True)
    own = [place for place, added in enumerate(whole.special_tokens_mask) if not added] or [len(whole.ids)]
    prefix, suffix = whole.ids[: own[0]], whole.ids[own[-1] + 1 :]
    is_constant = all(
        encoder.encode(probe, add_special_tokens=True).ids
        == [*prefix, *encoder.encode(probe, add_special_tokens=False).ids, *suffix]
        for probe in PROBES
    )
    if not is_constant or len(prefix) + len(suffix) > MAX_FRAME:
        raise BackboneError(
            f"{where}: post_processor does more than put up to {MAX_FRAME} constant tokens around a text; such a "
            "tokenizer is not supported"
        )
    return tuple(prefix), tuple(suffix)


def framed_post_processor(post_processor: Any, frame: Frame, names: Sequence[str]) -> Any:
    """The post-processor of a tokenizer.json that adds `frame`, made from the one that the file has.

    `names`: the names of the frame's tokens, those before the text first.
    """
    parts = (post_processor or {}).get("processors", [post_processor] if post_processor else [])
    kept = [part for part in parts if part["type"] != TEMPLATE]
    prefix_ids, suffix_ids = frame
    if prefix_ids or suffix_ids:
        kept.append(_template(len(prefix_ids), dict(zip(names, (*prefix_ids, *suffix_ids), strict=True)), names))
    if len(kept) > 1:
        return {"type": "Sequence", "processors": kept}
    return kept[0] if kept else None


def _template(n_before: int, ids: dict[str, int], names: Sequence[str]) -> dict[str, Any]:
    def piece(name: str) -> dict[str, Any]:
        return {"SpecialToken": {"id": name, "type_id": 0}}

    before, after = [piece(name) for name in names[:n_before]], [piece(name) for name in names[n_before:]]
    first, second = ({"Sequence": {"id": letter, "type_id": 0}} for letter in "AB")
    return {
        "type": TEMPLATE,
        "single": [*before, first, *after],
        "pair": [*before, first, *after, *before, second, *after],
        "special_tokens": {name: {"id": name, "ids": [token_id], "tokens": [name]} for name, token_id in ids.items()},
    }
