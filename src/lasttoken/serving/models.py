"""The classifiers that a server holds; classifiers with the same trunk run it once for a text.

runs/spam   ┐ same backbone, same frozen blocks,     ┌─► tail, head of spam   ─► log-probabilities
runs/intent ┴ same pooling ──► Group: one trunk ─────┴─► tail, head of intent ─► log-probabilities
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lasttoken.backbone.weights import bytes_of
from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.encoding import Encoded, run_by_length
from lasttoken.classifier.predict import Predictor
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.device import CPU
from lasttoken.serving.options import names_of


@dataclass(frozen=True)
class ServedModel:
    """A classifier with its name, and the metrics of its run."""

    name: str
    predictor: Predictor
    metrics: dict[str, Any]  # metrics.json


@dataclass(frozen=True)
class Group:
    """Classifiers that encode a text alike and share a trunk; the first one's computes it."""

    members: tuple[ServedModel, ...]

    @property
    def lead(self) -> Predictor:
        """The classifier whose trunk and tokenizer serve all members."""
        return self.members[0].predictor

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Encode texts, once for all members."""
        return self.lead.encode(texts)

    def log_probs(self, encoded: Encoded, names: Collection[str]) -> dict[str, NDArray[np.float32]]:
        """Log-probabilities [N, K] of the members with these names; the trunk runs once."""
        members = [model for model in self.members if model.name in names]
        log_probs = {
            model.name: np.empty((len(encoded), len(model.predictor.labels)), dtype=np.float32) for model in members
        }
        device = self.lead.device

        def compute(rows: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
            token_ids, packing = encoded.pack(rows, device.torch_device)
            features = self.lead.classifier.trunk(token_ids, packing)
            tails = {model.name: model.predictor.classifier.tail(features, packing) for model in members}
            return {name: logits.float().cpu().numpy() for name, logits in tails.items()}

        # The engine's threads compute batches side by side already.
        for rows, logits in run_by_length(compute, encoded.lengths, device, parallel=False):
            for model in members:
                classifier, config = model.predictor.classifier, model.predictor.classifier.config
                whole = classifier.blended(logits[model.name], encoded.texts_of(rows))
                log_probs[model.name][rows] = config.task.log_probs(whole, config.temperature)
        return log_probs


def load_models(
    runs: Sequence[Path], device: str = "auto", precision: str = "auto", n_processes: int = 1
) -> list[Group]:
    """Load finished runs, named after their folders, in groups that share a trunk.

    Into this process's own memory; with `n_processes` > 1 the weights stay in the mapped files, which nobody may write
    to, and the memory for packed matrices is shared out.

    Raises:
        SettingsError: two folders have the same name.
        RunError, BackboneError, DeviceError: see `Predictor.load`.
    """
    names = names_of(runs)
    groups: dict[str, list[ServedModel]] = {}
    owned: set[int] = set()
    for name, run in zip(names, runs, strict=True):
        predictor = Predictor.load(run, device, precision)
        members = groups.setdefault(trunk_digest(predictor), [])
        if members:
            _share_trunk(members[0].predictor, predictor)
        members.append(ServedModel(name, predictor, RunDir(run).read_metrics()))
        if n_processes == 1:
            own_memory(predictor.classifier, owned)
        if predictor.device == CPU:
            predictor.classifier.pack_trunk(n_processes)  # does nothing to a shared trunk that is packed already
    return [Group(tuple(members)) for members in groups.values()]


def trunk_digest(predictor: Predictor) -> str:
    """Equal for classifiers that can share a trunk: same frozen weights, same tokenizer, same way to encode a text."""
    classifier, config = predictor.classifier, predictor.classifier.config
    if classifier.n_frozen is None:
        return f"alone {id(predictor)}"
    digest = hashlib.sha256(predictor.tokenizer.to_json().encode())
    pooling = config.read if not classifier.keeps_tokens else config.pads  # without a trained block the trunk pools
    settings = (
        classifier.n_frozen,
        classifier.keeps_tokens,
        pooling,
        config.causal_mask,
        config.max_length,
        config.truncate,
        config.end_of_text_id,
        config.prefix_ids,
        config.suffix_ids,
        predictor.device,
        classifier.decoder.fingerprint(),
    )
    digest.update(repr(settings).encode())
    for name, tensor in sorted(classifier.frozen_tensors().items()):
        digest.update(f"{name}{tensor.dtype}".encode())
        digest.update(bytes_of(tensor.cpu()).data)
    return digest.hexdigest()


def own_memory(classifier: Classifier, owned: set[int]) -> None:
    """Copy the weights out of the mapped file; `owned`: addresses of weights that were copied before.

    While a file is mapped, writing into it changes answers, and truncating it kills the process (SIGBUS). A trunk that
    computes in 8 bits has its own copy already, and its float32 weights are not read any more.
    """
    copies: dict[tuple[int, torch.Size, tuple[int, ...]], torch.Tensor] = {}  # tied weights are copied once
    for module in classifier.modules():
        in_8_bits = getattr(module, "int8", None) is not None
        named = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for name, tensor in named:
            if tensor.device.type != "cpu" or tensor.data_ptr() in owned or (in_8_bits and name == "weight"):
                continue
            place = tensor.data_ptr(), tensor.shape, tensor.stride()
            if place not in copies:
                copies[place] = tensor.detach().clone()
            tensor.data = copies[place]
            owned.add(tensor.data_ptr())


def _share_trunk(lead: Predictor, other: Predictor) -> None:
    """Replace the other's trunk by the lead's, so that its weights are in memory once."""
    other.classifier.decoder.share_front(lead.classifier.decoder, lead.classifier.n_frozen or 0)
