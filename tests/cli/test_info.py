"""`lasttoken info`: the facts about a run or a backbone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from miniature import run_cli

from lasttoken.backbone.catalog import BACKBONES


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


def test_info_knows_the_bundled_backbone_by_name(bundled_default: str) -> None:
    facts = json.loads(run_cli("info", bundled_default, "--json", "--offline").out)
    assert (facts["backbone"], facts["n_embd"], facts["n_layer"]) == (bundled_default, 576, 16)
    assert facts["licence"] == "Apache-2.0"
    assert facts["download"] == "none, 47 MB in the package"
    assert facts["file"]["cut_from_blocks"] == 30
    assert facts["prompt"] == BACKBONES["smollm2-135m-q4"].prompt


@pytest.mark.parametrize("name", ["llama-3.2-1b", "smollm2-135m-q4"])
def test_info_of_a_name_that_is_not_fetched_shows_what_is_known_and_fetches_nothing(
    name: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(own_cache / "hub"))
    facts = json.loads(run_cli("info", name, "--json").out)
    assert (facts["backbone"], facts["fetched"], "n_layer" in facts) == (name, False, False)
    assert facts["licence"] == BACKBONES[name].licence
    assert facts["gated"] is BACKBONES[name].gated
    assert not [path for path in own_cache.rglob("*") if path.is_file()]


def test_info_without_a_name_lists_the_backbones() -> None:
    assert json.loads(run_cli("info", "--json").out).keys() == BACKBONES.keys()
    assert "qwen3-0.6b\tQwen3-0.6B, 596 million parameters" in run_cli("info").out


def test_info_as_text_shows_no_values_as_python_writes_them(run_dir: Path) -> None:
    text = run_cli("info", run_dir).out
    assert "labels\tham, spam\n" in text
    assert not any(part in text for part in ("['", "[]", "False", "True", "None"))


def test_info_of_a_file_names_it(data: Path) -> None:
    answer = run_cli("info", data)
    assert (answer.code, f"{data} is a file" in answer.err) == (2, True)
