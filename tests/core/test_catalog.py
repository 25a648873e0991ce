"""The catalog: what it says agrees with the published files, and a wrong name is answered with near ones."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lasttoken.core.catalog import BACKBONES, DATASETS, find_backbone, find_dataset
from lasttoken.core.errors import BackboneError, DataError


def test_sms_entry_is_the_published_file(sms_file: Path) -> None:
    entry = find_dataset("sms-spam")
    content = sms_file.read_bytes()
    assert sms_file.name == entry.member
    assert (len(content), hashlib.sha256(content).hexdigest()) == (entry.member_bytes, entry.sha256)


def test_pocket_entry_is_the_bundled_shape(shared_dir: Path) -> None:
    config = json.loads((shared_dir / "pocket-v0" / "config.json").read_text("utf-8"))
    entry = find_backbone("pocket")
    for name in ("n_embd", "n_layer", "n_head", "n_positions", "vocab_size"):
        assert getattr(entry, name) == config[name], name
    assert entry.hub_id is None
    assert entry.max_length == 256 < entry.n_positions


# Parameters of a tied GPT-2: token and position tables, 12 C^2 + 13 C in each block, the final norm.
@pytest.mark.parametrize(
    ("name", "millions"), [("gpt2", 124), ("gpt2-medium", 355), ("gpt2-large", 774), ("gpt2-xl", 1558)]
)
def test_gpt2_shapes_give_the_published_parameter_counts(name: str, millions: int) -> None:
    entry = find_backbone(name)
    tables = (entry.vocab_size + entry.n_positions) * entry.n_embd
    blocks = entry.n_layer * (12 * entry.n_embd**2 + 13 * entry.n_embd)
    assert round((tables + blocks + 2 * entry.n_embd) / 1e6) == millions
    assert f"{millions:,} million" in entry.description
    assert entry.n_embd // entry.n_head == 64
    assert entry.hub_id == f"openai-community/{name}"


def test_entries_are_found_by_their_own_name() -> None:
    assert all(find_backbone(name).name == name for name in BACKBONES)
    assert all(find_dataset(name).name == name for name in DATASETS)
    assert not set(BACKBONES) & set(DATASETS)


def test_unknown_backbone_names_the_nearest() -> None:
    with pytest.raises(
        BackboneError, match=r"no backbone 'gpt2-meduim'; did you mean 'gpt2-medium'.*a folder, or a hub id"
    ):
        find_backbone("gpt2-meduim")


def test_unknown_dataset_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"no data set 'sms_spam'; did you mean 'sms-spam'"):
        find_dataset("sms_spam")


def test_importing_loads_no_heavy_module() -> None:
    heavy = "{'torch', 'numpy', 'requests', 'huggingface_hub'}"
    modules = "lasttoken.core.catalog, lasttoken.data.datasets, lasttoken.backbone.hub"
    script = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
