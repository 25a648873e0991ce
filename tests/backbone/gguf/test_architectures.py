"""Each architecture of GGUF files as a miniature: config and tensors of the network that it was made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from gguf_files import write_gguf
from miniature import random_gpt
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from lasttoken.backbone.decoder import Decoder
from lasttoken.backbone.families import family_of
from lasttoken.backbone.packing import Packing
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.backbone.rotary.config import Rope, RotaryConfig
from lasttoken.backbone.rotary.families import (
    Gemma3TextConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)
from lasttoken.core.errors import BackboneError

SIZES: dict[str, Any] = {
    "vocab_size": 261,
    "n_positions": 48,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_kv_heads": 2,
    "head_dim": 16,  # heads are wider together than the network
    "n_inner": 64,
    "norm_epsilon": 1e-5,
}
LLAMA3 = Rope(5e5, "llama3", 32.0, original_positions=8192, low_freq_factor=1.0, high_freq_factor=4.0)
MINIATURES: dict[str, RotaryConfig] = {
    "llama": LlamaConfig(**SIZES, rope=Rope(1e5)),
    "llama with biases": LlamaConfig(**SIZES, rope=Rope(1e4, "linear", 2.0), attention_biases="all", mlp_bias=True),
    "llama3": LlamaConfig(**SIZES, rope=LLAMA3),
    "mistral": MistralConfig(**SIZES, rope=Rope(1e4), window=5, windowed_blocks=(0, 1, 2)),
    "qwen2": Qwen2Config(**SIZES, rope=Rope(1e6)),
    "qwen3": Qwen3Config(**SIZES, rope=Rope(1e6)),
    "gemma3": Gemma3TextConfig(
        **SIZES | {"n_layer": 7},
        rope=Rope(1e6, "linear", 8.0),
        local_rope=Rope(1e4),
        window=5,
        windowed_blocks=(0, 1, 2, 3, 4, 6),
        activation="gelu_tanh",
        attention_scale=0.25,
        embedding_multiplier=32**0.5,
    ),
    "olmo2": Olmo2Config(**SIZES, rope=Rope(5e5)),
    "granite": GraniteConfig(
        **SIZES,
        rope=Rope(1e4),
        attention_scale=0.25,
        embedding_multiplier=6.0,
        residual_multiplier=0.5,
        logits_divisor=3.0,
    ),
    "smollm3": SmolLM3Config(**SIZES | {"n_layer": 5}, rope=Rope(2e6), blocks_without_rope=(3,)),
}
BY_TRANSFORMERS: dict[str, dict[str, Any]] = {  # its loader takes these values as given
    "llama": {"head_dim": 8},
    "qwen2": {"head_dim": 8},
    "qwen3": {"head_dim": 128},
    "gemma3": {"head_dim": 256, "attention_scale": 256**-0.5, "rope": Rope(1e6)},
}
TEXT = torch.arange(1, 41) * 6


@pytest.fixture(params=sorted(MINIATURES))
def config(request: pytest.FixtureRequest) -> RotaryConfig:
    return MINIATURES[request.param]


def random_decoder(config: RotaryConfig) -> Decoder:
    decoder = family_of(config).build(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            is_vector = parameter.dim() == 1
            mean, scale = (0.5 if name.endswith("weight") else 0.0, 0.3) if is_vector else (0.0, 0.2)
            parameter.copy_(torch.empty(parameter.shape).normal_(mean, scale, generator=generator))
    return decoder.requires_grad_(False).eval()


def write(path: Path, decoder: Decoder, quantization: str = "F32", **arguments: Any) -> Path:
    config = decoder.config
    assert isinstance(config, RotaryConfig)
    added = {"rope_freqs.weight": llama3_factors(config)} if config.rope.scaling == "llama3" else {}
    return write_gguf(path, decoder, quantization, added=added, **arguments)


def llama3_factors(config: RotaryConfig) -> NDArray[np.float32]:
    """As llama.cpp's converter computes them, in a loop over the frequencies."""
    rope, factors = config.rope, []
    for pair in range(0, config.head_dim, 2):
        wavelength = 2 * np.pi * rope.theta ** (pair / config.head_dim)
        low, high = (rope.original_positions / limit for limit in (rope.low_freq_factor, rope.high_freq_factor))
        if wavelength < high:
            factors.append(1.0)
        elif wavelength > low:
            factors.append(rope.factor)
        else:
            smooth = (rope.original_positions / wavelength - rope.low_freq_factor) / (
                rope.high_freq_factor - rope.low_freq_factor
            )
            factors.append(1 / ((1 - smooth) / rope.factor + smooth))
    return np.array(factors, dtype=np.float32)


