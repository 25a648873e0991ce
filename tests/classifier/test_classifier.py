"""The classifier: what trains, how the head starts, and that a text's logits are its own."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from miniature import N_SMALL_TOKENS, classifier_of, random_gpt, small_tokenizer
from torch import Tensor, nn

from lasttoken.backbone.packing import Packing
from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.encoding import Encoded
from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import SettingsError

N_LAYER = 3
BLOCK = (
    "ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight", "attn.c_proj.bias",
    "ln_2.weight", "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias",
)  # fmt: skip
HEAD = {"head.weight", "head.bias"}
READINGS = list(product(("last", "first", "mean", "last+mean"), (True, False)))

texts = st.lists(st.lists(st.integers(0, N_SMALL_TOKENS - 1), min_size=1, max_size=32), min_size=1, max_size=9)


def blocks_from(first: int) -> set[str]:
    return {f"gpt.h.{layer}.{name}" for layer in range(first, N_LAYER) for name in BLOCK}


@pytest.mark.parametrize(
    ("train_blocks", "expected"),
    [
        ("head", HEAD),
        ("1", HEAD | blocks_from(2) | {"gpt.ln_f.weight", "gpt.ln_f.bias"}),
        ("2", HEAD | blocks_from(1) | {"gpt.ln_f.weight", "gpt.ln_f.bias"}),
        ("3", HEAD | blocks_from(0) | {"gpt.ln_f.weight", "gpt.ln_f.bias"}),
        (
            "all",
            HEAD | blocks_from(0) | {"gpt.ln_f.weight", "gpt.ln_f.bias", "gpt.wte.weight", "gpt.wpe.weight"},
        ),
    ],
)
@pytest.mark.parametrize("tied", [True, False])
def test_what_trains(train_blocks: str, expected: set[str], tied: bool) -> None:
    classifier = classifier_of(random_gpt(n_layer=N_LAYER, tied=tied), train_blocks=train_blocks)
    assert set(classifier.trained()) == expected
    everything = {name for name, _ in classifier.named_parameters()}
    assert set(classifier.trunk_tensors()) == everything - expected
    assert {f"gpt.{name}" for name in classifier.frozen_tensors()} == everything - expected - {"gpt.lm_head.weight"}
    assert all(p.requires_grad == (name in expected) for name, p in classifier.named_parameters())


@pytest.mark.parametrize("train_blocks", ["head", "1", "all"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_twin_with_a_tail_of_its_own_leaves_the_decoder_alone(train_blocks: str, tied: bool) -> None:
    """Its trunk is in the same memory; a change of anything behind it is not seen by the decoder it was made from."""
    decoder = random_gpt(n_layer=N_LAYER, tied=tied)
    before = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    twin = classifier_of(decoder.twin(), train_blocks=train_blocks)
    twin.own_tail()
    frozen = {f"gpt.{name}" for name in twin.frozen_tensors()}
    original = dict(decoder.named_parameters())
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if name in frozen:
                assert parameter.data_ptr() == original[name.removeprefix("gpt.")].data_ptr()
            else:
                parameter.add_(1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in decoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in decoder.parameters())


@pytest.mark.parametrize("train_blocks", ["head", "1", "2", "3", "all"])
def test_a_step_reaches_every_trained_tensor_and_no_other(train_blocks: str) -> None:
    classifier = classifier_of(random_gpt(n_layer=N_LAYER), train_blocks=train_blocks, read="mean")
    token_ids = torch.arange(20)
    classifier(token_ids, Packing([12, 8])).square().sum().backward()
    touched = {name for name, p in classifier.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == set(classifier.trained())


def test_the_head_is_torchs_linear_layer_after_manual_seed_and_torchs_generator_stays_where_it_was() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(123)
        expected = nn.Linear(32, 3)
    gpt = random_gpt()
    before = torch.random.get_rng_state()
    classifier = classifier_of(gpt, labels=("a", "b", "c"), seed=123)
    assert torch.equal(classifier.head.weight, expected.weight)
    assert torch.equal(classifier.head.bias, expected.bias)
    assert torch.equal(torch.random.get_rng_state(), before)
    without = classifier_of(gpt, labels=("a", "b", "c"), seed=123, head_bias=False)
    assert torch.equal(without.head.weight, expected.weight)
    assert without.trained().keys() == classifier.trained().keys() - {"head.bias"}


@torch.no_grad()
def alone(classifier: Classifier, text: list[int]) -> Tensor:
    return classifier(torch.tensor(text), Packing([len(text)]))[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(("read", "causal"), READINGS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
@given(batch=texts)
@settings(max_examples=15, deadline=None)
def test_a_texts_logits_do_not_depend_on_what_it_is_batched_with(
    read: str, causal: bool, dtype: torch.dtype, tolerance: float, batch: list[list[int]]
) -> None:
    """A batch of different lengths is padded on the right inside; a text by itself is not padded at all."""
    classifier = classifier_of(random_gpt(n_layer=2, dtype=dtype), read=read, causal_mask=causal)
    packed = torch.tensor([token_id for text in batch for token_id in text])
    with torch.no_grad():
        together = classifier(packed, Packing([len(text) for text in batch]))
    assert together.dtype == dtype
    for logits, text in zip(together, batch, strict=True):
        torch.testing.assert_close(logits, alone(classifier, text), rtol=0, atol=tolerance)


@given(batch=texts, seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_predictions_come_in_the_order_asked_whatever_the_batches(batch: list[list[int]], seed: int) -> None:
    """`Predictor` sorts by length and packs to a budget; many copies make several batches of it."""
    many = [batch[at] for at in np.random.default_rng(seed).integers(0, len(batch), 60)]
    predictor = Predictor(classifier_of(random_gpt(n_layer=2)), small_tokenizer())
    encoded = Encoded(
        np.array([token_id for text in many for token_id in text], dtype=np.int32),
        np.array([len(text) for text in many]),
        np.zeros(len(many), dtype=np.bool_),
        0,
    )
    expected = torch.stack([alone(predictor.classifier, text) for text in many])
    torch.testing.assert_close(torch.from_numpy(predictor.logits(encoded)), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("read", "causal"), [*READINGS, ("padded-last", True), ("padded-mean", True)])
def test_where_the_trunk_ends_does_not_change_the_logits(read: str, causal: bool) -> None:
    lengths = [9] * 3 if read.startswith("padded") else [9, 1, 5]
    token_ids, packing = torch.arange(sum(lengths)) * 7 % N_SMALL_TOKENS, Packing(lengths)
    found = []
    for train_blocks in ("all", "3", "2", "1", "head"):
        gpt = random_gpt(n_layer=N_LAYER, dtype=torch.float64)
        classifier = classifier_of(gpt, read=read, causal_mask=causal, train_blocks=train_blocks)
        features = classifier.trunk(token_ids, packing)
        n_rows = len(lengths) if train_blocks == "head" else sum(lengths)
        width = 2 * gpt.config.n_embd if (train_blocks, read) == ("head", "last+mean") else gpt.config.n_embd
        assert features.shape == ((n_rows,) if train_blocks == "all" else (n_rows, width))
        found.append(classifier.tail(features, packing).detach())
    for logits in found[1:]:
        torch.testing.assert_close(logits, found[0], rtol=0, atol=1e-12)


def test_the_readings_and_the_mask_are_different_classifiers() -> None:
    text = list(range(12))
    found = [alone(classifier_of(random_gpt(), read=read, causal_mask=causal), text) for read, causal in READINGS]
    for at, one in enumerate(found):
        for other in found[at + 1 :]:
            assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("read", ["first", "last"])
def test_under_the_mask_the_first_token_sees_itself_only_and_the_last_sees_all(read: str) -> None:
    classifier = classifier_of(random_gpt(), read=read)
    one, other = alone(classifier, [5, 6, 7, 8]), alone(classifier, [5, 9, 7, 8])
    assert torch.equal(one, other) == (read == "first")


def test_more_blocks_than_there_are_is_rejected() -> None:
    with pytest.raises(SettingsError, match=r"--train-blocks is 4, but the classifier has 3 blocks; use 3 or all"):
        classifier_of(random_gpt(n_layer=3), train_blocks="4")


def test_longer_texts_than_positions_are_rejected() -> None:
    config = classifier_of(random_gpt(n_positions=16)).config
    with pytest.raises(SettingsError, match="--max-length is 16, but the backbone has 8 positions; use that or less"):
        Classifier(random_gpt(n_positions=8), config, 1)
