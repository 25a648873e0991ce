"""The weights of a training of all blocks in parts: each process keeps 1/n of every tensor, its gradient and moments.

    whole tensors [·]       on the CPU    what the loop, checkpoints and the run know; they follow with `collect`
    shards of a copy        on the device torch's FSDP2: a block is gathered when it computes, and let go

It is for backbones whose training does not fit on one GPU: 16 bytes a number with AdamW in float32, and 16/n in parts.
It is slower, because every block crosses between the processes three times a step. Source: Zhao et al. 2023, *PyTorch
FSDP: Experiences on Scaling Fully Sharded Data Parallel*.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor

from lasttoken.classifier.classifier import Classifier
from lasttoken.core.config import CHOSEN, Settings
from lasttoken.core.device import Device, free_memory_bytes
from lasttoken.core.errors import SettingsError
from lasttoken.core.team import Team
from lasttoken.training.activations import STATE_BYTES
from lasttoken.training.adamw import AdamW, Moments

OF_FREE_MEMORY = 0.8  # that gradients and moments may take; activations need room too


class Shards:
    """A classifier in parts, and its optimizer; every process makes one at the same time."""

    def __init__(self, team: Team, whole: Classifier, optimizer: AdamW, device: Device) -> None:
        """`whole` and the moments of `optimizer` are the start, the same in every process; `whole` moves to the CPU."""
        from torch.distributed.device_mesh import DeviceMesh
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        self.whole, self._whole_optimizer, self._device = whole, optimizer, device
        whole.to("cpu")
        self.classifier = deepcopy(whole)  # fully_shard moves it to the device, block by block
        mesh = DeviceMesh.from_group(team.group, device.torch_device.type)
        for block in self.classifier.decoder.blocks:
            fully_shard(block, mesh=mesh)
            register_fsdp_forward_method(block, "forward_at")
        fully_shard(self.classifier, mesh=mesh)
        register_fsdp_forward_method(self.classifier, "tail")
        self.parameters = self.classifier.trained()
        self.optimizer = AdamW(self.parameters, optimizer.weight_decay)
        for name, moments in optimizer.moments.items():
            self.optimizer.moments[name] = self._divided(name, moments)

    def _divided(self, name: str, moments: Moments) -> Moments:
        """Whole moments in the parts of their parameter."""
        from torch.distributed.tensor import DTensor, distribute_tensor

        parameter = self.parameters[name]
        assert isinstance(parameter, DTensor)
        device, placements = self._device.torch_device, parameter.placements
        first, second = (
            distribute_tensor(whole.to(device), parameter.device_mesh, placements)
            for whole in (moments.exp_avg, moments.exp_avg_sq)
        )
        return Moments(first, second, moments.updates.to(device))

    def sums_gradients(self, sums: bool) -> None:
        """Whether the next backward pass sums the gradients of all processes, or keeps them for a later one."""
        self.classifier.set_requires_gradient_sync(sums)  # type: ignore[operator]  # fully_shard adds the method

    @torch.no_grad()
    def collect(self) -> None:
        """Copy weights and moments into the whole classifier and its optimizer."""
        for name, whole in self.whole.trained().items():
            whole.copy_(_whole(self.parameters[name]))
            if name in self.optimizer.moments:
                parts = vars(self.optimizer.moments[name])
                self._whole_optimizer.moments[name] = Moments(**{key: _whole(part) for key, part in parts.items()})

    def release(self) -> None:
        """Let the parts go; the whole classifier is on its device again."""
        self.parameters, self.optimizer = {}, AdamW({}, 0.0)
        del self.classifier
        self.whole.to(self._device.torch_device)


def _whole(tensor: Tensor) -> Tensor:
    """A tensor with the parts of all processes, on the CPU."""
    gather = getattr(tensor, "full_tensor", None)
    return (tensor if gather is None else gather()).detach().cpu().clone()


def keeps_shards(settings: Settings, classifier: Classifier, device: Device) -> bool:
    """Whether the weights are kept in parts, as set; auto: on a GPU that has no room for gradients and moments."""
    if settings.shard_weights != CHOSEN:
        return settings.shard_weights == "on"
    if classifier.n_frozen is not None or device.torch_device.type != "cuda":
        return False
    return STATE_BYTES * classifier.n_trained() > OF_FREE_MEMORY * free_memory_bytes(device)


def check_shards(settings: Settings, n_processes: int) -> None:
    """Reject shards of one process.

    Raises:
        SettingsError: `shard_weights` is on, and there is one process, or not all blocks are trained.
    """
    if settings.shard_weights == "on" and n_processes == 1:
        raise SettingsError("--shard-weights on needs several processes; add --workers, or start them with torchrun")
    if settings.shard_weights == "on" and settings.train_blocks != "all":
        raise SettingsError(
            f"--shard-weights on is for --train-blocks all, and it is {settings.train_blocks}: what a tail trains is "
            "small, and each process keeps it whole"
        )
