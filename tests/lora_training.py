"""Two trainings with LoRA that tests compare: the project's loop on features, and one written out with torch's parts.

losses_of(classifier, …)         our loop: the loss of every step
train_plainly(classifier, bare)  all blocks over all tokens at every step, on weights W + s·B·A, by autograd
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from miniature import labels_of, plain_settings, random_encoded
from torch import Tensor
from torch.func import functional_call

from lasttoken.classifier.classifier import Classifier
from lasttoken.core.config import Settings
from lasttoken.core.device import CPU
from lasttoken.training.features import LiveFeatures, TrunkPass
from lasttoken.training.loop import Hooks, State, Trainer, TrainingInputs
from lasttoken.training.order import Order, batches
from lasttoken.training.split_features import SplitFeatures

RATE = 1e-2


def settings_of(**changes: Any) -> Settings:
    """A few steps with LoRA."""
    return plain_settings(**{"train_blocks": "lora", "learning_rate": RATE, **changes})


def losses_of(classifier: Classifier, settings: Settings, live: bool = False) -> list[float]:
    """Train on 15 random texts; the loss of every step."""
    losses: list[float] = []
    before = {"loss": 0.0, "examples": 0}

    def on_step(state: State) -> None:
        losses.append((state.loss_sum - before["loss"]) / (state.loss_examples - before["examples"]))
        before.update(loss=state.loss_sum, examples=state.loss_examples)

    trunk, splits = TrunkPass(classifier, CPU, cache=None, say=pytest.fail), {}
    for seed, (name, n) in enumerate({"train": 15, "validation": 5}.items()):
        encoded = random_encoded(n, seed=seed)
        source = LiveFeatures(encoded, classifier, CPU) if live else trunk.source(encoded, name)
        splits[name] = SplitFeatures(source, labels_of(encoded, len(classifier.config.labels)))
    hooks = Hooks(on_line=lambda line: before.update(loss=0.0, examples=0), on_step=on_step)
    Trainer(classifier, TrainingInputs(splits, settings, CPU), hooks).run()
    return losses


def train_plainly(start: Classifier, bare: Classifier, settings: Settings) -> tuple[list[float], dict[str, Tensor]]:
    """The same training of `start`, which does not change; `bare` is a classifier without updates. Also its weights."""
    own = {name: parameter.detach().clone() for name, parameter in start.named_parameters()}
    trained = [own[name].requires_grad_() for name in start.trained()]
    updates: list[tuple[str, str, Any]] = []  # prefix of A and B, name of the weight, the update
    for name, module in start.named_modules():
        if name.endswith(".low_rank"):
            updates.append((name, f"{name.removesuffix('.low_rank')}.weight", module))
        elif name == "head_update":
            updates.append((name, "head.weight", module))

    def weights() -> dict[str, Tensor]:
        merged = {name: each for name, each in own.items() if "lora_" not in name}
        for prefix, name, update in updates:
            a, b = (own[f"{prefix}.lora_{letter}"].chunk(update.parts) for letter in "AB")
            merged[name] = merged[name] + torch.cat([update.scale * q @ p for p, q in zip(a, b, strict=True)])
        return merged

    optimizer = torch.optim.AdamW(trained, RATE, weight_decay=settings.weight_decay, foreach=False)
    encoded, order, losses = random_encoded(15, seed=0), Order(settings.seed), []
    truth = torch.from_numpy(labels_of(encoded, len(start.config.labels)))
    for _ in range(settings.n_epochs):
        for rows in batches(order.shuffled(len(encoded)), settings.n_in_batch):
            logits = functional_call(bare, weights(), encoded.pack(rows, torch.device("cpu")))  # type: ignore[arg-type]
            loss = F.cross_entropy(logits, truth[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
    return losses, {name: each.detach() for name, each in weights().items()}
