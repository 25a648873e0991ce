"""The state of an unfinished training in one file, from which a killed run continues bit for bit.

    resume.safetensors    parameter.* | best.* | exp_avg.* | exp_avg_sq.* | updates.* | order
    its metadata          the loop's State as JSON, checksums, and the fingerprint of the training

It is a single file that is renamed into place, so weights, optimizer and position always belong to the same step.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lasttoken.backbone.weights import SUMS, check_sums, sums_of
from lasttoken.core.documents import checked
from lasttoken.core.errors import BackboneError, RunError
from lasttoken.core.storage import write_bytes
from lasttoken.training.adamw import Moments
from lasttoken.training.loop import State, Trainer


def save_training(trainer: Trainer, path: Path, fingerprint: str) -> None:
    """Write the whole state of a training.

    Raises:
        StorageError: no permission, or a full disk.
    """
    tensors: dict[str, Tensor] = {"order": trainer.order.state}
    for name, parameter in trainer.parameters.items():
        tensors[f"parameter.{name}"] = parameter.detach()
        if name in trainer.optimizer.moments:
            moments = vars(trainer.optimizer.moments[name])
            tensors.update({f"{part}.{name}": tensor for part, tensor in moments.items()})
    tensors.update({f"best.{name}": tensor for name, tensor in trainer.best.items()})
    on_cpu = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"state": json.dumps(asdict(trainer.state)), "fingerprint": fingerprint, SUMS: sums_of(on_cpu)}
    write_bytes(path, save(on_cpu, metadata))


def restore_training(trainer: Trainer, path: Path, fingerprint: str) -> None:
    """Put a new trainer into the state that `save_training` wrote.

    Raises:
        RunError: a corrupt file, or one of other data, settings or weights.
    """
    try:
        with safe_open(path, "pt", device=str(trainer.device.torch_device)) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} is truncated or corrupt: {error}; train again without --resume") from error
    if metadata.get("fingerprint") != fingerprint:
        raise RunError(
            f"{path} belongs to other data, settings or weights than these; train again without --resume, "
            "into another --out"
        )
    try:
        if SUMS in metadata:  # files of earlier versions have none
            check_sums({name: tensor.cpu() for name, tensor in tensors.items()}, metadata[SUMS], path)
        _restore(trainer, json.loads(metadata["state"]), tensors)
    except (BackboneError, RunError, LookupError, TypeError, ValueError, RuntimeError, RecursionError) as error:
        why = str(error).partition("\n")[0][:300]
        raise RunError(f"training cannot be resumed from {path}: {why}; train again without --resume") from error


def _restore(trainer: Trainer, state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    trainer.state = checked(State, state, "state")
    trainer.order.restore(tensors["order"].cpu())
    with torch.no_grad():
        for name, parameter in trainer.parameters.items():
            parameter.copy_(tensors[f"parameter.{name}"])
            if f"updates.{name}" in tensors:
                parts = {part.name: tensors[f"{part.name}.{name}"] for part in fields(Moments)}
                trainer.optimizer.moments[name] = Moments(**parts)
    trainer.best = {name.removeprefix("best."): tensor for name, tensor in tensors.items() if name.startswith("best.")}
