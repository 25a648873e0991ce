"""The flags of `predict --ray`: what is rejected before anything is read."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NoReturn

import pytest
from miniature import run_cli

from lasttoken.bulk.engines.ray import Cluster
from lasttoken.core.errors import NetworkError


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--ray", "local", "--output", "out.csv"], "--ray"),
        (["--ray", "local", "--output", "out/", "--workers", "2"], "--workers"),
        (["--ray", "local", "--output", "out/", "--shard", "0/2"], "--shard"),
        (["--ray-actors", "1,2", "--output", "out/"], "--ray-actors"),
        (["--ray", "local", "--ray-actors", "3,2", "--output", "out/"], "--ray-actors"),
        (["--ray", "local", "--ray-actors", "2", "--output", "out/"], "--ray-actors"),
    ],
)
def test_what_makes_no_sense_with_ray_names_the_flag(
    flags: list[str], named: str, run_dir: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run_cli("predict", run_dir, "--input", data, *flags)
    assert answer.code == 2
    assert named in answer.err
    assert list(tmp_path.iterdir()) == []


def test_without_ray_nothing_is_begun(
    run_dir: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else found(name))
    answer = run_cli("predict", run_dir, "--input", data, "--output", "out/", "--ray", "local")
    assert answer.code == 2
    assert ".[ray]" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_without_a_cluster_nothing_is_begun(
    run_dir: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(cluster: Cluster) -> NoReturn:
        raise NetworkError(f"no Ray cluster answers at {cluster.address}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr("lasttoken.bulk.engines.ray.connected", unreachable)
    answer = run_cli("predict", run_dir, "--input", data, "--output", "out/", "--ray", "10.0.0.7:6379")
    assert answer.code == 1
    assert "10.0.0.7:6379" in answer.err
    assert list(tmp_path.iterdir()) == []
