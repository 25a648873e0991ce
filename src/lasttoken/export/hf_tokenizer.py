"""The tokenizer of a classifier as transformers loads it, with the same token ids for every text.

special tokens      get names that no text contains: in transformers `<|endoftext|>` in a text would be the token that
                    ends texts; here it is text. Other tokens of a prompt keep theirs
post-processor      puts the classifier's frame around a text
padding token       ends no text: transformers pools the last token whose id is not the padding's
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lasttoken.backbone.frame import framed_post_processor
from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.classifier.classifier import ClassifierConfig
from lasttoken.core.errors import SettingsError

ENDING = "<|lasttoken-end-of-text|>"  # what an exported tokenizer calls the token that ends texts


class ExportedTokenizer:
    """The content of tokenizer.json and tokenizer_config.json."""

    def __init__(self, tokenizer: Tokenizer, config: ClassifierConfig) -> None:
        """Rename special tokens, and set the frame.

        Raises:
            SettingsError: every special token is read at the end of a text, so that none is left for padding.
        """
        self.config = config
        self.content: dict[str, Any] = json.loads(tokenizer.to_json())
        ids = self._special_ids(tokenizer)
        unknown_id = ids.get(self.content["model"].get("unk_token"))  # it may end a text of characters without a token
        self._names = {token_id: f"<|lasttoken-{token_id}|>" for token_id in ids.values()}
        self._names[config.end_of_text_id] = ENDING
        self._rename({token: self._names[token_id] for token, token_id in ids.items()})
        frame = config.prefix_ids, config.suffix_ids
        tokens = {token_id: token for token, token_id in self._vocabulary().items()}
        names = [self._names.get(token_id, tokens[token_id]) for token_id in (*config.prefix_ids, *config.suffix_ids)]
        self.content["post_processor"] = framed_post_processor(self.content.get("post_processor"), frame, names)
        free = [token_id for token_id in (config.end_of_text_id, *self._names) if token_id not in config.suffix_ids]
        rarely = [(config.prefix_ids.count(token_id), token_id == unknown_id) for token_id in free]
        pad_id = free[rarely.index(min(rarely))] if free else None  # best no token of the frame, nor the unknown one
        if pad_id is None:
            raise SettingsError(
                f"the tokenizer has no special token besides {tokenizer.end_of_text!r}, which every text ends with, "
                "and transformers needs another one for padding; export --to onnx, which pads with anything"
            )
        self.pad_id = pad_id

    def _vocabulary(self) -> dict[str, int]:
        """All tokens, and their ids."""
        vocabulary: dict[str, int] = self.content["model"]["vocab"]
        return vocabulary | {token["content"]: token["id"] for token in self.content.get("added_tokens") or []}

    def _special_ids(self, tokenizer: Tokenizer) -> dict[str, int]:
        """The tokens that get another name, and their ids: special ones, the frame's, and the one that ends texts.

        The frame is the model's own: a prompt may have tokens that texts have too.
        """
        special = {token["content"] for token in self.content.get("added_tokens") or [] if token["special"]}
        frame = {*tokenizer.prefix_ids, *tokenizer.suffix_ids}
        return {
            token: token_id
            for token, token_id in self._vocabulary().items()
            if token in special or token_id in frame or token == tokenizer.end_of_text
        }

    def _rename(self, names: dict[str, str]) -> None:
        model = self.content["model"]
        model["vocab"] = {names.get(token, token): token_id for token, token_id in model["vocab"].items()}
        if model.get("unk_token") in names:
            model["unk_token"] = names[model["unk_token"]]
        for token in self.content.get("added_tokens") or []:
            token["content"] = names.get(token["content"], token["content"])

    def settings(self) -> dict[str, Any]:
        """The content of tokenizer_config.json."""
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.config.max_length,
            "padding_side": "right",
            "truncation_side": "right" if self.config.truncate == "tail" else "left",
            **{f"{name}_token": ENDING for name in ("eos", "bos", "unk")},
            "pad_token": self._names[self.pad_id],
            "clean_up_tokenization_spaces": False,
        }


def never_empty(texts: Sequence[str], config: ClassifierConfig) -> list[str]:
    """Texts as transformers needs them: without a frame, an empty one is replaced by the token that ends texts."""
    return list(texts) if config.n_frame else [text or ENDING for text in texts]
