"""The folder for peft: its logits are ours, in a fresh process too; head and norm are always in it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.conftest import MakeRun
from lora_runs import make_lora_run, write_base
from miniature import run_cli
from safetensors.torch import load_file

from lasttoken.classifier.predict import Predictor
from lasttoken.export import adapter
from lasttoken.export.checking import logits_of, quiet

FRESH = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer
base, folder, text = sys.argv[1:]
model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3, dtype="float32")
model = PeftModel.from_pretrained(model, folder).eval()
ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"]
print(json.dumps(model(input_ids=ids).logits[0].tolist()))
"""


def export(run: Path, out: Path, *flags: object) -> dict[str, Any]:
    answer = run_cli("export", run, "--to", "peft", "--out", out, "--json", *flags)
    assert answer.code == 0, answer.err
    return json.loads(answer.out)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "lora"),
    [
        ("gpt2", {}),
        ("gpt2", {"blocks": 3, "matrices": ("o",), "scale": "alpha", "alpha": 0.5}),
        ("llama", {"blocks": 2, "matrices": ("q", "down")}),
        ("qwen3", {}),
        ("gemma3_text", {}),
    ],
)
def test_peft_computes_our_logits(name: str, lora: dict[str, Any], tmp_path: Path) -> None:
    run = make_lora_run(tmp_path / "run", write_base(tmp_path / "base", name), **lora)
    assert export(run, tmp_path / "out")["largest_difference"] < 1e-4
    content = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert content["task_type"] == "SEQ_CLS"
    assert content["fan_in_fan_out"] is (name == "gpt2")
    factor = lora.get("alpha", 6) / (1 if lora.get("scale") == "alpha" else 3)
    assert content["lora_alpha"] / content["r"] == pytest.approx(factor)
    assert len(content["layers_to_transform"]) == lora.get("blocks", 1)


@pytest.mark.slow
def test_a_fresh_process_gets_the_trained_head_and_norm(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "gpt2")
    run = make_lora_run(tmp_path / "run", base)
    export(run, tmp_path / "out")
    names = {name.removeprefix("base_model.model.") for name in load_file(tmp_path / "out/adapter_model.safetensors")}
    assert {"score.weight", "transformer.ln_f.weight", "transformer.ln_f.bias"} <= names
    command = [sys.executable, "-W", "ignore", "-c", FRESH, str(base), str(tmp_path / "out"), "see you at six"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = logits_of(Predictor.load(run, "cpu"), ("see you at six",))[0]
    np.testing.assert_allclose(json.loads(answer.stdout.splitlines()[-1]), expected, atol=1e-4)


def test_the_readme_loads_it_where_the_classifier_uses_a_part_of_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_lora_run(tmp_path / "run", write_base(tmp_path / "base", "llama"), depth=2)
    answer = run_cli("export", run, "--to", "peft", "--out", tmp_path / "out")
    assert "first 2 of 3 blocks" in answer.err
    code = (tmp_path / "out" / "README.md").read_text().split("```python")[1].split("```")[0]
    scope: dict[str, Any] = {}
    with quiet():
        exec(code.replace("THIS FOLDER", str(tmp_path / "out")).replace("a text", "see you at six"), scope)
    expected = logits_of(Predictor.load(run, "cpu"), ("see you at six",))
    np.testing.assert_allclose(scope["logits"].detach(), expected, atol=1e-4)


def test_a_base_that_transformers_cannot_load_is_written_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_lora_run(tmp_path / "run", write_base(tmp_path / "base", "gpt2"))
    monkeypatch.setattr(adapter, "holds_transformers_files", lambda path: False)
    answer = run_cli("export", run, "--to", "peft", "--out", tmp_path / "out")
    assert answer.code == 2
    assert "--with-base" in answer.err
    assert not (tmp_path / "out").exists()
    assert export(run, tmp_path / "out", "--with-base")["largest_difference"] < 1e-4
    assert (tmp_path / "out" / "base" / "model.safetensors").is_file()
    content = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert content["base_model_name_or_path"] == str(tmp_path / "out" / "base")


def test_a_run_without_an_adapter_says_how_to_train_one(make_run: MakeRun, tmp_path: Path) -> None:
    answer = run_cli("export", make_run(), "--to", "peft", "--out", tmp_path / "out")
    assert answer.code == 2
    assert "--keep-adapter" in answer.err
    assert "--with-base" in run_cli("export", make_run(), "--to", "hf", "--with-base", "--out", tmp_path / "out").err


def test_without_peft_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_lora_run(tmp_path / "run", write_base(tmp_path / "base", "gpt2"))
    monkeypatch.setattr(adapter, "find_spec", lambda name: None if name == "peft" else find_spec(name))
    assert (
        "peft or transformers is not installed" in run_cli("export", run, "--to", "peft", "--out", tmp_path / "out").err
    )
