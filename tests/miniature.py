"""Miniatures that many tests share: a random GPT, a small tokenizer, a checkpoint folder, labelled messages.

random_gpt()          every tensor random, biases and norms too, so that none can be left out unseen
random_decoder(c)     the same of any family
small_tokenizer()     256 bytes, four merges, <|endoftext|>
framed_tokenizer()    the same with a start token, an end token or both around every text
write_backbone(dir)   config.json, model.safetensors, tokenizer.json, as published folders hold them
write_folder(dir, d)  the same of any family
messages(n)           n short texts and their labels, spam and ham in turn
random_encoded(n)     n texts as random token ids, and labels_of(encoded) for them
classifier_of(gpt)    a head on a decoder
plain_settings()      a small training without any extras; trainer_of(settings) to run it
run_cli("info", …)    a command of the command line, in this process
POCKET                the folder of a small trained GPT, the default backbone of all tests
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Encoder
from torch import Tensor

from lasttoken.backbone.decoder import Decoder, DecoderConfig
from lasttoken.backbone.families import family_of
from lasttoken.backbone.gpt2.family import to_published, write_config
from lasttoken.backbone.gpt2.network import GPT2, GPT2Config
from lasttoken.backbone.tokenizer import END_OF_TEXT, Tokenizer
from lasttoken.backbone.weights import write_tensor_file
from lasttoken.classifier.classifier import Classifier, ClassifierConfig
from lasttoken.classifier.encoding import Encoded
from lasttoken.classifier.lora import LoraConfig
from lasttoken.cli.main import main
from lasttoken.core.config import Settings
from lasttoken.core.device import CPU
from lasttoken.core.documents import to_json
from lasttoken.core.resolve import resolve
from lasttoken.core.storage import write_text
from lasttoken.training.features import TrunkPass
from lasttoken.training.loop import Hooks, Trainer, TrainingInputs
from lasttoken.training.split_features import SplitFeatures

POCKET = str(Path(__file__).parent / "fixtures" / "pocket")
MERGES = (("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"))
N_SMALL_TOKENS = 256 + len(MERGES) + 1


def random_gpt(
    *,
    vocab_size: int = N_SMALL_TOKENS,
    n_positions: int = 32,
    n_embd: int = 32,
    n_layer: int = 3,
    n_head: int = 4,
    n_inner: int | None = None,
    tied: bool = True,
    seed: int = 1,
    dtype: torch.dtype = torch.float32,
) -> GPT2:
    """A GPT whose tensors are all random, frozen, in eval mode."""
    config = GPT2Config(
        vocab_size=vocab_size,
        n_positions=n_positions,
        n_embd=n_embd,
        n_layer=n_layer,
        n_head=n_head,
        n_inner=n_inner,
        tied=tied,
    )
    gpt = GPT2(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in gpt.named_parameters():
            scale = 0.5 if parameter.dim() == 1 else n_embd**-0.5
            values = torch.empty(parameter.shape).normal_(0.0, scale, generator=generator)
            parameter.copy_(values + 1.0 if "ln_" in name and name.endswith("weight") else values)
    return gpt.to(dtype).requires_grad_(False).eval()


def random_decoder(config: DecoderConfig, dtype: torch.dtype = torch.float64, seed: int = 1) -> Decoder:
    """A decoder whose tensors are all random, norms and biases too, so that none can be left out unnoticed."""
    decoder = family_of(config).build(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            is_vector = parameter.dim() == 1
            parameter.copy_(
                torch.empty(parameter.shape).normal_(
                    1.0 if is_vector and name.endswith("weight") else 0.0,
                    0.3 if is_vector else config.n_embd**-0.5,
                    generator=generator,
                )
            )
    return decoder.to(dtype).requires_grad_(False).eval()


def small_vocabulary() -> dict[str, int]:
    """Tokens and their ids: the bytes' signs, the merges, and the end of a text last, as GPT-2's are ordered."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in MERGES), END_OF_TEXT]
    return {token: token_id for token_id, token in enumerate(tokens)}


