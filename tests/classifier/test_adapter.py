"""The folder that --keep-adapter writes: peft's names and fields, and updates that give the merged weights again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from miniature import classifier_of, random_gpt
from safetensors.torch import load_file

from lasttoken.classifier.adapter import save_adapter
from lasttoken.classifier.lora import LoraConfig


@pytest.mark.parametrize("scale", ["alpha/rank", "alpha"])
def test_the_adapter_gives_the_merged_weights(scale: str, tmp_path: Path) -> None:
    gpt = random_gpt(n_embd=16, n_layer=3, n_head=4)
    classifier = classifier_of(gpt, lora=LoraConfig(2, 6.0, 2, ("o",), scale=scale))
    with torch.no_grad():
        for name, parameter in classifier.trained().items():
            if name.endswith("lora_B"):
                parameter.normal_()
    before = gpt.get_parameter("h.2.attn.c_proj.weight").clone()
    save_adapter(tmp_path / "adapter", classifier)
    classifier.merge()
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text("utf-8"))
    layer = "base_model.model.transformer.h.2.attn.c_proj"
    a, b = tensors[f"{layer}.lora_A.weight"], tensors[f"{layer}.lora_B.weight"]
    merged = before + config["lora_alpha"] / config["r"] * b @ a
    torch.testing.assert_close(gpt.get_parameter("h.2.attn.c_proj.weight"), merged, atol=1e-6, rtol=0)
    whole = {name.removeprefix("base_model.model.") for name in tensors if ".lora_" not in name}
    assert whole == {"transformer.ln_f.weight", "transformer.ln_f.bias", "score.weight", "score.bias"}
    assert config["target_modules"] == ["attn.c_proj"]  # c_proj alone would be the MLP's too
    assert config["layers_to_transform"] == [1, 2]
    assert config["modules_to_save"] == ["transformer.ln_f", "score"]
