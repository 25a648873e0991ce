"""Folders of peft become runs with the same logits; what is not computed here is rejected by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lora_runs import make_lora_run, write_base
from miniature import run_cli, small_tokenizer
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from lasttoken.classifier.predict import Predictor
from lasttoken.export.checking import logits_of, quiet

TEXTS = ("a", "see you at six", "win a prize " * 3)
MODULES = {"gpt2": ["c_attn", "mlp.c_proj"], "qwen3": ["q_proj", "up_proj"]}


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "qwen3"])
@pytest.mark.parametrize("use_rslora", [False, True])
def test_what_peft_saved_gives_its_logits(name: str, use_rslora: bool, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", name)
    pattern = {MODULES[name][1]: 5}
    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2, dtype="float32")
        config = LoraConfig(
            task_type="SEQ_CLS", r=4, lora_alpha=6, target_modules=MODULES[name], layers_to_transform=[1, 2],
            rank_pattern=pattern, alpha_pattern=pattern, use_rslora=use_rslora,
        )  # fmt: skip
        wrapped = get_peft_model(model, config).eval()
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(4))
        wrapped.save_pretrained(str(tmp_path / "peft"))
    answer = run_cli("import", tmp_path / "peft", "--base", base, "--labels", "ham,spam", "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    predictor = Predictor.load(tmp_path / "run", "cpu")
    assert predictor.classifier.config.train_blocks == "2"
    expected = [wrapped(input_ids=torch.tensor([small_tokenizer().encode(text)])).logits[0].numpy() for text in TEXTS]
    np.testing.assert_allclose(logits_of(predictor, TEXTS), expected, atol=1e-4)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """An export of ours."""
    run = make_lora_run(tmp_path / "run", write_base(tmp_path / "base", "gpt2"), depth=2)
    assert run_cli("export", run, "--to", "peft", "--out", tmp_path / "out").code == 0
    return tmp_path / "out"


def test_an_export_comes_back_with_its_labels_and_depth(exported: Path, tmp_path: Path) -> None:
    answer = run_cli("import", exported, "--base", tmp_path / "base", "--out", tmp_path / "again")
    assert answer.code == 0, answer.err
    ours, again = (Predictor.load(tmp_path / name, "cpu") for name in ("run", "again"))
    assert again.labels == ours.labels
    assert again.classifier.config.max_length == 40
    np.testing.assert_allclose(logits_of(again, TEXTS), logits_of(ours, TEXTS), atol=1e-5)


def change_config(**changes: Any) -> Any:
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def change_tensors(drop: str = "", **added: torch.Tensor) -> Any:
    def change(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        kept = {name: tensor for name, tensor in load_file(path).items() if not drop or drop not in name}
        save_file(kept | {f"base_model.model.{name}": tensor for name, tensor in added.items()}, path)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_config(use_dora=True), "use_dora"),
        (change_config(task_type="CAUSAL_LM"), "task_type"),
        (change_config(peft_type="LOHA"), "peft_type"),
        (change_config(init_lora_weights="pissa"), "init_lora_weights"),
        (change_config(a_field_of_the_future={"x": 1}), "a_field_of_the_future"),
        (change_config(alpha_pattern={"(a+)+": 3}), "alpha_pattern"),
        (change_config(alpha_pattern=[3]), "alpha_pattern"),
        (change_config(lora_alpha="much"), "lora_alpha"),
        (change_tensors("score.weight"), "score.weight"),
        (change_tensors("mlp.c_fc.lora_B"), "mlp.c_fc"),
        (change_tensors(other=torch.zeros(3)), "other"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "adapter_model.safetensors"),
        (lambda folder: (folder / "adapter_config.json").unlink(), "adapter_config.json"),
        (lambda folder: (folder / "config.json").unlink(), "--labels"),
    ],
)
def test_what_is_not_computed_here_is_rejected_by_name(
    change: Any, message: str, exported: Path, tmp_path: Path
) -> None:
    change(exported)
    answer = run_cli("import", exported, "--base", tmp_path / "base", "--out", tmp_path / "again")
    assert answer.code == 2, answer.err
    assert message in answer.err
    assert not (tmp_path / "again").exists()


def test_base_and_labels_belong_to_the_folder(exported: Path, tmp_path: Path) -> None:
    assert "--base" in run_cli("import", exported, "--out", tmp_path / "again").err
    answer = run_cli("import", exported, "--base", tmp_path / "base", "--labels", "a,b", "--out", tmp_path / "again")
    assert "3 outputs" in answer.err
