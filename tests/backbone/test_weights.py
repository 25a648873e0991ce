"""Tensor files that are corrupt, changed or not finite: one sentence that names the file."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from miniature import published_tensors, random_gpt, write_backbone, write_shards
from safetensors.torch import save, save_file

from lasttoken.backbone.pretrained import load_backbone
from lasttoken.backbone.weights import check_finite, read_tensor_files, write_tensor_file
from lasttoken.core.errors import BackboneError

WHOLE = save({"wte.weight": torch.ones(4, 4), "wpe.weight": torch.ones(4, 4)})
HEADER = 8 + int.from_bytes(WHOLE[:8], "little")


CORRUPT = {
    "empty": b"",
    "7-bytes": WHOLE[:7],
    "length-only": WHOLE[:8],
    "cut-header": WHOLE[: HEADER - 1],
    "header-only": WHOLE[:HEADER],
    "one-byte-short": WHOLE[:-1],
    "one-byte-more": WHOLE + b"\0",
    "zeros": bytes(len(WHOLE)),
    "ones": b"\xff" * len(WHOLE),
    "random": random.Random(4).randbytes(len(WHOLE)),
    "html": b"<!doctype html><title>429 Too Many Requests</title>" * 20,
    "lfs-pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 548105171\n",
}


@pytest.mark.parametrize("content", CORRUPT.values(), ids=CORRUPT)
@pytest.mark.parametrize("sharded", [False, True], ids=["single", "shard"])
def test_a_corrupt_file_is_named_with_its_size(content: bytes, sharded: bool, tmp_path: Path) -> None:
    name = "model-1.safetensors" if sharded else "model.safetensors"
    (tmp_path / name).write_bytes(content)
    if sharded:
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"wte.weight": name}}))
    with pytest.raises(BackboneError) as caught:
        read_tensor_files(tmp_path)
    assert f"{tmp_path / name} ({len(content):,} bytes) is corrupt or not a safetensors file" in str(caught.value)
    assert str(caught.value).endswith("fetch it again")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    gpt = random_gpt()
    write_shards(write_backbone(tmp_path, gpt), published_tensors(gpt), 3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(BackboneError, match=r"index\.json names the shard 'model-00002-of-00003\.safetensors'"):
        read_tensor_files(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "{}", '{"weight_map": 3}', '{"weight_map": {"wte": 3}}', '{"weight_map": {"wte": ["a"]}}'],
)
def test_an_invalid_index_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(
        BackboneError, match=r"model\.safetensors\.index\.json is not an index of shards; fetch it again"
    ):
        read_tensor_files(tmp_path)


def test_an_index_cannot_reach_out_of_its_folder(tmp_path: Path) -> None:
    save_file({"wte.weight": torch.ones(2)}, tmp_path / "outside.safetensors")
    inside = tmp_path / "inside"
    inside.mkdir()
    for name in ("../outside.safetensors", str(tmp_path / "outside.safetensors")):
        (inside / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"wte.weight": name}}))
        with pytest.raises(BackboneError, match=r"names the shard 'outside\.safetensors', which is not in .*inside"):
            read_tensor_files(inside)


def test_a_pickle_is_never_opened_and_the_error_says_how_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(BackboneError, match=r"only pytorch_model\.bin, a pickle.*save_pretrained\(folder\)"):
        read_tensor_files(tmp_path)
    save_file({"wte.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    assert read_tensor_files(tmp_path).keys() == {"wte.weight"}


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"holds no model\.safetensors and no model\.safetensors\.index\.json"):
        read_tensor_files(tmp_path)


def write_header(path: Path, header: bytes, content: bytes = b"") -> None:
    path.write_bytes(len(header).to_bytes(8, "little") + header + content)


@pytest.mark.parametrize(
    "header",
    [
        b"{" + b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % at for at in range(60_000)) + b"}",
        b"{" + b" " * 9_000_000 + b"}",
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
        b'{"a":{"dtype":"F32","shape":[1000000000,1000000000],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}}',
        b"[" * 100_000,
        b"\xff" * 40,
    ],
    ids=["many", "long", "overlap", "huge", "dtype", "negative", "deep", "bytes"],
)
def test_an_invalid_header_is_one_sentence(header: bytes, tmp_path: Path) -> None:
    write_header(tmp_path / "model.safetensors", header, bytes(12))
    with pytest.raises(BackboneError, match=r"model\.safetensors .* is corrupt or not a safetensors file") as caught:
        read_tensor_files(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_header_longer_than_memory_is_rejected_unread(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(BackboneError, match=r"its header has 4,611,686,018,427,387,904 bytes"):
        read_tensor_files(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_not_finite_are_named(value: float, dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in published_tensors(random_gpt()).items()}
    tensors["transformer.h.1.mlp.c_fc.weight"][3, 4] = value
    write_backbone(tmp_path, tensors=tensors)
    with pytest.raises(BackboneError, match=r"h\.1\.mlp\.c_fc\.weight holds NaN or infinity"):
        load_backbone(str(tmp_path))


def test_large_finite_weights_are_accepted() -> None:
    check_finite({"a": torch.full((4,), 3e38), "b": torch.full((4,), 6e4, dtype=torch.float16)}, Path("here"))


@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_bit_in_a_file_written_here_is_found(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {"a": torch.randn(5, 7), "b": torch.randn(3).to(torch.bfloat16), "c": torch.tensor(1.5)}
    write_tensor_file(path, tensors)
    assert read_tensor_files(tmp_path).keys() == tensors.keys()
    raw = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(raw[:8], "little")
    draw = random.Random(seed)
    raw[draw.randrange(start, len(raw))] ^= 1 << draw.randrange(8)
    path.write_bytes(raw)
    with pytest.raises(BackboneError, match=r"model\.safetensors was changed: tensor (a|b|c) "):
        read_tensor_files(tmp_path)
