"""A GGUF as a backbone: the network of the folder that it was made from, whatever the family and the quantization."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf_files import write_gguf
from miniature import MERGES, random_gpt

from lasttoken.backbone.decoder import Decoder
from lasttoken.backbone.gguf.reading import GGUFBackbone, is_gguf
from lasttoken.backbone.packing import Packing
from lasttoken.backbone.pretrained import load_backbone, load_tokenizer
from lasttoken.core.errors import BackboneError, SettingsError

TEXT = torch.tensor([3, 260, 17, 5, 99, 250, 8])


def small(**changes: Any) -> Decoder:
    return random_gpt(n_inner=64, **changes)


@torch.no_grad()
def logits(decoder: Decoder) -> torch.Tensor:
    return decoder.logits(decoder(TEXT, Packing([4, 3])))


def test_the_suffix_decides() -> None:
    assert is_gguf(Path("a/Model.GGUF"))
    assert not is_gguf(Path("a/gguf"))


@pytest.mark.parametrize("tied", [True, False])
def test_in_float32_every_bit_is_that_of_the_network(tmp_path: Path, tied: bool) -> None:
    decoder = small(tied=tied)
    loaded = load_backbone(str(write_gguf(tmp_path / "small.gguf", decoder)))
    assert loaded.config == decoder.config
    assert loaded.decoder.quantized == {}
    assert all(torch.equal(loaded.decoder.state_dict()[name], tensor) for name, tensor in decoder.state_dict().items())
    assert torch.equal(logits(loaded.decoder), logits(decoder))
    assert loaded.end_of_text_id == 256 + len(MERGES)
    assert load_tokenizer(str(tmp_path / "small.gguf"))[0].to_json() == loaded.tokenizer.to_json()


@pytest.mark.parametrize("quantization", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_quantized_weights_are_those_that_the_gguf_package_dequantizes(tmp_path: Path, quantization: str) -> None:
    path = write_gguf(tmp_path / "small.gguf", small(), quantization)
    loaded = load_backbone(str(path)).decoder
    theirs = {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in gguf.GGUFReader(path).tensors}
    state = loaded.state_dict()
    for name, number in (("attn.c_attn", "attn_qkv"), ("mlp.c_proj", "ffn_down"), ("ln_1", "attn_norm")):
        assert np.array_equal(state[f"h.2.{name}.weight"].float().numpy(), theirs[f"blk.2.{number}.weight"])
    assert np.array_equal(state["wte.weight"].float().numpy(), theirs["token_embd.weight"])
    stored = {"F16": torch.float16, "BF16": torch.bfloat16}.get(quantization, torch.float32)
    assert (state["wte.weight"].dtype, state["h.2.ln_1.weight"].dtype) == (stored, torch.float32)
    in_blocks = quantization.startswith("Q")
    assert set(loaded.quantized) == {
        name for name in state if in_blocks and name != "wpe.weight" and state[name].dim() == 2
    }
    for name, blocks in loaded.quantized.items():
        assert torch.equal(blocks.dequantize(), state[name])


def test_only_the_first_blocks_are_read(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "small.gguf", small(), "Q8_0", left_out=("blk.2.ffn_up.weight",))
    loaded = load_backbone(str(path), depth=2)
    assert loaded.config == replace(small().config, n_layer=2)
    assert not any(name.startswith("h.2.") for name in loaded.decoder.quantized)
    with pytest.raises(BackboneError, match=r"blk\.2\.ffn_up\.weight"):
        load_backbone(str(path))
    with pytest.raises(SettingsError, match="--depth 4"):
        load_backbone(str(path), depth=4)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"general.type": "adapter"}, "adapter"),
        ({"general.type": "mmproj"}, "no language model"),
        ({"general.architecture": "clip"}, "no language model.*'clip'"),
        ({"general.architecture": "lfm2"}, "'lfm2'.*'gpt2', 'llama'|'lfm2'.*'llama'"),
        ({"general.architecture": None}, r"general\.architecture"),
        ({"gpt2.expert_count": 8}, "8 experts"),
        ({"split.count": 3}, "one of 3 parts"),
        ({"gpt2.block_count": None}, r"gpt2\.block_count"),
        ({"gpt2.embedding_length": "32"}, r"gpt2\.embedding_length = '32'"),
        ({"gpt2.block_count": 4}, r"blk\.3\."),
        ({"gpt2.feed_forward_length": 96}, r"c_fc\.weight has shape"),
        ({"gpt2.context_length": 0}, "n_positions"),
        ({"gpt2.attention.head_count": 5}, "n_head 5"),
    ],
)
def test_what_cannot_be_loaded_is_named(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    path = write_gguf(tmp_path / "small.gguf", small(), keys=keys)
    with pytest.raises(BackboneError, match=words):
        load_backbone(str(path))


def test_tensors_that_the_network_has_no_place_for_are_named(tmp_path: Path) -> None:
    added = {"blk.1.attn_gate.weight": np.zeros((32, 32), dtype=np.float32)}
    path = write_gguf(tmp_path / "small.gguf", small(), added=added)
    with pytest.raises(BackboneError, match=r"blk\.1\.attn_gate\.weight"):
        load_backbone(str(path))
    assert load_backbone(str(path), depth=1).config.n_layer == 1


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    decoder = small()
    decoder.state_dict()["h.1.mlp.c_fc.weight"][3, 3] = float("nan")
    path = write_gguf(tmp_path / "small.gguf", decoder)
    with pytest.raises(BackboneError, match=r"h\.1\.mlp\.c_fc\.weight"):
        load_backbone(str(path))


def test_a_type_that_gguf_knows_but_cannot_dequantize_is_named(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "small.gguf", small())
    source = GGUFBackbone(path)
    stored = source.file.tensors["blk.0.ffn_up.weight"]
    source.file.tensors["blk.0.ffn_up.weight"] = replace(stored, type="I32")
    with pytest.raises(BackboneError, match="I32"):
        source.decoder(source.config)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"absent\.gguf"):
        load_backbone(str(tmp_path / "absent.gguf"))
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(BackboneError, match=r"weights\.bin is a file"):
        load_backbone(str(tmp_path / "weights.bin"))
