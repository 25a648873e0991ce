"""What benchmarks compare is comparable: the same rows, an interval of scipy's, no training twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from backbones import Ledger
from miniature import classifier_of, random_encoded, random_gpt
from rows import DataSet, Training, View, paired_interval
from scipy.stats import bootstrap

from lasttoken.core.device import CPU
from lasttoken.training.features import TrunkPass
from lasttoken.training.split_features import tail_logits


def test_a_view_is_a_source_of_its_rows() -> None:
    classifier, encoded = classifier_of(random_gpt()), random_encoded(9)
    source = TrunkPass(classifier, CPU, cache=None, say=print).source(encoded, "all")
    view = View(source, np.array([7, 0, 3]))
    assert view.encoded.token_ids.tolist() == encoded.ids_of([7, 0, 3]).tolist()
    assert view.encoded.ids_of([2]).tolist() == encoded.ids_of([3]).tolist()
    assert torch.equal(view.batch([2, 0])[0], source.batch([3, 7])[0])
    found, whole = tail_logits(classifier, view, CPU), tail_logits(classifier, source, CPU)
    np.testing.assert_allclose(found, whole[[7, 0, 3]], atol=1e-5)


def test_few_rows_of_each_label_are_drawn_by_the_seed_and_test_stays() -> None:
    data = DataSet("demo")
    whole, few = data.split(3), data.few(3, 5)
    assert few["test"].tolist() == whole["test"].tolist()
    for name in ("train", "validation"):
        assert set(few[name]) <= set(whole[name])
        assert np.bincount(data.label_ids[few[name]]).tolist() == [5, 5]
        assert data.few(3, 5)[name].tolist() == few[name].tolist()
        assert data.few(3, 10_000)[name].tolist() == sorted(whole[name])
    assert set(data.few(4, 5)["train"]) != set(few["train"])


def test_the_paired_interval_is_scipys() -> None:
    random = np.random.default_rng(5)
    ours, theirs = (random.random(300) < 0.9).astype(int), (random.random(300) < 0.8).astype(int)
    lines = [{"test_rows": list(range(300)), "correct": correct.tolist()} for correct in (ours, theirs)]
    mean, low, high = paired_interval(lines[:1], lines[1:])
    truth = bootstrap((ours - theirs,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1))
    assert mean == pytest.approx((ours - theirs).mean())
    assert (low, high) == pytest.approx(tuple(truth.confidence_interval), abs=0.005)


def counting(asked: list[str], name: str) -> Callable[[], Training]:
    """A training that says it was done."""
    return lambda: asked.append(name) or {"accuracy": 0.5, "trunk_s": 0.0, "tail_s": 0.0}  # type: ignore[func-returns-value]


def test_a_killed_benchmark_repeats_only_the_training_it_was_killed_in(tmp_path: Path) -> None:
    path, asked = tmp_path / "trials.jsonl", list[str]()
    for seed in (0, 1):
        Ledger(path).get(("new", "demo", 0, seed), ["weights", "rows"], counting(asked, f"seed {seed}"))
    path.write_bytes(path.read_bytes()[:-10])
    ledger = Ledger(path)
    for seed in (0, 1):
        ledger.get(("new", "demo", 0, seed), ["weights", "rows"], counting(asked, f"seed {seed} again"))
    assert asked == ["seed 0", "seed 1", "seed 1 again"]
    assert [json.loads(line)["seed"] for line in path.read_text().splitlines()] == [0, 1]


def test_a_training_of_other_weights_is_not_taken_for_this_one(tmp_path: Path) -> None:
    path, asked = tmp_path / "trials.jsonl", list[str]()
    Ledger(path).get(("new", "demo", 0, 0), ["weights"], counting(asked, "first"))
    with pytest.raises(SystemExit, match="made of other weights, settings or rows"):
        Ledger(path).get(("new", "demo", 0, 0), ["others"], counting(asked, "second"))
    assert asked == ["first"]
