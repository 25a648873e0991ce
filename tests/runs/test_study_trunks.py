"""What rows share: no block runs twice on a text, and a training equals that of `lasttoken train`, bit for bit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from miniature import random_gpt, write_backbone

from lasttoken.backbone.pretrained import Backbone
from lasttoken.core.config import Settings
from lasttoken.core.progress import Reporter
from lasttoken.core.resolve import resolve
from lasttoken.data.gather import gather_splits
from lasttoken.data.splitting.splits import Splits
from lasttoken.runs.session import open_backbone
from lasttoken.runs.study_training import train_row
from lasttoken.runs.study_trunks import OpenRow, Trunks, in_order
from lasttoken.runs.train import TrainingRequest, train_run

ROWS: dict[str, dict[str, Any]] = {
    "head": {"train_blocks": "head"},
    "one": {"train_blocks": "1"},
    "two": {"train_blocks": "2"},
    "mean": {"train_blocks": "1", "read": "mean"},
    "all": {"train_blocks": "all"},
    "best": {"train_blocks": "2", "keep": "best", "batch_size": 4, "eval_every": 3},
    "as the chapter": {"train_blocks": "1", "eval_batches": 2, "eval_every": 2, "drop_last": True},
    "from a linear head": {"train_blocks": "1", "start_head": "linear"},
    "padded": {"train_blocks": "1", "read": "padded-last"},
    "no mask": {"train_blocks": "1", "causal_mask": False},
    "shallower": {"train_blocks": "1", "depth": "2"},
    "LoRA": {"train_blocks": "lora", "lora_blocks": "1", "lora_rank": 2},
    "LoRA everywhere": {"train_blocks": "lora", "lora_blocks": "all", "lora_rank": 2},
    "accumulated": {"train_blocks": "1", "batch_size": 2, "accumulate": 3},
    "random": {"train_blocks": "1", "random_weights": "book"},
    "in 8 bits": {"train_blocks": "1", "precision": "int8"},
}


@pytest.fixture
def splits(data: Path) -> Splits:
    """As splits of the user's own, because they stay the same for every seed."""
    whole = gather_splits(data, resolve("default", {"seed": 5}), lambda sentence: None)
    return replace(whole, validation_is_cut=False)


def settings_of(backbone: Path, name: str, **changes: Any) -> Settings:
    common = {"backbone": str(backbone), "method": "tail", "epochs": 2, "learning_rate": 1e-3, "seed": 5}
    return resolve("default", common, {"keep": "last"}, ROWS[name], changes)


def open_rows(trunks: Trunks, backbone: Path, names: list[str], **changes: Any) -> list[OpenRow]:
    rows = [trunks.open(settings_of(backbone, name, **changes)) for name in names]
    return [rows[place] for place in in_order(rows)]


@pytest.mark.parametrize("no_cache", [True, False])
def test_each_block_runs_once_on_every_text(
    splits: Splits, backbone: Path, monkeypatch: pytest.MonkeyPatch, no_cache: bool
) -> None:
    """Four rows of one trunk, two seeds: blocks 0 and 1 run once for all, block 2 only for what the head reads."""
    trunks, counts = Trunks(splits, True, Reporter()), Counter[int]()
    blocks = trunks.backbone(settings_of(backbone, "one")).decoder.blocks
    kind = type(blocks[0])
    for number, block in enumerate(blocks):
        block.number = number  # type: ignore[assignment]

    def counted(compute: Any) -> Any:
        def block(self: Any, x: torch.Tensor, *rest: Any) -> torch.Tensor:
            counts[self.number] += len(x)
            return compute(self, x, *rest)  # type: ignore[no-any-return]

        return block

    for name in ("forward", "forward_at"):
        monkeypatch.setattr(kind, name, counted(getattr(kind, name)))
    rows = open_rows(trunks, backbone, ["head", "one", "mean", "two"], no_cache=no_cache)
    assert [row.n_frozen for row in rows] == [1, 2, 2, 3]
    n_tokens = sum(encoded.n_tokens for encoded in rows[0].prepared.encoded.values())
    for place, row in enumerate(rows):
        for seed in (5, 6):
            trunks.session(row, seed)
        trunks.keep_levels(rows[place + 1 :])
    assert counts == {0: n_tokens, 1: n_tokens, 2: n_tokens}
    assert not trunks._levels


