"""Ray hands out every part once, whatever dies; the scheduling with a stand-in for Ray, the rest with Ray itself."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from bulk.conftest import N

from lasttoken.bulk.engines import ray as engine
from lasttoken.bulk.engines.ray import Cluster, _Pool, score_with_ray
from lasttoken.bulk.model import Model
from lasttoken.bulk.parting import score_part
from lasttoken.bulk.store import Store
from lasttoken.bulk.work import Job, JobSettings, open_job
from lasttoken.bulk.workers import MOST_DEATHS
from lasttoken.core.errors import DataError, FailedError, NetworkError, SettingsError
from lasttoken.core.progress import Reporter


class RayError(Exception):
    preempted = False


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class StandIn:
    """The part of Ray's interface that is used; `fate` says what becomes of a call: None, or an exception."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, fate: Callable[[int | None], Exception | None], n_cpus: int = 4) -> None:
        self.fate, self.n_cpus = fate, n_cpus
        self.n_started, self.n_alive, self.most_alive, self.written = 0, 0, 0, Counter[int]()
        self._calls: dict[int, int | None] = {}

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.n_cpus)}

    def put(self, value: Any) -> Any:
        return value

    def remote(self, actor: type) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._start))

    def _start(self, job: Any, model: Any) -> Any:
        self.n_started += 1
        self.n_alive += 1
        self.most_alive = max(self.most_alive, self.n_alive)
        return SimpleNamespace(
            load=SimpleNamespace(remote=lambda: self._call(None)), score=SimpleNamespace(remote=self._call)
        )

    def _call(self, part: int | None) -> int:
        self._calls[len(self._calls)] = part
        return len(self._calls) - 1

    def wait(self, calls: list[int], timeout: float) -> tuple[list[int], list[int]]:
        assert calls
        return calls[:1], calls[1:]

    def get(self, call: int) -> int:
        part = self._calls[call]
        if (error := self.fate(part)) is not None:
            self.n_alive -= not isinstance(error, RayTaskError)
            raise error
        if part is not None:
            self.written[part] += 1
        return 10

    def kill(self, worker: Any) -> None:
        self.n_alive -= 1


def pool_of(ray: StandIn, n_parts: int = 20, cluster: Cluster = Cluster()) -> _Pool:  # noqa: B008
    piece = SimpleNamespace(file=SimpleNamespace(url="in.csv"))
    job: Any = SimpleNamespace(model={"device": "cpu"}, plan=SimpleNamespace(piece=lambda number: piece))
    model: Any = None
    return _Pool(ray, job, model, cluster, deque(range(n_parts)), Reporter(), lambda n, note: None)


def dies_on(part: int | None, times: int, preempted: bool = False) -> Callable[[int | None], Exception | None]:
    left = [times]

    def fate(number: int | None) -> Exception | None:
        if number != part or left[0] == 0:
            return None
        left[0] -= 1
        error = RayError("the worker died: out of memory")
        error.preempted = preempted
        return error

    return fate


def test_every_part_is_written_once_by_at_most_as_many_actors_as_asked() -> None:
    ray = StandIn(lambda part: None)
    pool_of(ray, cluster=Cluster(fewest=2, most=3)).run()
    assert ray.written == Counter(range(20))
    assert (ray.most_alive, ray.n_started, ray.n_alive) == (3, 3, 0)


def test_the_most_actors_are_the_cluster_s_cpus_and_no_more_than_parts() -> None:
    many, few = StandIn(lambda part: None), StandIn(lambda part: None)
    pool_of(many, 50).run()
    pool_of(few, 2, Cluster(fewest=4)).run()
    assert many.most_alive == 4
    assert few.most_alive == 2


@pytest.mark.parametrize(("times", "preempted"), [(1, False), (2, False), (9, True)])
def test_a_part_whose_worker_dies_goes_to_another(times: int, preempted: bool) -> None:
    ray = StandIn(dies_on(7, times, preempted))
    pool_of(ray, cluster=Cluster(fewest=2, most=2)).run()
    assert ray.written == Counter(range(20))
    assert ray.n_started == 2 + times


def test_a_part_that_ends_every_worker_is_named_after_all_others_are_written() -> None:
    ray = StandIn(dies_on(7, 99))
    with pytest.raises(FailedError, match=r"part 7 \(in\.csv\).*out of memory"):
        pool_of(ray).run()
    assert ray.written == Counter(set(range(20)) - {7})


def test_a_job_whose_parts_end_every_worker_is_given_up() -> None:
    ray = StandIn(lambda part: RayError("out of memory") if part is not None else None)
    with pytest.raises(FailedError, match=f"and {MOST_DEATHS - 1} other parts"):
        pool_of(ray).run()
    assert not ray.written


def test_workers_that_die_while_they_load_are_given_up() -> None:
    pool_of(StandIn(dies_on(None, MOST_DEATHS - 1))).run()
    with pytest.raises(FailedError, match="out of memory"):
        pool_of(StandIn(dies_on(None, MOST_DEATHS))).run()


def test_an_error_of_a_part_keeps_its_class_and_its_sentence() -> None:
    ray = StandIn(lambda part: RayTaskError(DataError("row 812 of in.csv")) if part == 3 else None)
    pool = pool_of(ray)
    with pytest.raises(DataError, match=r"^row 812 of in\.csv$"):
        pool.run()
    pool.end()


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match=r"\.\[ray\]"), engine.connected(Cluster()):
        pass


# With Ray ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def local_ray() -> Iterator[Any]:
    pytest.importorskip("ray", reason="needs Ray: pip install -e '.[ray]'")
    with pytest.MonkeyPatch.context() as patch, engine.connected(Cluster()) as ray:
        for name in engine.LOCAL:
            patch.delenv(name)
        yield ray


def test_an_address_where_nothing_listens_is_named_at_once() -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install -e '.[ray]'")
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1:1\b"), engine.connected(Cluster("127.0.0.1:1")):
        pass


def contents(output: Path) -> dict[str, bytes]:
    store = Store(str(output))
    return {name: store.read(name) for name in store.names()}


def test_ray_writes_the_bytes_of_one_process_though_a_worker_is_killed(
    local_ray: Any, run_dir: Path, big: Path, tmp_path: Path
) -> None:
    model = Model(run_dir, "cpu")

    def begun(name: str) -> Job:
        return open_job(str(big), str(tmp_path / name), JobSettings(part_rows=3), model.describe())

    alone, spread = begun("alone"), begun("spread")
    for number in alone.missing():
        score_part(alone, number, model.load())
    killer = threading.Thread(target=kill_a_scorer, args=(tmp_path / "spread",), daemon=True)
    killer.start()
    summary = score_with_ray(spread, model, Cluster(fewest=2, most=2))
    killer.join(20)
    assert alone.finish() is not None
    assert summary.counts.n_rows == N
    assert contents(tmp_path / "spread") == contents(tmp_path / "alone")
    assert {node["NodeManagerAddress"] for node in local_ray.nodes()} == {"127.0.0.1"}
    assert not killer.is_alive()


def kill_a_scorer(output: Path) -> None:
    """Kill -9 a process of an actor once it has written something."""
    while not list(output.glob("part-*.json")):
        time.sleep(0.01)
    for process in psutil.Process().children(recursive=True):
        if "Scorer" in "".join(process.cmdline()):
            os.kill(process.pid, signal.SIGKILL)
            return
