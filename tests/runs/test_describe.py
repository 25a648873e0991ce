"""The facts about a run or a backbone; a folder that is neither is rejected."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from gguf_files import write_gguf
from miniature import N_SMALL_TOKENS, random_gpt

from lasttoken.backbone.pretrained import load_backbone
from lasttoken.core.errors import BackboneError, RunError
from lasttoken.runs.describe import describe


def test_a_run_is_described_by_its_settings_labels_and_versions(run_dir: Path, backbone: Path) -> None:
    facts = describe(str(run_dir))
    metrics = json.loads((run_dir / "metrics.json").read_text("utf-8"))
    assert facts["labels"] == ["ham", "spam"]
    assert facts["backbone"] == str(backbone)
    assert facts["accuracy"] == {name: split["accuracy"] for name, split in metrics["splits"].items()}
    assert facts["settings"]["epochs"] == 3
    assert (facts["reads"], facts["max_length"], facts["multi_label"]) == ("last", 64, False)
    assert len(facts["trunk"]) == 64
    assert {"lasttoken", "torch", "python"} <= facts["versions"].keys()


def test_a_run_that_has_moved_has_the_same_facts(run_dir: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(run_dir, moved)
    assert describe(str(moved), offline=True) == {**describe(str(run_dir)), "run": str(moved)}


def test_a_run_without_run_toml_is_described_without_its_settings(run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "run")
    (tmp_path / "run" / "run.toml").unlink()
    facts = describe(str(tmp_path / "run"))
    assert (facts["settings"], facts["versions"], facts["trunk"]) == ({}, {}, None)
    assert facts["labels"] == ["ham", "spam"]


def test_a_backbone_is_described_by_its_shape(backbone: Path) -> None:
    facts = describe(str(backbone))
    shape = {"n_layer": 3, "n_embd": 32, "n_head": 4, "n_positions": 64, "vocab_size": N_SMALL_TOKENS}
    assert {name: facts[name] for name in shape} == shape
    assert facts["end_of_text_id"] == N_SMALL_TOKENS - 1
    assert facts["parameters"] == sum(p.numel() for p in load_backbone(str(backbone)).decoder.parameters())


def test_what_is_neither_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=re.escape(str(tmp_path))):
        describe(str(tmp_path))
    with pytest.raises(BackboneError, match="there is no run directory no-such-run"):
        describe("no-such-run", offline=True)


def test_a_gguf_says_its_name_licence_and_types(tmp_path: Path) -> None:
    keys = {"general.name": "Miniature", "general.license": "mit"}
    path = write_gguf(tmp_path / "small.gguf", random_gpt(n_inner=64), "Q4_0", keys=keys)
    facts = describe(str(path))
    assert facts["file"] == {"name": "Miniature", "licence": "mit", "tensors": ["27 F32", "12 Q4_0", "1 Q8_0"]}
    assert (facts["n_layer"], facts["vocab_size"]) == (3, N_SMALL_TOKENS)
