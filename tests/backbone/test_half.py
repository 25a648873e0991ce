"""Weights in 16 bits: whatever is computed with them is what their float32 copies give, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniature import (
    classifier_of,
    labels_of,
    plain_settings,
    published_tensors,
    random_encoded,
    random_gpt,
    small_tokenizer,
    write_backbone,
)
from safetensors import safe_open
from torch import Tensor

from lasttoken.backbone import pretrained
from lasttoken.backbone.half import Embedding, as_stored, to_float32
from lasttoken.backbone.linear import Linear
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.classifier import classifier as classifier_module
from lasttoken.classifier.checkpoint import load_classifier, save_classifier
from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.explain import explain
from lasttoken.classifier.predict import Predictor
from lasttoken.core.device import CPU, Device
from lasttoken.serving.models import own_memory, trunk_digest
from lasttoken.training.features import TrunkPass, trunk_hash
from lasttoken.training.loop import Trainer, TrainingInputs
from lasttoken.training.split_features import SplitFeatures

DTYPES = [torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def miniatures_count_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small weights are converted when they are read, see the last test."""
    monkeypatch.setattr(pretrained, "SMALL_BYTES", 0)


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def folder(dtype: torch.dtype, tmp_path: Path) -> Path:
    gpt = random_gpt()
    tensors = {name: tensor.to(dtype) for name, tensor in published_tensors(gpt).items()}
    return write_backbone(tmp_path / "backbone", gpt, tensors=tensors)


def pair_of(folder: Path, **options: Any) -> tuple[Classifier, Classifier]:
    """A classifier on the mapped weights, and one on float32 copies of them."""
    decoders = (load_backbone(str(folder)).decoder, load_backbone(str(folder)).decoder.float())
    return classifier_of(decoders[0], **options), classifier_of(decoders[1], **options)


def dtypes_of(tensors: dict[str, Tensor]) -> set[torch.dtype]:
    return {tensor.dtype for tensor in tensors.values() if tensor.dim() > 1}


