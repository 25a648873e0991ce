"""A run made of the weights that a reader of the book has saved: chapter 6's GPTModel with its two-way head, as `.pth`.

    torch.save(model.state_dict(), "review_classifier.pth")  ──► a run: labels, tokenizer, longest text beside them

This is the one place where a pickle container is opened, and only for its tensors (torch.load, weights_only=True): no
code in the file is run. The chapter reads position -1 of a text padded to a fixed length, so the run does too.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lasttoken.backbone.catalog import BACKBONES
from lasttoken.backbone.gpt2.network import GPT2, GPT2Config
from lasttoken.backbone.pretrained import load_tokenizer
from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.backbone.weights import check_finite
from lasttoken.classifier.checkpoint import save_classifier
from lasttoken.classifier.classifier import Classifier, ClassifierConfig
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.errors import BackboneError, SettingsError, one_of
from lasttoken.core.storage import exclusive

HEADS = {entry.n_embd: entry.n_head for entry in BACKBONES.values() if entry.hub_id}  # of the published widths
OTHER_NAMES = {  # as the chapter's summary calls them
    "token_emb.": "tok_emb.",
    "position_emb.": "pos_emb.",
    "transformer_blocks.": "trf_blocks.",
    "output_head.": "out_head.",
}
BLOCK = re.compile(r"trf_blocks\.([0-9]{1,4})\.")
PLAIN = {
    "tok_emb.weight": "wte.weight",
    "pos_emb.weight": "wpe.weight",
    "final_norm.scale": "ln_f.weight",
    "final_norm.shift": "ln_f.bias",
}
IN_BLOCK = {
    "att.out_proj.weight": "attn.c_proj.weight",
    "att.out_proj.bias": "attn.c_proj.bias",
    "ff.layers.0.weight": "mlp.c_fc.weight",
    "ff.layers.0.bias": "mlp.c_fc.bias",
    "ff.layers.2.weight": "mlp.c_proj.weight",
    "ff.layers.2.bias": "mlp.c_proj.bias",
    "norm1.scale": "ln_1.weight",
    "norm1.shift": "ln_1.bias",
    "norm2.scale": "ln_2.weight",
    "norm2.shift": "ln_2.bias",
}
QUERIES = [f"att.W_{one}.{part}" for one in ("query", "key", "value") for part in ("weight", "bias")]
NOT_THE_BOOKS = "is not a state dict of the book's GPTModel with a class head"


def import_book(
    file: Path,
    out: Path,
    labels: Sequence[str],
    *,
    max_length: int = 120,
    n_head: int | None = None,
    tokenizer: str = "gpt2",
    offline: bool = False,
) -> ClassifierConfig:
    """Make a run of saved weights. Nothing is known of its figures: `evaluate` measures them.

    Args:
        file: what `torch.save(model.state_dict(), …)` wrote.
        out: the run directory to make.
        labels: the names of the head's outputs, in their order; the chapter's are ham, spam (0 and 1).
        max_length: tokens to which every text is padded or cut: the longest train text, 120 in the chapter.
        n_head: attention heads; needed where the width is not one of the four published ones.
        tokenizer: the backbone whose it is, by name, or a folder with its files, such as the book's gpt2/124M.
        offline: never use the network for it.

    Raises:
        BackboneError: a file that is no such state dict, torn, or holds more than tensors.
        SettingsError: labels, lengths or heads that do not fit it.
        RunError, StorageError: see `RunDir`.
    """
    run_dir = RunDir(out)
    with exclusive(out):
        run_dir.check_free(overwrite=False, replace_unfinished=False)
        return _import_held(run_dir, file, labels, max_length, n_head, tokenizer, offline)


def _import_held(
    run_dir: RunDir,
    file: Path,
    labels: Sequence[str],
    max_length: int,
    n_head: int | None,
    tokenizer: str,
    offline: bool,
) -> ClassifierConfig:
    """`import_book`, once the run's folder is this process's own."""
    state = read_state(file)
    check_finite({name: tensor for name, tensor in state.items() if not name.endswith("mask")}, file)
    tensors = renamed(state, file)
    config = _shape(tensors, n_head, file)
    n_labels = state["out_head.weight"].shape[0]
    if len(labels) != n_labels or len(set(labels)) != n_labels:
        raise SettingsError(f"--labels names {len(set(labels))} labels, and the head of {file} has {n_labels} outputs")
    folder = Path(tokenizer).expanduser()
    encoder = Tokenizer.load(folder) if folder.is_dir() else load_tokenizer(tokenizer, offline)[0]
    encoder.check_fits(config.vocab_size, file)
    described = ClassifierConfig(
        labels=tuple(labels),
        read="padded-last",
        causal_mask=True,
        max_length=max_length,
        truncate="tail",
        train_blocks="1",
        end_of_text_id=config.vocab_size - 1 if encoder.end_of_text_id is None else encoder.end_of_text_id,
        backbone=f"imported from {file.name}",
    )
    classifier = _classifier(config, tensors, state, described)
    _write(run_dir, classifier, encoder, file)
    return described


def read_state(file: Path) -> dict[str, Tensor]:
    """The tensors of a state dict on the CPU, without running anything that the file may hold.

    Raises:
        BackboneError: not there, torn, or more than tensors in it.
    """
    if not file.is_file():
        raise BackboneError(f"there is no file {file}; give what torch.save(model.state_dict(), …) wrote")
    is_zip = zipfile.is_zipfile(file)  # else as torch wrote them before version 1.6, which cannot be mapped
    if not is_zip and not _starts_as_pickle(file):
        raise BackboneError(
            f"{file} is no file that torch.save wrote; give what torch.save(model.state_dict(), …) wrote"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how old the file is
            found: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise BackboneError(
            f"{file} holds more than tensors, which is not opened, for it could run code; save "
            "model.state_dict() where it was trained, and give that"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise BackboneError(f"{file} cannot be read as saved tensors: {str(error).splitlines()[0][:200]}") from error
    if not isinstance(found, Mapping) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise BackboneError(f"{file} {NOT_THE_BOOKS}; save model.state_dict()")
    return {_usual(str(name)): tensor for name, tensor in found.items()}


def _usual(name: str) -> str:
    """A tensor's name as the chapter's code has it.

    >>> _usual("transformer_blocks.0.norm1.scale"), _usual("tok_emb.weight")
    ('trf_blocks.0.norm1.scale', 'tok_emb.weight')
    """
    other = next((other for other in OTHER_NAMES if name.startswith(other)), "")
    return OTHER_NAMES.get(other, "") + name.removeprefix(other)


def _starts_as_pickle(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(1) == b"\x80"


def renamed(state: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The book's tensors by the names of our modules; query, key and value become one.

    Raises:
        BackboneError: tensors that are missing.
    """
    found: dict[str, Tensor] = {}
    n_layer = 1 + max((int(match[1]) for name in state if (match := BLOCK.match(name))), default=-1)
    try:
        found |= {ours: state[theirs] for theirs, ours in PLAIN.items()}
        _ = state["out_head.weight"]
        for at in range(n_layer):
            theirs, ours = f"trf_blocks.{at}.", f"h.{at}."
            found |= {f"{ours}{b}": state[f"{theirs}{a}"] for a, b in IN_BLOCK.items()}
            queries = [f"{theirs}att.W_{one}" for one in ("query", "key", "value")]
            weight = torch.cat([state[f"{name}.weight"] for name in queries])
            found[f"{ours}attn.c_attn.weight"] = weight
            biases = [state.get(f"{name}.bias", torch.zeros(len(weight) // 3)) for name in queries]
            found[f"{ours}attn.c_attn.bias"] = torch.cat(biases)
    except KeyError as error:
        raise BackboneError(f"{file} {NOT_THE_BOOKS}: it has no tensor {error.args[0]}") from error
    except (RuntimeError, IndexError, TypeError) as error:
        why = str(error).splitlines()[0][:200]
        raise BackboneError(f"{file} {NOT_THE_BOOKS}: shapes that do not fit each other ({why})") from error
    used = {*PLAIN, "out_head.weight", "out_head.bias"} | {
        f"trf_blocks.{at}.{name}" for at in range(n_layer) for name in (*IN_BLOCK, *QUERIES)
    }
    if unknown := sorted(name for name in state if name not in used and not name.endswith(".att.mask")):
        raise BackboneError(f"{file} {NOT_THE_BOOKS}: it holds tensors that it does not have: {one_of(unknown)[:500]}")
    flat = [name for name in ("wte.weight", "wpe.weight") if found[name].dim() != 2]
    if flat or state["out_head.weight"].dim() != 2:
        raise BackboneError(f"{file} {NOT_THE_BOOKS}: its embeddings and its head must have two dimensions")
    if not n_layer:
        raise BackboneError(f"{file} {NOT_THE_BOOKS}: it has no trf_blocks")
    return {name: tensor.float() for name, tensor in found.items()}


def _shape(tensors: Mapping[str, Tensor], n_head: int | None, file: Path) -> GPT2Config:
    (vocab_size, n_embd), n_positions = tensors["wte.weight"].shape, tensors["wpe.weight"].shape[0]
    heads = HEADS.get(n_embd) if n_head is None else n_head
    if heads is None:
        raise SettingsError(
            f"{file} is {n_embd} channels wide, which is none of GPT-2's widths ({', '.join(map(str, HEADS))}), and "
            "weights do not tell the number of attention heads; pass --heads, the n_heads of its configuration"
        )
    if heads < 1 or n_embd % heads:
        raise SettingsError(
            f"--heads is {heads}, which does not divide the {n_embd} channels of {file}; give the right one"
        )
    n_layer = sum(name.endswith("ln_1.weight") for name in tensors)
    return GPT2Config(vocab_size, n_positions, n_embd, n_layer, heads, tensors["h.0.mlp.c_fc.weight"].shape[0])


def _classifier(
    config: GPT2Config, tensors: Mapping[str, Tensor], state: Mapping[str, Tensor], described: ClassifierConfig
) -> Classifier:
    gpt = GPT2(config)
    try:
        gpt.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        raise BackboneError(
            f"{described.backbone}: shapes that do not fit each other ({str(error).splitlines()[-1].strip()})"
        ) from error
    classifier = Classifier(gpt, described, seed=0)
    with torch.no_grad():
        classifier.head.weight.copy_(state["out_head.weight"].float())
        classifier.head.bias.copy_(state.get("out_head.bias", torch.zeros(len(described.labels))).float())
    return classifier.requires_grad_(False).eval()


def _write(run_dir: RunDir, classifier: Classifier, tokenizer: Tokenizer, file: Path) -> None:
    run_dir.clear()
    save_classifier(run_dir.path, classifier, tokenizer)
    note = f"imported from {file.name}: nothing is known of its figures; lasttoken evaluate measures them"
    config = classifier.config
    run_dir.write_metrics(
        {
            "splits": {},
            "baselines": {},
            "verdict": None,
            "warnings": [note],
            "timing_s": {},
            "labels": list(config.labels),
            "multi_label": False,
        }
    )
