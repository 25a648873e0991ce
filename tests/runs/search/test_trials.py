"""The trials of a search: the default settings first, every finished one kept in the file, the same for a seed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lasttoken.core.config import Settings
from lasttoken.core.errors import DivergedError, RunError, StorageError
from lasttoken.core.progress import Reporter
from lasttoken.runs.search import trials as module
from lasttoken.runs.search.space import Space, search_space
from lasttoken.runs.search.trials import Trials, open_trials
from lasttoken.runs.search.workbench import Scored, StoppedError
from lasttoken.training.held_out import Score

TAIL = Settings(
    method="tail", depth="6", train_blocks="2", read="mean", learning_rate=1e-3, epochs=4, batch_size=16,
    start_head="drawn", keep="last",
)  # fmt: skip
LINEAR = Settings(method="linear", depth="4", train_blocks="head", read="mean")


class Bench:
    """In place of a workbench: the loss is a function of the settings."""

    def __init__(self, fails_at: int = -1, stops_at: int = -1) -> None:
        self.ran: list[Settings] = []
        self.fails_at, self.stops_at = fails_at, stops_at

    def run(
        self, settings: Settings, report: Callable[[int, Score], bool], should_stop: Callable[[], bool]
    ) -> Scored | None:
        number = len(self.ran)
        self.ran.append(settings)
        if number == self.fails_at:
            raise DivergedError("the loss of step 3 is nan")
        if number == self.stops_at:
            raise StoppedError
        rate = settings.learning_rate or 1e-2
        loss = 0.3 + abs(np.log10(rate / 3e-3)) + (0.2 if settings.method == "linear" else 0.0)
        score = Score(loss, loss, False)
        if settings.method == "tail" and report(0, score):
            return None
        return Scored(score, np.full(5, loss))


def space() -> Space:
    return search_space({"tail": TAIL, "linear": LINEAR}, (), 6, [3, 4, 6], 400)


def opened(path: Path, resume: bool = False, fingerprint: str = "a", seed: int = 123) -> Trials:
    settings = Settings(seed=seed)
    return open_trials(path / "trials.sqlite3", space(), settings, fingerprint, n_affordable=50, resume=resume)


def run(trials: Trials, bench: Any, n: int) -> None:
    trials.run(bench, n, lambda: False, Reporter())


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trials, Bench]:
    trials, bench = opened(tmp_path_factory.mktemp("searched")), Bench()
    run(trials, bench, 14)
    return trials, bench


def test_the_default_settings_come_first_and_the_best_is_no_worse(searched: tuple[Trials, Bench]) -> None:
    trials, bench = searched
    assert bench.ran[:2] == [TAIL, LINEAR]
    default, best = trials.default(), trials.best()
    assert default is not None
    assert best is not None
    assert trials.settings_of(default) == TAIL
    assert trials.losses_of(best).mean() <= trials.losses_of(default).mean()
    records = trials.records()
    assert len(records) == 14
    assert [record.is_default for record in records[:3]] == [True, True, False]
    assert {record.state for record in records} == {"finished", "pruned"}, "poor trials are ended early"
    assert [record.settings["method"] for record in records] == [ran.method for ran in bench.ran]
    assert len(set(bench.ran)) == 14, "no settings are trained twice"
    assert all(trials.space.cost(ran) <= trials.space.most_cost for ran in bench.ran)


def test_a_seed_gives_the_same_trials_and_another_one_others(searched: tuple[Trials, Bench], tmp_path: Path) -> None:
    rans = []
    for name, seed in (("a", 123), ("b", 5)):
        (tmp_path / name).mkdir()
        bench = Bench()
        run(opened(tmp_path / name, seed=seed), bench, 8)
        rans.append(bench.ran)
    assert rans[0] == searched[1].ran[:8]
    assert rans[1] != rans[0]


def test_a_search_goes_on_from_the_file(tmp_path: Path) -> None:
    first = opened(tmp_path)
    run(first, Bench(), 5)
    first.study.ask()  # a trial that was running when the process was killed
    second = opened(tmp_path, resume=True)
    assert [record.settings for record in second.records()] == [record.settings for record in first.records()]
    bench = Bench()
    run(second, bench, 8)
    assert len(bench.ran) == 3
    assert len(second.records()) == 8


def test_a_default_that_was_cut_off_is_tried_again(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.run(Bench(stops_at=0), 1, iter([False, True, True]).__next__, Reporter())  # type: ignore[arg-type]
    assert not first.records()
    bench = Bench()
    run(opened(tmp_path, resume=True), bench, 2)
    assert sorted(ran.method for ran in bench.ran) == ["linear", "tail"]


def test_a_trial_that_was_cut_off_before_its_end_was_written_is_tried_again(tmp_path: Path) -> None:
    first = opened(tmp_path)
    trial, _ = first._proposed()  # type: ignore[misc]
    trial.set_user_attr("seconds", 1.0)  # and the process was killed
    second = opened(tmp_path, resume=True)
    assert not second.counted()
    bench = Bench()
    run(second, bench, 2)
    assert sorted(ran.method for ran in bench.ran) == ["linear", "tail"]
    assert second.default() is not None


def test_a_locked_file_keeps_its_trials_and_a_damaged_one_is_found_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_WAIT_S", 0.01)
    first, path = opened(tmp_path), tmp_path / "trials.sqlite3"
    run(first, Bench(), 2)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for use in (lambda: opened(tmp_path, resume=True), lambda: module.check_readable(path)):
            with pytest.raises(StorageError, match=r"trials\.sqlite3.* locked.* --resume"):
                use()
        with pytest.raises(StorageError, match="locked"):
            run(first, Bench(), 5)
    module.check_readable(path)
    assert len(opened(tmp_path, resume=True).counted()) == 2
    content = path.read_bytes()
    for damaged in (content[:5000], b"no database"):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"trials\.sqlite3 .* without --resume"):
            module.check_readable(path)


def test_another_search_in_the_file_is_rejected(tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(RunError, match=r"trials\.sqlite3"):
        opened(tmp_path, resume=True, fingerprint="b")
    (tmp_path / "trials.sqlite3").write_text("no database")
    with pytest.raises(RunError, match=r"trials\.sqlite3"):
        opened(tmp_path, resume=True)
    run(opened(tmp_path), Bench(), 1)


def test_a_loss_that_is_not_finite_is_a_failed_trial(tmp_path: Path) -> None:
    trials = opened(tmp_path)
    run(trials, Bench(fails_at=2), 4)
    assert [record.state for record in trials.records()].count("failed") == 1
    assert len(trials.records()) == 4


def test_importances_are_shares_of_the_parameters(
    searched: tuple[Trials, Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEWEST_FOR_IMPORTANCES", 2)
    shares = searched[0].importances()
    assert {name.partition(".")[0] for name in shares} <= {"method", "tail", "linear"}
    assert shares
    assert sum(shares.values()) == pytest.approx(1, abs=1e-2)


def test_a_space_that_is_used_up_ends_the_search(tmp_path: Path) -> None:
    small = search_space({"linear": LINEAR}, ("read",), 6, [3, 4, 6], 400)
    trials = open_trials(tmp_path / "t.sqlite3", small, Settings(), "a", n_affordable=50, resume=False)
    bench = Bench()
    run(trials, bench, 40)
    assert sorted(ran.depth or "" for ran in bench.ran) == ["3", "4", "6"]