@pytest.mark.parametrize("packs", [True, False], ids=["packed", "converted"])
@pytest.mark.parametrize("train_blocks", ["head", "1", "all"])
def test_a_training_is_the_same(
    folder: Path, train_blocks: str, packs: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not packs:
        monkeypatch.setattr(Classifier, "pack_trunk", lambda self: None)
    settings = plain_settings(train_blocks=train_blocks)
    trained = []
    for classifier in pair_of(folder, train_blocks=train_blocks, seed=settings.seed):
        trunk = TrunkPass(classifier, CPU, cache=None, say=pytest.fail)
        splits = {}
        for seed, name in enumerate(("train", "validation")):
            encoded = random_encoded(20, seed=seed)
            splits[name] = SplitFeatures(trunk.source(encoded, name), labels_of(encoded))
        trainer = Trainer(classifier, TrainingInputs(splits, settings, CPU))
        trainer.run()
        trained.append((classifier, trainer.logits(splits["validation"].source)))
    (mapped, logits), (float32, expected) = trained
    assert np.array_equal(logits, expected)
    assert all(torch.equal(mapped.trained()[name], weight) for name, weight in float32.trained().items())
    assert dtypes_of(dict(mapped.trained())) == {torch.float32}, "what trains is a float32 copy"
    assert dtypes_of(mapped.trunk_tensors()) == ({dtype} if train_blocks != "all" else set()), "and nothing else is"


def test_a_saved_classifier_keeps_the_format_of_what_was_frozen(
    folder: Path, dtype: torch.dtype, tmp_path: Path
) -> None:
    classifier, run = pair_of(folder)[0], tmp_path / "run"
    run.mkdir()
    save_classifier(run, classifier, small_tokenizer())
    with safe_open(run / "model.safetensors", "pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert {name: tensor.dtype for name, tensor in stored.items() if "c_fc.weight" in name} == {
        "transformer.h.0.mlp.c_fc.weight": dtype,
        "transformer.h.1.mlp.c_fc.weight": dtype,
        "transformer.h.2.mlp.c_fc.weight": torch.float32,
    }
    loaded = load_classifier(run)[0]
    assert trunk_hash(loaded.requires_grad_(False)) == trunk_hash(classifier.requires_grad_(False))
    encoded = random_encoded(9)
    ours, theirs = (Predictor(each, small_tokenizer()).logits(encoded) for each in (loaded, classifier))
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
def test_other_number_formats_compute_the_same(folder: Path, precision: str) -> None:
    device = Device(torch.device("cpu"), precision)
    ours, theirs = (Predictor(classifier, small_tokenizer(), device) for classifier in pair_of(folder))
    assert np.array_equal(ours.logits(random_encoded(9)), theirs.logits(random_encoded(9)))


def test_an_explanation_by_gradients_is_the_same(folder: Path) -> None:
    text = "in the end the thing"
    scores = []
    for classifier in pair_of(folder):
        predictor = Predictor(classifier.requires_grad_(False).eval(), small_tokenizer())
        scores.append([word.value for word in explain(predictor, text, method="integrated-gradients").words])
    assert scores[0] == scores[1]


def test_a_large_trunk_is_explained_without_gradients(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(pair_of(folder)[0].requires_grad_(False).eval(), small_tokenizer())
    assert explain(predictor, "in the end").method == "integrated-gradients"
    monkeypatch.setattr(classifier_module, "PACKED_FROM_HALF_BYTES", 0)
    assert explain(predictor, "in the end").method == "occlusion"


def test_a_server_tells_trunks_apart_and_copies_them_as_they_are(folder: Path, dtype: torch.dtype) -> None:
    mapped, float32 = (Predictor(classifier, small_tokenizer()) for classifier in pair_of(folder))
    other = Predictor(pair_of(folder, seed=5)[0], small_tokenizer())
    assert trunk_digest(mapped) == trunk_digest(other)
    assert trunk_digest(mapped) != trunk_digest(float32), "their sums may be rounded in another order"
    before = mapped.logits(random_encoded(9))
    own_memory(mapped.classifier, set())
    assert dtypes_of(mapped.classifier.frozen_tensors()) == {dtype}
    assert np.array_equal(mapped.logits(random_encoded(9)), before)


def test_a_large_trunk_is_converted_in_larger_batches_and_a_small_one_is_packed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = (pair_of(folder)[0] for _ in range(2))
    layers = [module for module in small.decoder.blocks[0].modules() if isinstance(module, Linear)]
    if not layers[0].can_pack:
        pytest.skip("needs oneDNN's packed weights, which this build of torch lacks")
    assert small.token_budget(CPU) > CPU.token_budget
    small.pack_trunk()
    assert all(layer.packed is not None for layer in layers)
    assert small.token_budget(CPU) == CPU.token_budget
    monkeypatch.setattr(classifier_module, "PACKED_FROM_HALF_BYTES", 0)
    large.pack_trunk()
    assert not any(getattr(module, "packed", None) is not None for module in large.modules())
    assert large.token_budget(CPU) > CPU.token_budget
    assert pair_of(folder)[1].token_budget(CPU) == CPU.token_budget


def test_gradients_through_a_frozen_layer_keep_no_float32_copy(dtype: torch.dtype) -> None:
    layer = Linear(24, 40)
    layer.weight.data = layer.weight.data.to(dtype)
    layer.requires_grad_(False)
    x = torch.randn(5, 24, requires_grad=True)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = layer(x)
    assert [tensor.dtype for tensor in kept if tensor.numel() >= 24 * 40] == [dtype]
    (grad,) = torch.autograd.grad(y.sum(), x)
    reference = x.detach().requires_grad_()
    (expected,) = torch.autograd.grad(
        torch.nn.functional.linear(reference, layer.weight.float(), layer.bias).sum(), reference
    )
    torch.testing.assert_close(grad, expected)


def test_what_is_stored_and_what_is_computed(dtype: torch.dtype) -> None:
    matrix, vector = torch.randn(3, 4).to(dtype), torch.randn(4).to(dtype)
    assert as_stored(matrix) is matrix
    assert as_stored(vector).dtype == as_stored(torch.randn(3, 4).double()).dtype == torch.float32
    assert as_stored(torch.tensor([1, 2])).dtype == torch.int64
    assert torch.equal(to_float32(matrix.t()), matrix.float().t())
    assert to_float32(matrix.t()).stride() == matrix.t().stride()
    table = Embedding(3, 4)
    table.weight.data = matrix
    assert torch.equal(table(torch.tensor([2, 0])), matrix.float()[[2, 0]])


def test_small_weights_are_converted_when_they_are_read(
    dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    gpt = random_gpt()
    tensors = {name: tensor.to(dtype) for name, tensor in published_tensors(gpt).items()}
    folder = write_backbone(tmp_path, gpt, tensors=tensors)
    decoder = load_backbone(str(folder)).decoder
    assert {tensor.dtype for tensor in decoder.state_dict().values()} == {torch.float32}
