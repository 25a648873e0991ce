"""Training on features equals training the usual way: the same losses at every step and the same final weights.

    stored     trunk once, features kept                  }
    live       the trunk runs for every batch             }  our loop, `training/loop.py`
    plain      pad, all blocks over all tokens, read one     a loop written out below, sharing no line with ours

The key bias has no gradient in exact arithmetic (it shifts all of a query's scores alike), so what the plain loop
makes of its rounding noise says nothing, and it is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from miniature import classifier_of, labels_of, plain_settings, random_encoded, random_gpt
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.encoding import Encoded
from lasttoken.core.config import Settings
from lasttoken.core.device import CPU
from lasttoken.training.feature_cache import FeatureCache
from lasttoken.training.features import FeatureSource, LiveFeatures, TrunkPass
from lasttoken.training.loop import Hooks, State, Trainer, TrainingInputs
from lasttoken.training.split_features import SplitFeatures

N_LAYER, N_HEAD, C, SEED = 3, 4, 16, 7
POOLINGS = ("last", "first", "mean", "last+mean", "padded-last", "padded-mean")
CASES = list(product(("head", "1", "2", str(N_LAYER), "all"), POOLINGS, (True, False)))
IDS = [f"{blocks}-{read}-{'causal' if causal else 'whole'}" for blocks, read, causal in CASES]

Losses = list[float]
Weights = dict[str, Tensor]
MakeSource = Callable[[Classifier, Encoded], FeatureSource]


def miniature(blocks: str, read: str, causal: bool, dtype: torch.dtype) -> Classifier:
    gpt = random_gpt(n_embd=C, n_layer=N_LAYER, n_head=N_HEAD, dtype=dtype)
    return classifier_of(gpt, read=read, causal_mask=causal, train_blocks=blocks, seed=SEED, labels=("a", "b", "c"))


def settings_of(blocks: str, read: str) -> Settings:
    return plain_settings(train_blocks=blocks, read=read, seed=SEED)


def stored_in_memory(classifier: Classifier, encoded: Encoded) -> FeatureSource:
    return TrunkPass(classifier, CPU, cache=None, say=pytest.fail).source(encoded, "train")


def live(classifier: Classifier, encoded: Encoded) -> FeatureSource:
    return LiveFeatures(encoded, classifier, CPU)


def train_ours(classifier: Classifier, train: Encoded, settings: Settings, make: MakeSource) -> tuple[Losses, Trainer]:
    """The loss of every step, and the trainer when it is done."""
    losses: Losses = []
    before = {"loss": 0.0, "examples": 0}

    def on_step(state: State) -> None:
        losses.append((state.loss_sum - before["loss"]) / (state.loss_examples - before["examples"]))
        before.update(loss=state.loss_sum, examples=state.loss_examples)

    validation = random_encoded(5, train.longest, uniform=classifier.config.pads, seed=9)
    splits = {
        name: SplitFeatures(make(classifier, encoded), labels_of(encoded, 3))
        for name, encoded in (("train", train), ("validation", validation))
    }
    forget = Hooks(on_line=lambda line: before.update(loss=0.0, examples=0), on_step=on_step)
    trainer = Trainer(classifier, TrainingInputs(splits, settings, CPU), forget)
    trainer.run()
    return losses, trainer


def plain_logits(w: Weights, texts: list[Tensor], read: str, causal: bool) -> Tensor:
    """The classifier over every token of a padded batch, [B, T] -> [B, K], as one would write it first."""
    lengths = torch.tensor([len(text) for text in texts])
    ids = nn.utils.rnn.pad_sequence(texts, batch_first=True)
    n_texts, longest = ids.shape
    is_real = torch.arange(longest) < lengths[:, None]
    may_see = is_real[:, None, None, :]
    if causal:
        may_see = may_see & torch.ones(longest, longest, dtype=torch.bool).tril()

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (C,), w[f"{name}.weight"], w[f"{name}.bias"])

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = w["gpt.wte.weight"][ids] + w["gpt.wpe.weight"][:longest]
    for block in (f"gpt.h.{layer}" for layer in range(N_LAYER)):
        parts = linear(norm(x, f"{block}.ln_1"), f"{block}.attn.c_attn").chunk(3, dim=-1)
        q, k, v = (part.reshape(n_texts, longest, N_HEAD, -1).transpose(1, 2) for part in parts)
        scores = (q @ k.transpose(2, 3) / math.sqrt(C / N_HEAD)).masked_fill(~may_see, -math.inf)
        attended = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n_texts, longest, C)
        x = x + linear(attended, f"{block}.attn.c_proj")
        inner = F.gelu(linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc"), approximate="tanh")
        x = x + linear(inner, f"{block}.mlp.c_proj")
    hidden = norm(x, "gpt.ln_f")
    mean = (hidden * is_real[..., None]).sum(1) / lengths[:, None]
    if read in ("mean", "padded-mean"):  # random_encoded has padded these texts
        one = mean
    elif read == "last+mean":
        one = torch.cat((hidden[torch.arange(n_texts), lengths - 1], mean), dim=1)
    else:
        at = {"last": lengths - 1, "first": lengths * 0, "padded-last": lengths * 0 + longest - 1}[read]
        one = hidden[torch.arange(n_texts), at]
    return linear(one, "head")


def train_plainly(classifier: Classifier, train: Encoded, settings: Settings) -> tuple[Losses, Weights]:
    """The same training with torch's own parts: DataLoader, AdamW, no features."""
    config = classifier.config
    weights = {name: parameter.detach().clone() for name, parameter in classifier.named_parameters()}
    trained = [weights[name].requires_grad_() for name in classifier.trained()]
    texts = [torch.from_numpy(ids) for ids in np.split(train.token_ids.astype(np.int64), train.offsets[1:-1])]
    examples = list(zip(texts, labels_of(train, 3).tolist(), strict=True))
    assert settings.learning_rate
    optimizer = torch.optim.AdamW(trained, settings.learning_rate, weight_decay=settings.weight_decay, foreach=False)
    losses = []
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        loader: DataLoader[Any] = DataLoader(
            examples,  # type: ignore[arg-type]
            settings.n_in_batch,
            shuffle=True,
            collate_fn=lambda batch: batch,
        )
        for _ in range(settings.n_epochs):
            for batch in loader:
                batch_texts, batch_labels = zip(*batch, strict=True)
                logits = plain_logits(weights, list(batch_texts), config.read, config.causal_mask)
                loss = F.cross_entropy(logits, torch.tensor(batch_labels))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(loss.item())
    return losses, weights


