"""A GGUF as a backbone: config, network and tokenizer, each read when it is asked for."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

from lasttoken.backbone.decoder import Decoder, DecoderConfig
from lasttoken.backbone.families import config_of, end_of_text, family_of
from lasttoken.backbone.gguf.architectures import architecture_of
from lasttoken.backbone.gguf.file import GGUFFile
from lasttoken.backbone.gguf.tensors import read_decoder
from lasttoken.backbone.gguf.tokenizer import read_tokenizer
from lasttoken.backbone.tokenizer import Tokenizer

SUFFIX = ".gguf"
CUT_FROM_BLOCKS = "lasttoken.cut_from_blocks"  # written by scripts/cut_gguf.py: the number of blocks before the cut


def is_gguf(path: Path) -> bool:
    """Whether a path names a GGUF file, by its suffix."""
    return path.suffix.lower() == SUFFIX


class GGUFBackbone:
    """What a GGUF file holds.

    Raises:
        BackboneError: see GGUFFile and `architecture_of`; the methods: see `read_decoder` and `read_tokenizer`.
    """

    def __init__(self, path: Path) -> None:
        self.file = GGUFFile(path)
        self.architecture, self.content = architecture_of(self.file)

    @cached_property
    def config(self) -> DecoderConfig:
        """The config of the whole network."""
        return config_of(self.content, self.file.path)

    @property
    def cut_from_blocks(self) -> int | None:
        """The number of blocks of the model that the file holds the first blocks of; None: the model is whole."""
        return None if CUT_FROM_BLOCKS not in self.file.keys else self.file.get(CUT_FROM_BLOCKS, int)

    def facts(self) -> dict[str, Any]:
        """What the file says about itself: name, licence, origin, and how many tensors it has of each type."""
        keys = {"name": "general.name", "licence": "general.license", "description": "general.description"}
        stated: dict[str, Any] = {fact: self.file.keys[key] for fact, key in keys.items() if key in self.file.keys}
        types = Counter(tensor.type for tensor in self.file.tensors.values())
        if self.cut_from_blocks is not None:
            stated["cut_from_blocks"] = self.cut_from_blocks
        return {**stated, "tensors": [f"{n} {type_}" for type_, n in types.most_common()]}

    def decoder(self, config: DecoderConfig) -> Decoder:
        """The network, or its first blocks if `config` was cut."""
        return read_decoder(self.file, self.architecture, self.content, config)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer; it knows the tokens around each text."""
        return read_tokenizer(self.file, end_of_text(family_of(self.config), self.content, self.file.path))
