"""The classifiers that a server holds; those whose trunks are the same run it once for a text.

runs/spam   ┐ same backbone, same frozen blocks,     ┌─► tail, head of spam   ─► logits
runs/intent ┴ same reading ──► Group: one trunk ─────┴─► tail, head of intent ─► logits
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

from lasttoken.backbone.packing import Packing
from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.encoding import Encoded, batches_by_length
from lasttoken.classifier.predict import Predictor, log_probabilities
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.device import CPU
from lasttoken.core.errors import SettingsError

Logits = dict[str, NDArray[np.float32]]  # by name: [N, K]


@dataclass(frozen=True)
class Served:
    """A classifier with its name and what its run knows of it."""

    name: str
    predictor: Predictor
    metrics: dict[str, Any]  # metrics.json


@dataclass(frozen=True)
class Group:
    """Classifiers that read a text alike and share a trunk; the first one's computes it."""

    members: tuple[Served, ...]

    @property
    def lead(self) -> Predictor:
        """Whose trunk and tokenizer serve all."""
        return self.members[0].predictor

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Texts as every member reads them."""
        return self.lead.encode(texts)

    @torch.inference_mode()
    def log_probs(self, encoded: Encoded, wanted: Collection[str]) -> Logits:
        """Log-probabilities [N, K] of the members that are wanted; the trunk runs once."""
        chosen = [one for one in self.members if one.name in wanted]
        found = {one.name: np.empty((len(encoded), len(one.predictor.labels)), dtype=np.float32) for one in chosen}
        device = self.lead.device
        for rows in batches_by_length(encoded.lengths, device.token_budget):
            token_ids = torch.from_numpy(encoded.ids_of(rows)).to(device.torch_device)
            packing = Packing(encoded.lengths[rows].tolist(), device.torch_device)
            with device.autocast():
                features = self.lead.classifier.trunk(token_ids, packing)
                for one in chosen:
                    logits = one.predictor.classifier.tail(features, packing).float().cpu().numpy()
                    found[one.name][rows] = log_probabilities(logits, one.predictor.classifier.config)
        return found


def load_models(runs: Sequence[Path], device: str = "auto", precision: str = "auto") -> list[Group]:
    """Load finished runs, by their folders' names, in groups that share a trunk, into memory of this process's own.

    Raises:
        SettingsError: two folders of one name.
        RunError, BackboneError, DeviceError: see `Predictor.load`.
    """
    names = [run.resolve().name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"two of the runs are called {name!r}; a server tells them apart by name, rename one")
    groups: dict[str, list[Served]] = {}
    owned: set[int] = set()
    for name, run in zip(names, runs, strict=True):
        predictor = Predictor.load(run, device, precision)
        served = Served(name, predictor, RunDir(run).read_metrics())
        alike = groups.setdefault(_trunk_of(predictor), [])
        if alike:
            _share(alike[0].predictor, predictor)
        alike.append(served)
        own_memory(predictor.classifier, owned)
        if predictor.device == CPU:
            predictor.classifier.pack_trunk()  # does nothing to a trunk that is shared and packed already
    return [Group(tuple(members)) for members in groups.values()]


def _trunk_of(predictor: Predictor) -> str:
    """What two classifiers must have in common to share a trunk: the frozen weights, and how a text is read."""
    classifier, config = predictor.classifier, predictor.classifier.config
    if classifier.n_frozen is None:
        return f"alone {id(predictor)}"
    digest = hashlib.sha256(predictor.tokenizer.to_json().encode())
    reading = config.read if not classifier.keeps_tokens else config.pads  # the trunk of a head reads already
    how = (
        classifier.n_frozen,
        classifier.keeps_tokens,
        reading,
        config.causal_mask,
        config.max_length,
        config.truncate,
    )
    digest.update(repr((*how, config.end_of_text_id, predictor.device)).encode())
    for name, tensor in sorted(classifier.frozen_tensors().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def own_memory(classifier: Classifier, owned: set[int]) -> None:
    """Copy the weights out of the file that they are mapped from; `owned`: addresses of those that were copied before.

    While a file is mapped, writing into it changes answers, and cutting it short kills the process (SIGBUS). Weights
    that are computed with in 8 bits have been copied by that, and their float32 form is not read any more.
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


def _share(lead: Predictor, other: Predictor) -> None:
    """Let the other's trunk be the lead's, so that its weights are in memory once."""
    mine, theirs = lead.classifier, other.classifier
    theirs.decoder.wte, theirs.decoder.wpe = mine.decoder.wte, mine.decoder.wpe
    for at in range(mine.n_frozen or 0):
        theirs.decoder.h[at] = mine.decoder.h[at]
