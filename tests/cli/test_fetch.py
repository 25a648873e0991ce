"""`lasttoken fetch`: names, paths, and no network with --offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from miniature import run_cli

from lasttoken.backbone.catalog import BACKBONES
from lasttoken.core.default_backbone import BUNDLED


def test_fetch_without_a_name_lists_the_catalog() -> None:
    entries = json.loads(run_cli("fetch", "--json").out)
    assert {"sms-spam", *BACKBONES} == entries.keys()
    assert [line.split("\t")[0] for line in run_cli("fetch").out.splitlines()] == list(entries)


def test_fetch_of_the_bundled_backbone_needs_no_network(bundled_default: str) -> None:
    answer = run_cli("fetch", bundled_default, "--offline")
    assert answer.code == 0
    assert Path(answer.out.strip()).is_file()


def test_fetch_of_a_former_backbone_says_what_there_is_now() -> None:
    answer = run_cli("fetch", "pocket")
    assert answer.code == 2
    assert "no longer" in answer.err
    assert BUNDLED in answer.err


@pytest.mark.parametrize("name", ["sms-spam", "smollm2-135m-q4"])
def test_fetch_offline_says_where_to_put_the_file(name: str, own_cache: Path) -> None:
    answer = run_cli("fetch", name, "--offline")
    assert answer.code == 1
    assert len(answer.err.splitlines()) == 1
    assert str(own_cache) in answer.err
