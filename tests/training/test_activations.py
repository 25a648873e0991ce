"""Activations that are computed again: the same losses and gradients, bit for bit, and less memory; and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from miniature import classifier_of, plain_settings, random_encoded, random_gpt, trainer_of, weights_of
from rotary_miniatures import ROTARY_MINIATURES
from torch import Tensor

from lasttoken.backbone.decoder import Decoder
from lasttoken.backbone.families import family_of
from lasttoken.backbone.linear import Linear
from lasttoken.backbone.packing import Packing
from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.lora import LoraConfig
from lasttoken.core.config import Settings
from lasttoken.core.device import CPU, Device
from lasttoken.training import activations
from lasttoken.training.activations import activation_bytes, choose_checkpointing, largest_batch
from lasttoken.training.adamw import AdamW
from lasttoken.training.loop import Hooks

LENGTHS = [7, 1, 24, 5, 24, 2]
BFLOAT16 = Device(torch.device("cpu"), "bfloat16")


def decoder_of(name: str) -> Decoder:
    """A miniature with random weights; GPT-2, or one of the rotary families."""
    if name == "gpt2":
        return random_gpt(n_embd=32, n_layer=3)
    config = ROTARY_MINIATURES[name]
    decoder = family_of(config).build(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, 0.2, generator=generator))
    return decoder


def loss_and_gradients(classifier: Classifier, device: Device, checkpoints: bool) -> tuple[float, dict[str, Tensor]]:
    """One forward and backward pass of the tail, as the loop makes it."""
    classifier.checkpoints_activations = checkpoints
    packing = Packing(LENGTHS)
    token_ids = torch.arange(packing.n_tokens) * 7 % 261
    classifier.zero_grad()
    with torch.no_grad(), device.autocast():
        features = classifier.trunk(token_ids, packing)
    with device.autocast():
        logits = classifier.tail(features.float() if features.is_floating_point() else features, packing)
    assert logits.dtype == torch.float32
    loss = classifier.config.task.loss(logits, torch.tensor([0, 1, 1, 0, 1, 0]), torch.tensor([0.5, 2.0]))
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item(), {name: parameter.grad for name, parameter in classifier.trained().items()}  # type: ignore[misc]


@pytest.mark.parametrize("device", [CPU, BFLOAT16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["gpt2", *ROTARY_MINIATURES])
@pytest.mark.parametrize(("blocks", "read"), [("all", "last"), ("2", "mean"), ("1", "last")])
def test_losses_and_gradients_are_the_same_bit_for_bit(name: str, blocks: str, read: str, device: Device) -> None:
    classifier = classifier_of(decoder_of(name), train_blocks=blocks, read=read)
    kept, gradients = loss_and_gradients(classifier, device, checkpoints=False)
    again, same = loss_and_gradients(classifier, device, checkpoints=True)
    assert kept == again
    assert gradients.keys() == same.keys()
    assert all(torch.equal(gradients[name], same[name]) for name in gradients)


@pytest.mark.parametrize("device", [CPU, BFLOAT16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_lora_in_all_blocks_is_the_same_bit_for_bit(name: str, device: Device) -> None:
    decoder = decoder_of(name)
    matrices = family_of(decoder.config).matrices
    lora = LoraConfig(rank=2, alpha=4.0, blocks=len(decoder.blocks), matrices=tuple(matrices))
    config = replace(classifier_of(random_gpt()).config, lora=lora, train_blocks="lora", max_length=24)
    classifier = Classifier(decoder, config, 1)
    (kept, gradients), (again, same) = (
        loss_and_gradients(classifier, device, checkpoints) for checkpoints in (False, True)
    )
    assert kept == again
    assert any("lora_A" in name for name in gradients)
    assert all(torch.equal(gradients[name], same[name]) for name in gradients)


@pytest.mark.parametrize("blocks", ["2", "all"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_under_autocast_losses_are_near_and_head_gradients_and_moments_are_float32(name: str, blocks: str) -> None:
    classifier = classifier_of(decoder_of(name), train_blocks=blocks)
    exact, gradients = loss_and_gradients(classifier, CPU, checkpoints=False)
    seen: list[torch.dtype] = []
    classifier.decoder.final_norm.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    for block in classifier.decoder.blocks:
        product = [module for module in block.modules() if isinstance(module, Linear)][-1]
        product.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    near, rounded = loss_and_gradients(classifier, BFLOAT16, checkpoints=False)
    assert seen == [torch.bfloat16] * len(classifier.decoder.blocks) + [torch.float32]
    assert near != exact
    assert near == pytest.approx(exact, rel=2e-2)
    assert all(gradient.dtype == torch.float32 for gradient in rounded.values())
    flat, other = (torch.cat([gradient.flatten() for gradient in each.values()]) for each in (gradients, rounded))
    assert torch.cosine_similarity(flat, other, dim=0) > 0.99
    optimizer = AdamW(classifier.trained(), 0.1)
    optimizer.step(1e-3)
    assert {moments.exp_avg.dtype for moments in optimizer.moments.values()} == {torch.float32}


def test_a_whole_training_is_the_same_bit_for_bit() -> None:
    settings, seen = plain_settings(train_blocks="all", clip_norm=1.0), []
    for checkpoints in (False, True):
        losses: list[float] = []
        trainer = trainer_of(settings, Hooks(on_step=lambda state, losses=losses: losses.append(state.loss_sum)))  # type: ignore[misc]
        trainer.classifier.checkpoints_activations = checkpoints
        trainer.run()
        seen.append((losses, weights_of(trainer)))
    assert seen[0][0] == seen[1][0]
    assert all(torch.equal(tensor, seen[1][1][name]) for name, tensor in seen[0][1].items())


def kept_bytes(classifier: Classifier, n_tokens: int, n_texts: int) -> int:
    """What autograd keeps of a forward pass besides the parameters."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in classifier.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        classifier.tail(torch.arange(n_tokens) % 200, Packing([n_tokens // n_texts] * n_texts)).sum()
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("name", ["gpt2", "llama", "olmo2"])
def test_only_the_inputs_of_blocks_are_kept_and_the_estimate_is_near_the_truth(name: str) -> None:
    classifier = classifier_of(decoder_of(name), train_blocks="all", read="mean")
    n_tokens, width = 16 * 16, classifier.decoder.config.n_embd
    kept = kept_bytes(classifier, n_tokens, n_texts=16)
    assert activation_bytes(classifier, n_tokens) == pytest.approx(kept, rel=0.4)
    classifier.checkpoints_activations = True
    n_inputs = len(classifier.decoder.blocks) + 2  # and what the last norm and the mean keep
    assert kept_bytes(classifier, n_tokens, n_texts=16) < 4 * n_inputs * n_tokens * width + 50_000


