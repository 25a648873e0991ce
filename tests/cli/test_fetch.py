"""`lasttoken fetch`: names, paths, and no network with --offline."""

from __future__ import annotations

import json
from pathlib import Path

from miniature import run_cli


def test_fetch_without_a_name_lists_the_catalog() -> None:
    entries = json.loads(run_cli("fetch", "--json").out)
    assert {"sms-spam", "pocket", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"} == entries.keys()
    assert [line.split("\t")[0] for line in run_cli("fetch").out.splitlines()] == list(entries)


def test_fetch_of_the_bundled_backbone_needs_no_network() -> None:
    answer = run_cli("fetch", "pocket", "--offline")
    assert answer.code == 0
    assert (Path(answer.out.strip()) / "model.safetensors").is_file()


def test_fetch_offline_says_where_to_put_the_file(own_cache: Path) -> None:
    answer = run_cli("fetch", "sms-spam", "--offline")
    assert answer.code == 1
    assert len(answer.err.splitlines()) == 1
    assert str(own_cache) in answer.err
