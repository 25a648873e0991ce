"""Processes that do not find each other, and machines that cannot share; messages are tested with the trainings."""

from __future__ import annotations

import socket

import pytest
from torch._C._distributed_c10d import TCPStore

from lasttoken.core.errors import RankError, SettingsError
from lasttoken.core.ranks import Rank
from lasttoken.core.team import check_devices, connect


def test_an_address_that_nobody_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RankError, match=f"127.0.0.1:{port}"):
        connect(Rank(1, 2), timeout_s=0.5)


def test_a_missing_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(SettingsError, match="MASTER_ADDR"):
        connect(Rank(1, 2), timeout_s=0.5)


def test_a_process_that_never_comes_is_missed() -> None:
    store = TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False)
    with pytest.raises(RankError, match="1 of 2"):
        connect(Rank(0, 2, 0, 2), store, timeout_s=0.2)


def test_a_process_that_has_ended_before_it_came_is_reported() -> None:
    store = TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False)
    with pytest.raises(RankError, match="worker 1 was killed"):
        connect(Rank(0, 2, 0, 2), store, lambda: "worker 1 was killed")


def test_devices_that_cannot_be_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    check_devices(Rank(0, 64, 0, 64), "cpu")
    with pytest.raises(SettingsError, match="mps"):
        check_devices(Rank(0, 2, 0, 2), "mps")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    check_devices(Rank(0, 2, 0, 1), "cuda")  # a GPU on each of two machines
    with pytest.raises(SettingsError, match="2 processes"):
        check_devices(Rank(0, 2, 0, 2), "cuda")