def without_key_bias(name: str, tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return torch.cat((tensor[:C], tensor[2 * C :])) if name.endswith("c_attn.bias") else tensor


@pytest.mark.parametrize(("blocks", "read", "causal"), CASES, ids=IDS)
def test_double_precision_stored_and_live_equal_the_plain_loop(blocks: str, read: str, causal: bool) -> None:
    settings = settings_of(blocks, read)
    train = random_encoded(15, uniform=read.startswith("padded"))
    start = miniature(blocks, read, causal, torch.float64)
    losses, weights = train_plainly(start, train, settings)
    assert len(losses) == 8
    assert (weights["head.weight"] - start.head.weight).abs().max() > 1e-3, "the training must move"
    for make in (stored_in_memory, live):
        classifier = miniature(blocks, read, causal, torch.float64)
        ours, trainer = train_ours(classifier, train, settings, make)
        assert ours == pytest.approx(losses, rel=0, abs=1e-9)
        for name, parameter in classifier.named_parameters():
            found, expected = without_key_bias(name, parameter), without_key_bias(name, weights[name])
            torch.testing.assert_close(
                found, expected, rtol=0, atol=1e-9 if name in trainer.parameters else 0, msg=name
            )


@pytest.mark.parametrize(("blocks", "read", "causal"), CASES, ids=IDS)
def test_single_precision_losses_agree_at_every_step_within_2e_5(
    blocks: str, read: str, causal: bool, tmp_path: Path
) -> None:
    def stored_on_disk(classifier: Classifier, encoded: Encoded) -> FeatureSource:
        cache = FeatureCache(10**9, tmp_path / "features")
        return TrunkPass(classifier, CPU, cache=cache, say=pytest.fail).source(encoded, "train")

    settings = settings_of(blocks, read)
    train = random_encoded(15, uniform=read.startswith("padded"))
    expected, _ = train_plainly(miniature(blocks, read, causal, torch.float32), train, settings)
    for make in (stored_on_disk, live):
        losses, _ = train_ours(miniature(blocks, read, causal, torch.float32), train, settings, make)
        assert losses == pytest.approx(expected, rel=0, abs=2e-5)


@pytest.mark.parametrize("blocks", ["1", "2", "all"])
@pytest.mark.parametrize("read", ["last", "first", "padded-last"])
def test_the_last_blocks_key_bias_has_a_gradient_of_exactly_zero(blocks: str, read: str) -> None:
    classifier = miniature(blocks, read, True, torch.float32)
    train = random_encoded(15, uniform=read.startswith("padded"))
    _, trainer = train_ours(classifier, train, settings_of(blocks, read), stored_in_memory)
    gradient = trainer.parameters[f"gpt.h.{N_LAYER - 1}.attn.c_attn.bias"].grad
    assert gradient is not None
    query, key, value = gradient.chunk(3)
    assert not key.any()
    assert value.any()
    assert query.any() == (read != "first")  # under the mask the first token sees one token: nothing to weigh
