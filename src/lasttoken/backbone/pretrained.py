"""From a name to a backbone: the bundled one, a hub id, a Hugging Face folder, or OpenAI's own folder.

"pocket" ─► in the package      "gpt2", "org/name" ─► hub cache      "some/folder" ─► as it is
                                     │
                 config.json + *.safetensors + tokenizer      or      hparams.json + model.ckpt.* + tokenizer
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from torch import Tensor

from lasttoken.backbone.catalog import BACKBONES
from lasttoken.backbone.gpt2.network import GPT2, GPT2Config
from lasttoken.backbone.hub import fetch_backbone
from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.backbone.weights import (
    build_gpt,
    check_finite,
    from_published,
    read_gpt_config,
    read_tensor_files,
    shape_of,
)
from lasttoken.core.documents import load_json
from lasttoken.core.errors import BackboneError, nearest, one_of


@dataclass(frozen=True)
class Backbone:
    """A pretrained GPT with its tokenizer."""

    name: str
    decoder: GPT2
    tokenizer: Tokenizer
    max_length: int  # the longest text it was trained for, in tokens
    end_of_text_id: int

    @property
    def config(self) -> GPT2Config:
        """The shape of the GPT."""
        return self.decoder.config


def locate_backbone(name: str, offline: bool = False) -> Path:
    """The folder of a backbone; fetched into the hub's cache when it is a name that is not there yet.

    Raises:
        BackboneError: neither a known name, nor a hub id, nor a folder.
        NetworkError: it would have to be fetched and cannot be.
    """
    if name == "pocket":
        return Path(str(resources.files("lasttoken") / "pocket"))
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return folder
    if folder.is_file():
        raise BackboneError(f"--backbone {name} is a file; give the folder that holds config.json and the weights")
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_like_path or (name not in BACKBONES and "/" not in name):
        known = f"use one of {one_of(BACKBONES)}, a hub id such as org/name, or a folder"
        raise BackboneError(f"there is no backbone {name!r}; {known}{nearest(name, BACKBONES)}")
    return fetch_backbone(name, offline=offline)


def load_backbone(name: str, offline: bool = False) -> Backbone:
    """Load a backbone in float32, frozen.

    Raises:
        BackboneError: not found, not GPT-2, torn, incomplete, or with another's tokenizer.
        NetworkError: it would have to be fetched and cannot be.
    """
    folder = locate_backbone(name, offline)
    config, tensors = _read_openai(folder) if _is_openai(folder) else _read_hugging_face(folder)
    gpt = build_gpt(config, tensors, folder)
    tokenizer = Tokenizer.load(folder)
    tokenizer.check_fits(config.vocab_size, folder)
    end_of_text_id = tokenizer.end_of_text_id
    if end_of_text_id is None:
        raise BackboneError(
            f"the tokenizer in {folder} has no <|endoftext|> token; only GPT-2 style tokenizers can be used"
        )
    return Backbone(name, gpt, tokenizer, _max_length(name, config), end_of_text_id)


def load_tokenizer(name: str, offline: bool = False) -> tuple[Tokenizer, int]:
    """A backbone's tokenizer and the longest text it was trained for, in tokens; its weights are not read.

    Raises:
        BackboneError, NetworkError: as `load_backbone`.
    """
    folder = locate_backbone(name, offline)
    config = _openai_shape(folder) if _is_openai(folder) else read_gpt_config(folder / "config.json")[0]
    return Tokenizer.load(folder), _max_length(name, config)


def _max_length(name: str, config: GPT2Config) -> int:
    known = BACKBONES.get(name)
    return min(known.max_length, config.n_positions) if known else config.n_positions


def _is_openai(folder: Path) -> bool:
    return (folder / "hparams.json").is_file() and not (folder / "config.json").is_file()


def _read_hugging_face(folder: Path) -> tuple[GPT2Config, dict[str, Tensor]]:
    config, _ = read_gpt_config(folder / "config.json")
    return config, from_published(read_tensor_files(folder))


def _read_openai(folder: Path) -> tuple[GPT2Config, dict[str, Tensor]]:
    from lasttoken.backbone.gpt2.openai import read_openai_tensors

    shape = _openai_shape(folder)
    tensors = from_published(read_openai_tensors(folder))
    check_finite(tensors, folder)
    return shape, tensors


def _openai_shape(folder: Path) -> GPT2Config:
    path = folder / "hparams.json"
    return shape_of(load_json(path, BackboneError), path)
