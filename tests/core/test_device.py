"""Batches side by side: the same bits for any number of threads, in order, and nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from miniature import classifier_of, random_encoded, random_gpt, small_tokenizer

from lasttoken.classifier.encoding import Encoded
from lasttoken.classifier.explain import explain
from lasttoken.classifier.predict import Predictor
from lasttoken.core.device import CPU, cpu_has_bfloat16, free_memory_bytes, side_by_side
from lasttoken.core.machine import memory_bytes
from lasttoken.training.features import TrunkPass
from lasttoken.training.split_features import tail_logits


@pytest.fixture(params=[1, 2, 3])
def n_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_bfloat16_instructions_are_those_that_torch_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, expected in (
        ({"avx2": True, "amx_bf16": True}, True),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({}, True),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda value=capabilities: value, raising=False)
        assert cpu_has_bfloat16() == expected
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert cpu_has_bfloat16()


def test_the_free_memory_is_no_more_than_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < free_memory_bytes(CPU) <= memory_bytes()
    monkeypatch.setattr("lasttoken.core.device.free_bytes", lambda: None)
    assert free_memory_bytes(CPU) == memory_bytes()


def test_results_come_in_order_with_their_items(n_threads: int) -> None:
    assert list(side_by_side(lambda n: n * n, range(20))) == [(n, n * n) for n in range(20)]
    assert torch.get_num_threads() == n_threads


def test_each_item_is_computed_by_one_thread_when_there_are_several(n_threads: int) -> None:
    seen = {torch_threads for _, torch_threads in side_by_side(lambda _: torch.get_num_threads(), range(8))}
    assert seen == {1}
    assert [result for _, result in side_by_side(lambda _: torch.get_num_threads(), [0])] == [n_threads]


def test_items_are_taken_as_they_are_needed(n_threads: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    results = side_by_side(lambda item: item, items())
    assert next(results) == (0, 0)
    assert len(taken) <= 2 * n_threads + 2
    results.close()  # type: ignore[attr-defined]


def test_a_failure_is_raised_and_no_thread_is_left(n_threads: int) -> None:
    def compute(item: int) -> int:
        if item == 3:
            raise ValueError("item 3")
        return item

    before = threading.active_count()
    with pytest.raises(ValueError, match="item 3"):
        list(side_by_side(compute, range(50)))
    assert threading.active_count() == before
    assert torch.get_num_threads() == n_threads


def _encoded() -> Encoded:
    return random_encoded(300, seed=3)


def test_features_logits_and_explanations_are_the_same_bits_for_any_number_of_threads() -> None:
    found = []
    before = torch.get_num_threads()
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        classifier = classifier_of(random_gpt(), train_blocks="1")
        encoded = _encoded()
        source = TrunkPass(classifier, CPU, cache=None, say=lambda sentence: None).source(encoded, "train")
        features, _ = source.batch(range(len(encoded)))
        predictor = Predictor(classifier, small_tokenizer())
        values = [
            word.value for word in explain(predictor, "the thin thing in the inn", method="integrated-gradients").words
        ]
        found.append((features.numpy(), tail_logits(classifier, source, CPU), predictor.logits(encoded), values))
    torch.set_num_threads(before)
    for other_features, tail, logits, values in found[1:]:
        np.testing.assert_array_equal(other_features, found[0][0])
        np.testing.assert_array_equal(tail, found[0][1])
        np.testing.assert_array_equal(logits, found[0][2])
        assert values == found[0][3]