def small_tokenizer() -> Tokenizer:
    """Byte-level byte-pair encoding with `N_SMALL_TOKENS` tokens, which encodes every text."""
    encoder = Encoder(models.BPE(vocab=small_vocabulary(), merges=list(MERGES)))
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder.decoder = decoders.ByteLevel()
    encoder.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return Tokenizer(encoder)


def framed_tokenizer(before: Sequence[str] = ("<|start|>",), after: Sequence[str] = ()) -> Tokenizer:
    """The small tokenizer with two more special tokens, `<|start|>` and `<|end|>`, and a frame of any of them."""
    encoder = Encoder.from_str(small_tokenizer().to_json())
    encoder.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in ("<|start|>", "<|end|>")]
    )
    encoder.post_processor = processors.TemplateProcessing(
        single=[*before, "$A", *after],
        special_tokens=[(token, encoder.token_to_id(token)) for token in {*before, *after}],
    )
    return Tokenizer(encoder)


def published_tensors(gpt: GPT2) -> dict[str, Tensor]:
    """A GPT's tensors as a file holds them, with the prefix."""
    return {name: tensor.clone() for name, tensor in to_published(gpt.state_dict()).items()}


def write_backbone(
    folder: Path,
    gpt: GPT2 | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    tensors: Mapping[str, Tensor] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint folder and return it. `tensors` takes the place of the GPT's; `config` adds to config.json."""
    gpt = gpt or random_gpt()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors) if tensors is not None else published_tensors(gpt), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**write_config(gpt.config), **(config or {})}), "utf-8")
    (folder / "tokenizer.json").write_text((tokenizer or small_tokenizer()).to_json(), "utf-8")
    return folder


def write_folder(folder: Path, decoder: Decoder) -> Path:
    """A backbone folder as hubs hold them."""
    family = family_of(decoder.config)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensor_file(folder / "model.safetensors", family.to_published(decoder.state_dict()))
    content = {**family.write_config(decoder.config), "eos_token_id": decoder.config.vocab_size - 1}
    write_text(folder / "config.json", to_json(content))
    write_text(folder / "tokenizer.json", small_tokenizer().to_json())
    return folder


