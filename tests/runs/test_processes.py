"""A run on two processes: what it leaves is that of one process; and what happens when one of them ends."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from miniature import messages, plain_settings, run_cli, write_messages

from lasttoken.core.errors import RankError, SettingsError
from lasttoken.core.machine import LEAST_BYTES
from lasttoken.core.progress import Reporter
from lasttoken.core.workers import Workers
from lasttoken.runs import processes
from lasttoken.runs.train import TrainingRequest, train_run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_messages(tmp_path / "messages.csv", *messages(120))


def request_of(data: Path, backbone: Path, out: Path, **changes: Any) -> TrainingRequest:
    fixed = {"backbone": str(backbone), "metric": "accuracy", **changes}
    return TrainingRequest(data=data, settings=plain_settings(method="tail", **fixed), out=out, workers=2)


def history(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "history.jsonl").read_text("utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name != "evaluation_s"} for line in lines]


class KillingReporter(Reporter):
    """Kills the second process after the first epoch."""

    def __init__(self, started: list[Workers]) -> None:
        self.started = started

    def say(self, sentence: str) -> None:
        """See Reporter."""
        if sentence.startswith("epoch 1.00"):
            self.started[0].processes[0].kill()


def test_a_killed_process_ends_the_run_which_goes_on_with_another_number_of_them(
    data: Path, backbone: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Workers] = []

    class Watched(Workers):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            started.append(self)

    monkeypatch.setattr(processes, "Workers", Watched)
    together = replace(request_of(data, backbone, tmp_path / "two", epochs=2), checkpoint_every_s=0)
    with pytest.raises(RankError, match=r"worker 1 .* signal 9"):
        train_run(replace(together, reporter=KillingReporter(started)))
    assert (tmp_path / "two" / "resume.safetensors").is_file()
    assert not (tmp_path / "two" / "metrics.json").exists()
    n_entries = len(list((own_cache / "features").iterdir()))
    resumed = train_run(replace(together, resume=True, workers=1))
    assert len(list((own_cache / "features").iterdir())) == n_entries  # one process reads what two have computed
    alone = train_run(replace(together, out=tmp_path / "one", workers=1))
    for line, expected in zip(history(tmp_path / "two"), history(tmp_path / "one"), strict=True):
        assert line == pytest.approx(expected, abs=1e-5)
    assert resumed.metrics["splits"].keys() == alone.metrics["splits"].keys()


def test_a_failure_of_another_process_is_the_sentence_of_the_run(
    data: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = processes.Processes.on

    def on(self: processes.Processes, device: Any) -> Any:
        shared = share(self, device)
        assert shared.team is not None
        shared.team.send("classifier", {"backbone": "no-such-backbone", "random_weights": None, "offline": True,
                                        "n_blocks": None, "seed": 1, "config": {}, "trunk": None})  # fmt: skip
        return shared

    monkeypatch.setattr(processes.Processes, "on", on)
    with pytest.raises(RankError, match=r"process 1 of 2 failed: .*no-such-backbone"):
        train_run(request_of(data, backbone, tmp_path / "run"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--workers", "0"], "--workers is 0"),
        (["--workers", "2", "--only-baselines"], "--only-baselines"),
        (["--shard-weights", "on"], "--shard-weights"),
        (["--workers", "2", "--shard-weights", "on"], "--train-blocks"),
    ],
)
def test_what_cannot_be_is_one_sentence(data: Path, tmp_path: Path, arguments: list[str], named: str) -> None:
    answer = run_cli("train", data, "--out", tmp_path / "run", *arguments)
    assert answer.code == 2
    assert named in answer.err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_more_processes_than_rows_and_processes_of_both_kinds(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "Workers", lambda *_: None)
    monkeypatch.setattr("lasttoken.core.machine.free_bytes", lambda: 2 * LEAST_BYTES)
    with pytest.raises(SettingsError, match=r"--workers is 3.*--workers 2"), processes.open_processes(3):
        pass
    monkeypatch.setattr("lasttoken.core.machine.free_bytes", lambda: None)
    with pytest.raises(SettingsError, match="500 processes"), processes.open_processes(500) as opened:
        opened.check(_splits(data), plain_settings())
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(SettingsError, match="4 processes"), processes.open_processes(2):
        pass


def _splits(data: Path) -> Any:
    from lasttoken.data.gather import gather_splits

    return gather_splits(data, plain_settings(), lambda sentence: None)
