"""GPT-2's tensors: as published files hold them, and as our modules hold them.

    files     transformer.h.0.attn.c_attn.weight  [in, out]     (the prefix may be absent)
    modules   h.0.attn.c_attn.weight              [out, in]     four transposed views a block; nothing is copied

A float32 file stays where it is, mapped into memory, and is the network: loading reads nothing of a trunk, and of a
large one no second copy is ever held. Products of transposed weights are as quick, and of few rows quicker
(benchmarks/2026-11-25-speed.md).

Everything is checked by name and by shape before a network is made of it. Files that are written here carry a sum of
each tensor's bytes in their header, so that a flipped bit is found when they are read; of other files it is only
checked that all numbers are finite. Either takes one pass over the weights, about 0.05 s for GPT-2 small.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lasttoken.backbone.gpt2.network import GPT2, GPT2Config
from lasttoken.core.documents import load_json
from lasttoken.core.errors import BackboneError, LastTokenError, StorageError, one_of, shown
from lasttoken.core.storage import new_file

TRANSPOSED = re.compile(r"(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight$")
BUFFERS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)$")  # causal masks that the published files carry along
PREFIX = "transformer."
LARGEST_SIZE = 2**31 - 1
MOST_HEADER_BYTES = 8_000_000  # of a safetensors file; gpt2-xl's has 0.07 MB
MOST_TENSORS = 50_000  # in a file; gpt2-xl has 580
SUMS = "sums"  # in the metadata of the files that are written here: name -> sum of the tensor's bytes

AGAIN = "fetch, copy or train it again"
CONVERT = (
    "load it once where you trust it with transformers' AutoModelForCausalLM.from_pretrained(folder) "
    "and save_pretrained(folder), which writes model.safetensors"
)


def read_tensor_files(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's model.safetensors, or of the shards its index names.

    Raises:
        BackboneError: no such file, a torn or changed one, weights that are not finite, or only a pickled
            pytorch_model.bin.
    """
    tensors: dict[str, Tensor] = {}
    for path in _tensor_files(folder):
        try:
            _check_header(path)
            with safe_open(path, "pt") as file:
                read = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                sums = (file.metadata() or {}).get(SUMS)
        except LastTokenError:
            raise
        except (SafetensorError, OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
            size = path.stat().st_size if path.exists() else 0
            raise BackboneError(
                f"{path} ({size:,} bytes) is torn or not safetensors: {str(error)[:200]}; fetch it again"
            ) from error
        if sums is None:
            check_finite(read, path)
        else:
            check_sums(read, sums, path)
        tensors.update(read)
    return tensors


def _check_header(path: Path) -> None:
    """Refuse a header that would take much memory, before it is parsed.

    Raises:
        ValueError: too many bytes or tensors.
    """
    with path.open("rb") as file:
        n_bytes = int.from_bytes(file.read(8), "little")
        if n_bytes > MOST_HEADER_BYTES:
            raise ValueError(f"its header has {n_bytes:,} bytes, more than {MOST_HEADER_BYTES:,}")
        n_tensors = file.read(n_bytes).count(b'"data_offsets"')
    if n_tensors > MOST_TENSORS:
        raise ValueError(f"its header names {n_tensors:,} tensors, more than {MOST_TENSORS:,}")


def check_finite(tensors: Mapping[str, Tensor], where: Path) -> None:
    """Refuse weights that are NaN or infinite: every answer would be NaN.

    Raises:
        BackboneError: names the tensor.
    """
    for name, tensor in tensors.items():
        if BUFFERS.search(name) or not tensor.is_floating_point():
            continue
        total = tensor.sum(dtype=torch.float32)  # one quick pass; only what is odd is looked at again
        if not total.isfinite() and not tensor.isfinite().all():
            raise BackboneError(f"{where}: tensor {name[:100]} holds NaN or infinity; fetch or train it again")


def _sum_of_bytes(tensor: Tensor) -> int:
    """The sum modulo 2**64 of a tensor's bytes, taken as 64-bit integers: any single changed bit changes it."""
    content = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy()
    whole = len(content) // 8 * 8
    words, rest = content[:whole].view(np.uint64), content[whole:]
    return (int(words.sum(dtype=np.uint64)) + int.from_bytes(rest.tobytes(), "little")) % 2**64


def sums_of(tensors: Mapping[str, Tensor]) -> str:
    """The sum of each tensor's bytes, as the metadata of a file holds them; tensors on the CPU."""
    return json.dumps({name: f"{_sum_of_bytes(tensor):x}" for name, tensor in tensors.items()})


def check_sums(tensors: Mapping[str, Tensor], sums: str, path: Path) -> None:
    """Refuse tensors that are not those that were written.

    Raises:
        BackboneError: names the tensor.
    """
    try:
        written = dict(json.loads(sums))
    except (ValueError, TypeError, RecursionError) as error:
        raise BackboneError(f"{path} was changed: the sums in its header cannot be read; {AGAIN}") from error
    for name in sorted({*tensors, *written}):
        if name not in tensors or written.get(name) != f"{_sum_of_bytes(tensors[name]):x}":
            raise BackboneError(f"{path} was changed: tensor {name[:100]} is not the one that was written; {AGAIN}")


def write_tensor_file(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all, straight from where the tensors lie: no copy is held in memory.

    Raises:
        StorageError: no permission, or a full disk.
    """
    sums = sums_of(tensors)
    with new_file(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # as other files of this user; the library would let nobody else read it
        try:
            save_file(dict(tensors), temporary, metadata={"format": "pt", SUMS: sums})
        except SafetensorError as error:
            raise StorageError(f"{path} cannot be written: {error}; make room, or choose another folder") from error
        _sort_metadata(temporary)
        temporary.chmod(mode)


def _sort_metadata(path: Path) -> None:
    """Bring the metadata of a safetensors file into one order, so that equal tensors give equal bytes.

    The library writes it in the order of a hash table, another one each time.
    """
    with path.open("r+b") as file:
        n_bytes = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(n_bytes))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        content = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8").ljust(n_bytes)
        assert len(content) == n_bytes
        file.seek(8)
        file.write(content)


def _tensor_files(folder: Path) -> Iterator[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        yield single
    elif index.is_file():
        try:
            names = sorted({Path(name).name for name in load_json(index, BackboneError)["weight_map"].values()})
        except (BackboneError, KeyError, AttributeError, TypeError) as error:
            raise BackboneError(f"{index} is not an index of shards; fetch it again") from error
        for name in names:
            shard = folder / name
            if not shard.is_file():
                raise BackboneError(f"{index} names the shard {shown(name)}, which is not in {folder}; fetch it again")
            yield shard
    elif (folder / "pytorch_model.bin").is_file():
        raise BackboneError(f"{folder} holds only pytorch_model.bin, a pickle, which can run code when read; {CONVERT}")
    else:
        raise BackboneError(f"{folder} holds no model.safetensors and no model.safetensors.index.json")


def read_gpt_config(path: Path) -> tuple[GPT2Config, dict[str, Any]]:
    """A GPT-2 `config.json`: the shape, and the whole content. Its dropout is ignored.

    Raises:
        BackboneError: not there, not JSON, not GPT-2, or a variant of it that is computed otherwise.
    """
    try:
        content = load_json(path, BackboneError)
    except FileNotFoundError as error:
        raise BackboneError(
            f"{path} is missing; a backbone folder holds config.json, model.safetensors and tokenizer.json"
        ) from error
    kind = content.get("model_type", "gpt2")
    if kind != "gpt2":
        raise BackboneError(f"{path} describes a model of type {shown(kind)}; only the gpt2 architecture can be loaded")
    expected = {
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    }
    for name, value in expected.items():
        if content.get(name, value) != value:
            raise BackboneError(
                f"{path} has {name} = {shown(content[name])}; only {value!r}, as in GPT-2, can be computed"
            )
    return shape_of(content, path), content


def shape_of(content: Mapping[str, Any], path: Path) -> GPT2Config:
    """The shape in the content of a `config.json`, or of OpenAI's `hparams.json`, which names two sizes otherwise.

    Raises:
        BackboneError: a size that is missing or no count, or heads that do not divide n_embd.
    """
    config = GPT2Config(
        vocab_size=_size(content, path, "vocab_size", "n_vocab"),
        n_positions=_size(content, path, "n_positions", "n_ctx"),
        n_embd=_size(content, path, "n_embd"),
        n_layer=_size(content, path, "n_layer"),
        n_head=_size(content, path, "n_head"),
        n_inner=None if content.get("n_inner") is None else _size(content, path, "n_inner"),
        layer_norm_epsilon=content.get("layer_norm_epsilon", 1e-5),
        tied=content.get("tie_word_embeddings", True),
    )
    if not isinstance(config.tied, bool):
        raise BackboneError(f"{path} has tie_word_embeddings = {shown(config.tied)}; it must be true or false")
    epsilon = config.layer_norm_epsilon
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 <= epsilon < 1:
        raise BackboneError(
            f"{path} has layer_norm_epsilon = {shown(epsilon)}, which is no small number; fetch it again"
        )
    if config.n_embd % config.n_head:
        raise BackboneError(f"{path} has n_embd {config.n_embd}, which is not a multiple of n_head {config.n_head}")
    return config


def _size(content: Mapping[str, Any], path: Path, *names: str) -> int:
    value = next((content[name] for name in names if content.get(name) is not None), None)
    if type(value) is not int or not 1 <= value <= LARGEST_SIZE:
        raise BackboneError(f"{path} gives {' or '.join(names)} as {shown(value)}, which is no size; is it a GPT-2's?")
    return value


def write_gpt_config(config: GPT2Config) -> dict[str, Any]:
    """The shape as a GPT-2 `config.json` holds it."""
    return {
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "vocab_size": config.vocab_size,
        "n_positions": config.n_positions,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": config.n_inner,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "tie_word_embeddings": config.tied,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    }


def from_published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names and layout to ours, in float32; views of the same memory where it is float32 already."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        ours = name.removeprefix(PREFIX)
        if BUFFERS.search(ours):
            continue
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        found[ours] = tensor.t() if TRANSPOSED.search(ours) and tensor.dim() == 2 else tensor
    return found


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names and layout to the published ones, with the prefix."""
    return {
        name if name.startswith("lm_head") else PREFIX + name: (
            tensor.t() if TRANSPOSED.search(name) else tensor
        ).contiguous()
        for name, tensor in state.items()
    }


def build_gpt(config: GPT2Config, tensors: Mapping[str, Tensor], where: Path) -> GPT2:
    """A GPT of tensors under our names; they become its parameters, no copy is made.

    Raises:
        BackboneError: names the tensors that are missing, unknown, of another shape, or no floating-point numbers.
    """
    if config.n_layer > len(tensors):  # before a network of that many blocks is laid out
        raise BackboneError(
            f"{where} holds {len(tensors):,} tensors, too few for the {config.n_layer:,} blocks in its configuration"
        )
    given = dict(tensors)
    for name, n_rows in (("wte.weight", config.vocab_size), ("wpe.weight", config.n_positions)):
        if name in given:  # before a network of that width is laid out
            _check_shape(name, given[name], (n_rows, config.n_embd), where)
    with torch.device("meta"):
        gpt = GPT2(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in gpt.state_dict().items()}
    if config.tied:
        given.pop("lm_head.weight", None)  # the same numbers as wte
    missing, unknown = wanted.keys() - given.keys(), given.keys() - wanted.keys()
    if missing:
        raise BackboneError(
            f"{where} lacks the tensors {one_of(sorted(missing))}; is it a GPT-2 checkpoint of the shape in "
            "config.json?"
        )
    if unknown:
        raise BackboneError(
            f"{where} holds tensors that no GPT-2 has: {one_of(sorted(unknown))}; only plain GPT-2 "
            "checkpoints can be loaded"
        )
    for name, shape in wanted.items():
        _check_shape(name, given[name], shape, where)
        if not given[name].is_floating_point():
            raise BackboneError(
                f"{where}: tensor {name} is of type {given[name].dtype}; only floating-point weights can be loaded"
            )
    gpt.load_state_dict(given, assign=True)
    return gpt.requires_grad_(False).eval()


def _check_shape(name: str, tensor: Tensor, shape: tuple[int, ...], where: Path) -> None:
    if tuple(tensor.shape) != shape:
        raise BackboneError(f"{where}: tensor {name} has shape {tuple(tensor.shape)}, config.json asks for {shape}")
