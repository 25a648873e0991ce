"""Each of the 19 rows of chapter 6's table against a plain rewrite of its script, on a miniature: equal at every step.

The row's settings drive our training, its script options drive the rewrite (tests/book_script.py), and neither knows of
the other. All weights are float64, so losses of batches agree to 1e-9. Evaluations are made of logits in float32.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from book_script import Script, Shape, build_model, parse_options
from miniature import N_SMALL_TOKENS, messages, random_gpt, small_tokenizer, write_backbone
from torch import Tensor

from lasttoken.core.book_rows import BOOK_ROWS, BookRow
from lasttoken.core.config import Settings
from lasttoken.core.device import CPU
from lasttoken.core.progress import Reporter
from lasttoken.core.resolve import resolve
from lasttoken.data.files import Examples
from lasttoken.data.splitting.splits import Splits
from lasttoken.runs.session import open_backbone
from lasttoken.training.accumulation import MicroBatch
from lasttoken.training.features import TrunkPass
from lasttoken.training.loop import Trainer, TrainingInputs
from lasttoken.training.prepare import features_of, prepare
from lasttoken.training.split_features import SplitFeatures

N_EPOCHS, LEARNING_RATE, EVAL_EVERY = 2, 1e-3, 5
SIZES = {"train": 45, "validation": 43, "test": 12}  # 5 batches of 8 and 5 rows over; 40 rows are evaluated
SHAPES = {  # by the ends of names: each size of the chapter has a shape of its own
    "gpt2": Shape(N_SMALL_TOKENS, 56, width=24, n_layer=3, n_head=3),
    "gpt2-medium": Shape(N_SMALL_TOKENS, 48, width=32, n_layer=4, n_head=2),
    "gpt2-large": Shape(N_SMALL_TOKENS, 48, width=20, n_layer=2, n_head=4),
    "gpt2-xl": Shape(N_SMALL_TOKENS, 52, width=16, n_layer=5, n_head=2),
}


class RecordingTrainer(Trainer):
    """Records the loss of every batch."""

    losses: list[float]

    def _step(self, batch: MicroBatch) -> None:
        before = self.state.loss_sum
        super()._step(batch)
        self.losses = [*getattr(self, "losses", []), (self.state.loss_sum - before) / len(batch.rows)]


def data() -> Splits:
    """Messages of different lengths; a third of the labels is wrong, so that there is something to learn for long."""
    texts, labels = messages(sum(SIZES.values()))
    texts = [text if at % 4 else text[: 5 + at % 17] for at, text in enumerate(texts)]
    labels = ["ham" if at % 3 == 0 else label for at, label in enumerate(labels)]
    ends = np.cumsum([0, *SIZES.values()])
    parts = [Examples(texts[first:end], labels[first:end], source="messages") for first, end in pairwise(ends)]
    train, validation, test = parts
    return Splits(train, validation, test)


def settings_of(row: BookRow, folder: Path, shape: Shape) -> Settings:
    """The settings of a row in miniature: another backbone, and its own context length."""
    miniature = {"backbone": str(folder), "epochs": N_EPOCHS, "learning_rate": LEARNING_RATE, "eval_every": EVAL_EVERY}
    if "max_length" in row.settings:
        miniature["max_length"] = shape.n_positions
    return resolve("book", row.settings, miniature)


def train_ours(settings: Settings, splits: Splits) -> tuple[RecordingTrainer, dict[str, SplitFeatures], list[str]]:
    """The training of a row, when it is done."""
    notes: list[str] = []
    backbone = open_backbone(settings)
    backbone = replace(backbone, decoder=backbone.decoder.double())
    prepared = prepare(splits, backbone, settings, CPU, notes.append)
    trunk = TrunkPass(prepared.classifier, CPU, cache=None, say=pytest.fail)
    features = features_of(prepared, trunk, Reporter(), {})
    trainer = RecordingTrainer(prepared.classifier, TrainingInputs(features, settings, CPU))
    trainer.run()
    return trainer, features, notes


def train_script(row: BookRow, splits: Splits, shape: Shape, pretrained: dict[str, Tensor]) -> Script:
    """The script's training of a row, when it is done."""
    options, tokenizer = parse_options(row.script), small_tokenizer()
    encoded = {
        name: [
            (tokenizer.encode(text), int(label == "spam"))
            for text, label in zip(part.texts, part.labels or [], strict=True)
        ]
        for name, part in splits.named().items()
    }
    with torch.random.fork_rng(devices=[]):
        model = build_model(options, shape, pretrained)
        script = Script(options, model, encoded, pad_id=N_SMALL_TOKENS - 1)
        script.run(N_EPOCHS, LEARNING_RATE, EVAL_EVERY)
    return script


@pytest.mark.parametrize("row", BOOK_ROWS, ids=lambda row: f"row {row.number}: {row.change}")
def test_a_row_trains_as_the_script_trains_it(row: BookRow, tmp_path: Path) -> None:
    shape, splits = SHAPES[row.backbone], data()
    gpt = random_gpt(n_positions=shape.n_positions, n_embd=shape.width, n_layer=shape.n_layer, n_head=shape.n_head)
    pretrained = {name: tensor.clone() for name, tensor in gpt.state_dict().items()}
    settings = settings_of(row, write_backbone(tmp_path / "backbone", gpt), shape)
    script = train_script(row, splits, shape, pretrained)
    trainer, features, notes = train_ours(settings, splits)

    assert len(trainer.losses) == N_EPOCHS * (SIZES["train"] // settings.n_in_batch)
    assert trainer.losses == pytest.approx(script.losses, rel=0, abs=1e-9)
    assert max(trainer.losses) - min(trainer.losses) > 0.05, "a training that does not move compares nothing"
    lines = trainer.state.history[1:]  # the notebook evaluates before the first step, the script does not
    for line, expected in zip(lines, script.evaluations, strict=True):
        assert {name: line[name] for name in expected} == pytest.approx(expected, abs=1e-6), line
    with torch.no_grad():
        logits = torch.cat([script.logits(ids) for ids, _ in script.loaders["test"]])
    np.testing.assert_allclose(trainer.logits(features["test"].source), logits.numpy(), atol=1e-5)
    assert any("changes nothing" in note for note in notes) == (row.number == 18)
