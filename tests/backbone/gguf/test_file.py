"""The header of a GGUF: as the gguf package reads it; whatever is wrong with a file is one sentence that names it."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf_files import write_gguf
from miniature import random_gpt

from lasttoken.backbone.gguf.file import GGUFFile
from lasttoken.core.errors import BackboneError


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "small.gguf", random_gpt(n_inner=64), "Q4_0")


def test_keys_and_tensors_are_those_that_the_gguf_package_reads(file: Path) -> None:
    theirs, ours = gguf.GGUFReader(file), GGUFFile(file)
    keys = {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert ours.keys.keys() == keys.keys()
    for key, value in keys.items():
        mine = ours.keys[key]
        assert (list(mine) if isinstance(value, list) else mine) == pytest.approx(value), key
    assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        blocks = ours.blocks(tensor.name)
        assert (blocks.type, blocks.shape) == (tensor.tensor_type.name, tuple(tensor.shape.tolist()[::-1]))
        assert blocks.raw.tobytes() == tensor.data.tobytes()
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(blocks.dequantize().numpy(), expected)


def test_a_number_is_the_one_that_was_meant(file: Path) -> None:
    assert GGUFFile(file).keys["gpt2.attention.layer_norm_epsilon"] == 1e-5


def test_a_file_that_is_cut_anywhere_is_one_sentence(file: Path, tmp_path: Path) -> None:
    content, torn = file.read_bytes(), tmp_path / "torn.gguf"
    for n_bytes in [*range(4, 120), *range(120, len(content), 499), len(content) - 1]:
        torn.write_bytes(content[:n_bytes])
        with pytest.raises(BackboneError, match="truncated or corrupt"):
            GGUFFile(torn)


def test_random_bytes_in_the_header_never_end_in_another_exception(file: Path, tmp_path: Path) -> None:
    content, changed = file.read_bytes(), tmp_path / "changed.gguf"
    draw = np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(content)
        for place in draw.integers(4, 12_000, 3):
            damaged[place] = draw.integers(256)
        changed.write_bytes(damaged)
        try:
            GGUFFile(changed)
        except BackboneError:
            continue


def test_what_is_not_a_gguf_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.gguf").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(BackboneError, match="not a GGUF"):
        GGUFFile(tmp_path / "other.gguf")
    with pytest.raises(BackboneError, match=r"no file .*absent\.gguf"):
        GGUFFile(tmp_path / "absent.gguf")


@pytest.mark.parametrize(("version", "words"), [(1, "version 1"), (4, "version 4"), (3 << 24, "big-endian")])
def test_other_versions_are_named(file: Path, tmp_path: Path, version: int, words: str) -> None:
    other = tmp_path / "other.gguf"
    content = bytearray(file.read_bytes())
    content[4:8] = struct.pack("<I", version)
    other.write_bytes(content)
    with pytest.raises(BackboneError, match=words):
        GGUFFile(other)


def test_a_type_of_tensor_that_gguf_does_not_know_yet_is_named(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    place = content.index(b"blk.1.attn_qkv.weight") + len(b"blk.1.attn_qkv.weight") + 4 + 2 * 8
    newer = tmp_path / "newer.gguf"
    newer.write_bytes(content[:place] + struct.pack("<I", 4242) + content[place + 4 :])
    with pytest.raises(BackboneError, match=r"blk\.1\.attn_qkv\.weight has the type 4242"):
        GGUFFile(newer)


def test_a_key_that_is_missing_or_of_another_type_is_named(file: Path) -> None:
    opened = GGUFFile(file)
    assert opened.get("gpt2.block_count", int) == 3
    assert opened.get("gpt2.other", int, 7) == 7
    with pytest.raises(BackboneError, match=r"gpt2\.other"):
        opened.get("gpt2.other", int)
    with pytest.raises(BackboneError, match=r"general\.architecture = 'gpt2'"):
        opened.get("general.architecture", int)
    with pytest.raises(BackboneError, match=r"blk\.9\.attn_qkv\.weight"):
        opened.blocks("blk.9.attn_qkv.weight")
