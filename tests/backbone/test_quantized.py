"""Blocks of few bits: dequantized as the gguf package does it, permuted by rows, and stored to equal bits."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from lasttoken.backbone.quantized import QuantizedTensor, block_size, from_stored, to_stored, type_name
from lasttoken.backbone.weights import read_tensor_files, write_tensor_file
from lasttoken.core.errors import BackboneError

NUMBERS = np.random.default_rng(1).normal(size=(6, 512)).astype(np.float32)
HERE = Path("here")


def quantized(type_: str) -> QuantizedTensor:
    return QuantizedTensor(quantize(NUMBERS, GGMLQuantizationType[type_]).view(np.uint8), type_, NUMBERS.shape)


@pytest.mark.parametrize("type_", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "TQ1_0", "TQ2_0"])
def test_the_numbers_are_those_of_the_gguf_package(type_: str) -> None:
    blocks = quantized(type_)
    assert np.array_equal(blocks.dequantize().numpy(), dequantize(blocks.raw, GGMLQuantizationType[type_]))
    assert blocks.in_blocks == ("F" not in type_)


@pytest.mark.parametrize("type_", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "IQ3_S", "MXFP4"])
def test_types_that_are_only_read_are_dequantized_too(type_: str) -> None:
    n_values, n_bytes = block_size(type_)
    raw = np.random.default_rng(2).integers(0, 100, (4, 512 // n_values * n_bytes), dtype=np.uint8)
    numbers = QuantizedTensor(raw, type_, (4, 512)).dequantize()
    assert numbers.shape == (4, 512)
    with np.errstate(all="ignore"):
        assert np.array_equal(numbers.numpy(), dequantize(raw, GGMLQuantizationType[type_]), equal_nan=True)


def test_rows_can_be_permuted_without_dequantizing() -> None:
    blocks, order = quantized("Q4_1"), np.array([4, 0, 2])
    assert torch.equal(blocks.rows(order).dequantize(), blocks.dequantize()[order])
    assert blocks.rows(order).shape == (3, 512)


def test_stored_blocks_come_back_to_equal_bits(tmp_path: Path) -> None:
    matrices = {"h.0.a.weight": quantized("Q4_1"), "wte.weight": quantized("Q8_0")}
    write_tensor_file(tmp_path / "model.safetensors", {"other": torch.ones(2), **to_stored(matrices)})
    others, read = from_stored(read_tensor_files(tmp_path), HERE)
    assert set(others) == {"other"}
    assert read.keys() == matrices.keys()
    for name, blocks in read.items():
        assert (blocks.type, blocks.shape) == (matrices[name].type, matrices[name].shape)
        assert blocks.raw.tobytes() == matrices[name].raw.tobytes()
        assert torch.equal(blocks.dequantize(), matrices[name].dequantize())


def test_a_copy_of_a_network_does_not_copy_blocks() -> None:
    blocks = quantized("Q4_0")
    assert copy.deepcopy({"a": blocks})["a"] is blocks


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("quantized.Q4_1.a", torch.zeros(3, 21, dtype=torch.uint8)),
        ("quantized.Q4_1.a", torch.zeros(40, dtype=torch.uint8)),
        ("quantized.Q4_1.a", torch.zeros(3, 20)),
        ("quantized.Q9_Z.a", torch.zeros(3, 20, dtype=torch.uint8)),
    ],
)
def test_bytes_that_are_not_blocks_are_named(name: str, tensor: torch.Tensor) -> None:
    with pytest.raises(BackboneError, match=r"Q4_1\.a|Q9_Z"):
        from_stored({name: tensor}, HERE)


def test_numbers_of_types() -> None:
    assert type_name(3, "here") == "Q4_1"
    with pytest.raises(BackboneError, match="here has the type 4242"):
        type_name(4242, "here")
