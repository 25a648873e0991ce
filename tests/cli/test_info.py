"""`lasttoken info`: the facts about a run or a backbone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from miniature import N_SMALL_TOKENS, run_cli

from lasttoken.backbone.pretrained import load_backbone


def test_info_reports_the_facts_about_a_run(run_dir: Path, backbone: Path) -> None:
    answer = run_cli("info", run_dir, "--json")
    facts = json.loads(answer.out)
    metrics = json.loads((run_dir / "metrics.json").read_text("utf-8"))
    assert answer.err == ""
    assert facts["labels"] == ["ham", "spam"]
    assert facts["backbone"] == str(backbone)
    assert facts["accuracy"] == {name: split["accuracy"] for name, split in metrics["splits"].items()}
    assert facts["settings"]["epochs"] == 3
    assert facts["max_length"] == 64
    assert len(facts["trunk"]) == 64
    assert {"lasttoken", "torch", "python"} <= facts["versions"].keys()


def test_info_as_text_names_the_same_facts(run_dir: Path) -> None:
    lines = run_cli("info", run_dir).out.splitlines()
    shown = dict(line.split("\t", 1) for line in lines if "\t" in line)
    assert shown["run"] == str(run_dir)
    assert shown["  epochs"] == "3"
    assert not any(line.startswith(("{", "[")) for line in lines)


def test_info_works_after_the_run_has_moved(run_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(run_dir, tmp_path / "elsewhere")
    facts = json.loads(run_cli("info", tmp_path / "elsewhere", "--json", "--offline").out)
    assert facts == {**json.loads(run_cli("info", run_dir, "--json").out), "run": str(tmp_path / "elsewhere")}


def test_info_reports_the_shape_of_a_backbone(backbone: Path) -> None:
    facts = json.loads(run_cli("info", backbone, "--json").out)
    shape = {"n_layer": 3, "n_embd": 32, "n_head": 4, "n_positions": 64, "vocab_size": N_SMALL_TOKENS}
    assert {name: facts[name] for name in shape} == shape
    assert facts["end_of_text_id"] == N_SMALL_TOKENS - 1
    assert facts["parameters"] == sum(p.numel() for p in load_backbone(str(backbone)).decoder.parameters())


def test_info_knows_the_bundled_backbone_by_name() -> None:
    facts = json.loads(run_cli("info", "pocket", "--json", "--offline").out)
    assert (facts["backbone"], facts["n_embd"], facts["max_length"]) == ("pocket", 256, 256)