@torch.no_grad()
def logits(decoder: Decoder) -> Tensor:
    return decoder.logits(decoder(TEXT, Packing([24, 16])))


@pytest.mark.parametrize("tied", [True, False])
def test_in_float32_it_is_the_network_that_was_written(tmp_path: Path, config: RotaryConfig, tied: bool) -> None:
    decoder = random_decoder(replace(config, tied=tied))
    loaded = load_backbone(str(write(tmp_path / "small.gguf", decoder))).decoder
    assert loaded.config == decoder.config
    for name, tensor in decoder.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=3e-7, rtol=0, msg=name)
        if config.norm_plus_one is False:
            assert torch.equal(loaded.state_dict()[name], tensor), name
    torch.testing.assert_close(logits(loaded), logits(decoder), atol=1e-4, rtol=0)


@pytest.mark.parametrize("quantization", ["Q8_0", "Q4_0"])
def test_quantized_matrices_are_the_dequantized_ones(tmp_path: Path, config: RotaryConfig, quantization: str) -> None:
    decoder = random_decoder(config)
    loaded = load_backbone(str(write(tmp_path / "small.gguf", decoder, quantization))).decoder
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if parameter.dim() == 2:
                type_ = GGMLQuantizationType["Q8_0" if "embed_tokens" in name else quantization]
                parameter.copy_(torch.from_numpy(dequantize(quantize(parameter.numpy(), type_), type_)))
                assert torch.equal(loaded.get_parameter(name), parameter), name
                assert torch.equal(loaded.quantized[name].dequantize(), parameter), name
    torch.testing.assert_close(logits(loaded), logits(decoder), atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*BY_TRANSFORMERS, "gpt2"])
def test_logits_are_those_of_transformers_own_loader(tmp_path: Path, name: str) -> None:
    if name == "gpt2":
        path = write_gguf(tmp_path / "small.gguf", random_gpt(n_positions=1024), "Q8_0")
    else:
        config = replace(MINIATURES[name], **BY_TRANSFORMERS[name])
        path = write(tmp_path / "small.gguf", random_decoder(config), "Q8_0")
    ours = load_backbone(str(path)).decoder
    with torch.no_grad():
        expected = loaded_by_transformers(path)(TEXT[None, :24]).logits[0]
        torch.testing.assert_close(ours.logits(ours(TEXT[:24], Packing([24]))), expected, atol=1e-4, rtol=0)


def loaded_by_transformers(path: Path) -> Any:
    """The network that transformers makes of a GGUF; its `from_pretrained` would ask for another package."""
    load: Any = load_gguf_checkpoint  # it has no types
    settings = load(str(path), return_tensors=False)["config"]
    network: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings))  # type: ignore[no-untyped-call]
    tensors = load(str(path), return_tensors=True, model_to_load=network)["tensors"]
    missing, unknown = network.load_state_dict(tensors, strict=False)
    assert set(missing) <= {"lm_head.weight"}
    assert not unknown
    network.tie_weights()
    return network.eval()


def test_the_first_blocks_alone_can_be_read(tmp_path: Path, config: RotaryConfig) -> None:
    decoder = random_decoder(config)
    path = write(tmp_path / "small.gguf", decoder, "Q8_0")
    whole, first = load_backbone(str(path)).decoder, load_backbone(str(path), depth=2).decoder
    assert first.config == config.cut_to(2)
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in first.state_dict().items())


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        ("llama", {"llama.rope.scaling.type": "longrope"}, "longrope"),
        ("llama", {"llama.rope.dimension_count": 8}, "different widths"),
        ("llama", {"llama.attention.head_count_kv": [2, 2, 1]}, "head_count_kv"),
        ("llama", {"llama.attention.head_count": 0}, "num_attention_heads"),
        ("llama", {"llama.attention.layer_norm_rms_epsilon": None}, "layer_norm_rms_epsilon"),
        ("llama3", {"llama.rope.freq_base": 1e4}, r"rope_freqs\.weight"),
        ("olmo2", {"olmo2.attention.sliding_window": 4096}, "OLMo 3"),
        ("gemma3", {"gemma3.attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("qwen3", {"general.architecture": "qwen3moe"}, "'qwen3moe'"),
    ],
)
def test_what_cannot_be_computed_is_named(tmp_path: Path, name: str, keys: dict[str, Any], words: str) -> None:
    path = write(tmp_path / "small.gguf", random_decoder(MINIATURES[name]), keys=keys)
    with pytest.raises(BackboneError, match=words):
        load_backbone(str(path))