def test_the_largest_batch_has_the_longest_texts() -> None:
    encoded = random_encoded(30)
    assert largest_batch(encoded, 4) == sum(sorted(encoded.lengths.tolist())[-4:])
    assert largest_batch(encoded, 99) == encoded.n_tokens


def chosen(free: float, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[bool, list[str]]:
    """What is chosen for a miniature where so many bytes are free beyond those of AdamW, and what is said."""
    settings: Settings = plain_settings(**{"train_blocks": "all", **changes})
    classifier = classifier_of(random_gpt(n_embd=32, n_layer=3), train_blocks=settings.train_blocks)
    states = 12 * sum(parameter.numel() for parameter in classifier.trained().values())
    monkeypatch.setattr(activations, "free_memory_bytes", lambda device: free + states)
    said: list[str] = []
    return choose_checkpointing(classifier, random_encoded(30), settings, CPU, said.append), said


def test_auto_goes_by_the_free_memory_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = classifier_of(random_gpt(n_embd=32, n_layer=3), train_blocks="all")
    needed = activation_bytes(classifier, largest_batch(random_encoded(30), 4))
    assert chosen(2.1 * needed, monkeypatch) == (False, [])
    checkpoints, said = chosen(1.9 * needed, monkeypatch)
    assert checkpoints
    assert len(said) == 1
    assert "--checkpoint-activations" in said[0]
    assert chosen(0.0, monkeypatch, train_blocks="head") == (False, [])
    assert chosen(0.0, monkeypatch, checkpoint_activations="off") == (False, [])
    assert chosen(np.inf, monkeypatch, checkpoint_activations="on") == (True, [])