def write_shards(folder: Path, tensors: Mapping[str, Tensor], n: int) -> None:
    """Write tensors to n files and their index, in place of model.safetensors."""
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    files = [f"model-{at + 1:05d}-of-{n:05d}.safetensors" for at in range(n)]
    for at, file in enumerate(files):
        save_file({name: tensors[name] for name in names[at::n]}, folder / file)
    index = {"metadata": {}, "weight_map": {name: files[at % n] for at, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def messages(n: int) -> tuple[list[str], list[str]]:
    """n texts and their labels, spam first; no two texts are equal."""
    spam = [f"Win prize number {at} now, text WIN to {1000 + 7 * at}!" for at in range(n)]
    ham = [f"see you at {at} then, bring the {'book' if at % 2 else 'keys'}" for at in range(n)]
    return [(spam, ham)[at % 2][at // 2] for at in range(n)], [("spam", "ham")[at % 2] for at in range(n)]


def random_encoded(
    n: int, longest: int = 12, *, vocab_size: int = N_SMALL_TOKENS, uniform: bool = False, seed: int = 2
) -> Encoded:
    """n texts of random token ids, of 1 to `longest` tokens each, or all of `longest`."""
    draw = np.random.default_rng(seed)
    lengths = np.full(n, longest) if uniform else draw.integers(1, longest + 1, n)
    token_ids = draw.integers(0, vocab_size, int(lengths.sum())).astype(np.int32)
    return Encoded(token_ids, lengths.astype(np.int64), np.zeros(n, dtype=np.bool_), 0)


def classifier_of(
    decoder: Decoder,
    *,
    labels: tuple[str, ...] = ("ham", "spam"),
    read: str = "last",
    causal_mask: bool = True,
    train_blocks: str = "1",
    seed: int = 123,
    frame: tuple[tuple[int, ...], tuple[int, ...]] = ((), ()),
    head_bias: bool = True,
    lora: LoraConfig | None = None,
) -> Classifier:
    """A classifier on a decoder, which becomes its own: training changes it."""
    config = ClassifierConfig(
        labels=labels,
        read=read,
        causal_mask=causal_mask,
        max_length=decoder.config.n_positions,
        truncate="tail",
        train_blocks=train_blocks if lora is None else "lora",
        lora=lora,
        end_of_text_id=decoder.config.vocab_size - 1,
        prefix_ids=frame[0],
        suffix_ids=frame[1],
        backbone="miniature",
        head_bias=head_bias,
    )
    return Classifier(decoder, config, seed)


def plain_settings(**changes: Any) -> Settings:
    """A small training of one block with nothing extra; every setting of the loop is fixed, whatever recipes say."""
    loop: dict[str, Any] = {
        "train_blocks": "1",
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "schedule": "constant",
        "warmup_fraction": 0.0,
        "weight_decay": 0.1,
        "clip_norm": 0.0,
        "drop_last": False,
        "eval_every": 0,
        "eval_batches": 0,
        "keep": "last",
        "metric": "loss",
        "patience": 0,
        "seed": 123,
    }
    return resolve("default", loop, changes)


def labels_of(encoded: Encoded, n_labels: int = 2, seed: int = 3) -> NDArray[np.int64]:
    """Label ids [N] that can be learned: whether the last token's id is low or high, with every eighth at random."""
    last = encoded.token_ids[encoded.offsets[1:] - 1].astype(np.int64)
    label_ids = last * n_labels // N_SMALL_TOKENS % n_labels
    noise = np.random.default_rng(seed).integers(0, n_labels, len(label_ids))
    return np.where(np.arange(len(label_ids)) % 8 == 0, noise, label_ids)


def write_messages(path: Path, texts: Sequence[str], labels: Sequence[str]) -> Path:
    """Write a CSV file with the columns text and label, and return its path."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(texts, labels, strict=True)])
    return path


@dataclass(frozen=True)
class Answer:
    """What a command of the command line left: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str


def run_cli(*arguments: object, stdin: bytes = b"") -> Answer:
    """Run `lasttoken` with these arguments, in this process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
    with (
        patch.object(sys, "argv", ["lasttoken", *map(str, arguments)]),
        patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8")),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
    return Answer(code, *(_written(stream) for stream in (out, err)))


def _written(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def blank_figure(name: str, draw: object, folder: Path) -> str:
    """In place of `write_figure` where a test is not about figures: the files, with nothing drawn."""
    for suffix in ("pdf", "svg"):
        write_text(folder / f"{name}.{suffix}", "<svg/>")
    return "<svg/>"


def trainer_of(
    settings: Settings,
    hooks: Hooks | None = None,
    *,
    n_train: int = 22,
    n_validation: int = 18,
    checkpoint_every_s: float = 0.0,
    evaluates: bool = True,
) -> Trainer:
    """A small training, ready to run; its features are kept in memory."""
    lora = LoraConfig(2, 4.0, 1, ("qkv", "up")) if settings.train_blocks == "lora" else None
    gpt = random_gpt(n_embd=16, n_layer=2)
    head = classifier_of(gpt, train_blocks=settings.train_blocks, seed=settings.seed, lora=lora)
    trunk = TrunkPass(head, CPU, cache=None, say=print)
    splits = {}
    for seed, (name, n) in enumerate({"train": n_train, "validation": n_validation, "test": 10}.items()):
        encoded = random_encoded(n, seed=seed)
        splits[name] = SplitFeatures(trunk.source(encoded, name), labels_of(encoded))
    return Trainer(head, TrainingInputs(splits, settings, CPU), hooks, checkpoint_every_s, evaluates=evaluates)


def weights_of(trainer: Trainer) -> dict[str, Tensor]:
    """A copy of all of a classifier's weights."""
    return {name: tensor.detach().clone() for name, tensor in trainer.classifier.state_dict().items()}
