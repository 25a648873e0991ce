"""A GGUF as a backbone: config, network and tokenizer, each read when it is asked for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from lasttoken.backbone.decoder import Decoder, DecoderConfig
from lasttoken.backbone.families import config_of, end_of_text, family_of
from lasttoken.backbone.gguf.architectures import architecture_of
from lasttoken.backbone.gguf.file import GGUFFile
from lasttoken.backbone.gguf.tensors import read_decoder
from lasttoken.backbone.gguf.tokenizer import read_tokenizer
from lasttoken.backbone.tokenizer import Tokenizer

SUFFIX = ".gguf"


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

    def decoder(self, config: DecoderConfig) -> Decoder:
        """The network, or its first blocks if `config` was cut."""
        return read_decoder(self.file, self.architecture, self.content, config)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer; it knows the tokens around each text."""
        return read_tokenizer(self.file, end_of_text(family_of(self.config), self.content, self.file.path))