@pytest.mark.parametrize("name", ROWS)
def test_a_training_equals_that_of_train(splits: Splits, backbone: Path, name: str) -> None:
    """Weights and metrics are equal, also with another seed than the split's, after a row whose features it uses."""
    trunks = Trunks(splits, True, Reporter())
    rows = open_rows(trunks, backbone, ["two", name])
    for row in rows:
        session, features, _ = trunks.session(row, 6)
        result = train_row(session, features, None, 0.0, "", Reporter())
        if row.asked == settings_of(backbone, name):
            check_equal_to_train(splits, settings_of(backbone, name, seed=6), session, result)


def check_equal_to_train(splits: Splits, settings: Settings, session: Any, result: Any) -> None:
    request = TrainingRequest(data=splits.train, validation=splits.validation, test=splits.test, settings=settings)
    run = train_run(request)
    expected, classifier = run.predictor.classifier.state_dict(), session.prepared.classifier
    if classifier.config.lora is not None:
        classifier.merge()  # as the run does at its end
    for tensor_name, tensor in classifier.state_dict().items():
        torch.testing.assert_close(tensor, expected[tensor_name], rtol=0, atol=1e-6, msg=tensor_name)
    metrics = run.metrics["splits"]["test"]
    assert result.metrics["loss"] == pytest.approx(metrics["loss"], abs=1e-6)
    assert result.metrics["accuracy"] == metrics["accuracy"]
    assert result.losses.mean() == pytest.approx(metrics["loss"], abs=1e-6)
    assert result.values.mean() == pytest.approx(metrics["accuracy"])
    assert result.validation["loss"] == pytest.approx(run.metrics["splits"]["validation"]["loss"], abs=1e-6)
    assert result.kept_step == run.metrics["kept_step"]


def test_a_training_leaves_the_backbone_as_it_was(splits: Splits, backbone: Path) -> None:
    trunks = Trunks(splits, True, Reporter())
    row = trunks.open(settings_of(backbone, "all"))
    before = {name: tensor.clone() for name, tensor in row.backbone.decoder.state_dict().items()}
    train_row(*trunks.session(row, 5)[:2], None, 0.0, "", Reporter())
    assert all(torch.equal(tensor, before[name]) for name, tensor in row.backbone.decoder.state_dict().items())


def test_rows_of_other_trunks_share_nothing(splits: Splits, backbone: Path, tmp_path: Path) -> None:
    """Other weights, another mask, other token ids, another number format."""
    other = write_backbone(tmp_path / "other", random_gpt(n_positions=64, seed=2))
    trunks = Trunks(splits, True, Reporter())
    rows = [trunks.open(settings_of(backbone, name)) for name in ("two", "no mask", "padded", "in 8 bits")]
    rows.append(trunks.open(settings_of(other, "two")))
    assert len({row.family for row in rows}) == len(rows)
    for row in rows:
        assert trunks._deepest_below(row) is None
        trunks.session(row, 5)
    deeper = trunks.open(settings_of(backbone, "one"))
    assert trunks._deepest_below(deeper) is trunks._levels[0]


def test_backbones_are_loaded_once_and_let_go(splits: Splits, backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def counted(settings: Settings, **named: Any) -> Backbone:
        loaded.append(settings.backbone)
        return open_backbone(settings, **named)

    monkeypatch.setattr("lasttoken.runs.study_trunks.open_backbone", counted)
    trunks = Trunks(splits, True, Reporter())
    rows = open_rows(trunks, backbone, ["head", "one", "all"])
    assert loaded == [str(backbone)]
    assert len({id(row.backbone) for row in rows}) == 1
    trunks.keep_backbones([])
    assert not trunks._backbones
