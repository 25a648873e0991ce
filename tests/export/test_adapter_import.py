"""Folders of peft become runs with the same logits; what is not computed here is rejected by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
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


def change_tensors(drop: str = "", added: Mapping[str, torch.Tensor] = MappingProxyType({}), cut: str = "") -> Any:
    """Leave out the tensors with `drop` in their names, add some, and cut those with `cut` in their names to rank 0."""

    def change(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        kept = {name: tensor for name, tensor in load_file(path).items() if not drop or drop not in name}
        kept |= {name: tensor[:0] for name, tensor in kept.items() if cut and cut in name}
        save_file(kept | {f"base_model.model.{name}": tensor for name, tensor in added.items()}, path)

    return change


def write_description(**changes: Any) -> Any:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

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
        (change_tensors(added={"other": torch.zeros(3)}), "other"),
        (change_config(lora_alpha=float("nan")), "lora_alpha"),
        (change_config(lora_alpha=1e300), "lora_alpha"),
        (change_config(use_rslora="no"), "use_rslora"),
        (change_tensors("mlp.c_fc"), "mlp.c_fc, which target_modules"),
        (change_tensors(cut="lora_A"), "shape (0, "),
        (change_tensors(added={"score.weight": torch.zeros(3, 32, dtype=torch.int64)}), "int64"),
        (change_tensors(added={"score.weight": torch.zeros(3, 31)}), "score.weight of shape (3, 31)"),
        (change_tensors(added={"score.bias": torch.zeros(2)}), "score.bias of shape (2,)"),
        (change_tensors(added={"wte.lora_embedding_A": torch.zeros(4, 9)}), "wte.lora_embedding_A"),
        (write_description(problem_type="regression"), "regression"),
        (change_tensors(added={"score.weight": torch.ones(1, 32)}), "regression"),
        (write_description(id2label={"0": "ham", "1": "spam", "3": "eggs"}), "label 2"),
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


def test_several_labels_are_recorded_and_another_base_is_named(exported: Path, tmp_path: Path) -> None:
    write_description(problem_type="multi_label_classification")(exported)
    change_config(base_model_name_or_path="someone/else")(exported)
    answer = run_cli("import", exported, "--base", tmp_path / "base", "--out", tmp_path / "again")
    assert answer.code == 0, answer.err
    assert "names the base someone/else" in answer.err
    assert json.loads((tmp_path / "again" / "metrics.json").read_text())["multi_label"] is True


def test_flags_of_the_books_weights_are_not_those_of_a_lora(exported: Path, tmp_path: Path) -> None:
    answer = run_cli("import", exported, "--base", tmp_path / "base", "--heads", 3, "--out", tmp_path / "again")
    assert answer.code == 2
    assert "--heads" in answer.err


def test_base_and_labels_belong_to_the_folder(exported: Path, tmp_path: Path) -> None:
    assert "--base" in run_cli("import", exported, "--out", tmp_path / "again").err
    answer = run_cli("import", exported, "--base", tmp_path / "base", "--labels", "a,b", "--out", tmp_path / "again")
    assert "3 outputs" in answer.err
