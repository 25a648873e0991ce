"""Pages of mapped files can be given back without losing what is in them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lasttoken.backbone.mapped_pages import drop_mapped_pages


def test_pages_of_a_mapped_file_are_released_and_read_again(tmp_path: Path) -> None:
    save_file({"weight": torch.arange(1 << 20, dtype=torch.float32)}, tmp_path / "weights.safetensors")
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        weight = file.get_tensor("weight")
    own = torch.arange(1 << 20, dtype=torch.float32)
    drop_mapped_pages([weight, own])
    assert torch.equal(weight, own)


def test_pages_that_were_never_written_are_dropped_and_read_again(tmp_path: Path) -> None:
    weight = torch.arange(100_000, dtype=torch.float32)
    save_file({"weight": weight}, tmp_path / "mapped.safetensors")
    with safe_open(tmp_path / "mapped.safetensors", "pt") as file:
        mapped = file.get_tensor("weight")
    assert torch.equal(mapped, weight)
    drop_mapped_pages([mapped], never_written=True)
    assert torch.equal(mapped, weight)
