"""Ray hands out the parts of a job: actors with a classifier each, which get the next part when they have written one.

    missing parts ─► 7 8 9 …        actor 0 ── 5 ──►  part-000005.csv      one that dies is replaced, and its part
                                    actor 1 ── 6 ──►  part-000006.csv      goes to another

Ray moves part numbers only. The rows go from the input to an actor and from there to the output, and a part that is
written twice has the same bytes, so it does not matter what Ray repeats. Ray core, not Ray Data.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lasttoken.bulk.store import check_shared
from lasttoken.bulk.workers import MOST_DEATHS, given_up
from lasttoken.core.errors import FailedError, LastTokenError, NetworkError, SettingsError
from lasttoken.core.progress import Advance, Reporter
from lasttoken.core.retries import why

if TYPE_CHECKING:
    from lasttoken.bulk.model import Model
    from lasttoken.bulk.store import Store
    from lasttoken.bulk.work import Job, Summary

CONNECT_S = 10.0  # to a cluster
PATIENCE_S = 30.0  # without a worker, until a sentence says what is being waited for
OBJECT_STORE_BYTES = 100 << 20  # of a Ray started here: only numbers go through it, and Ray wants 75 MB at least
LOCAL = {  # the environment of a Ray started here
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listens on the loopback interface only, as it does on those systems
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",  # if its server is killed, the command ends after 5 s and not 60
    "RAY_worker_niceness": "0",  # Ray's 15 lets any other program of the machine go first: 15 times slower beside two
}


@dataclass(frozen=True)
class Cluster:
    """Where Ray runs, and how many actors may work at a time.

    `address` None: Ray is started on this machine, for this job. `most` None: as many as the cluster has CPUs, or GPUs.
    """

    address: str | None = None
    fewest: int = 1
    most: int | None = None


def score_with_ray(job: Job, model: Model, cluster: Cluster = Cluster(), reporter: Reporter | None = None) -> Summary:
    """Write the missing parts of a job with Ray, and then its manifest.

    Raises:
        SettingsError: Ray is not installed, or a Ray of this machine has no GPU for a classifier on CUDA.
        NetworkError: no Ray cluster at the address.
        FailedError: a part that ended its worker `MOST_DEATHS` times, or workers that die before they can work.
        DataError, RunError, StorageError: see `score_part` and `Model.load`.
    """
    reporter = reporter or Reporter()
    check_shared(job.store.url, job.plan.files[0].url)
    job, model = replace(job, store=_absolute(job.store)), replace(model, run=model.run.absolute())
    missing = list(job.missing())
    if missing:
        with connected(cluster) as ray, reporter.bar("classifying", job.n_parts) as advance:
            advance(job.n_parts - len(missing), "")
            pool = _Pool(ray, job, model, cluster, deque(missing), reporter, advance)
            try:
                pool.run()
            finally:
                pool.end()
    summary = job.finish()
    if summary is None:
        raise FailedError(
            f"parts of {job.store.url} were removed while others were written; run the same command again"
        )
    return summary


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """The module ray, connected to a cluster, or to one that runs on this machine while the block does."""
    if cluster.address is None:
        os.environ.update(LOCAL)  # before Ray is imported, which reads them then
    try:
        import ray
    except ImportError as error:
        raise SettingsError(
            "--ray needs Ray, which is not installed; pip install '.[ray]' in lasttoken's folder"
        ) from error
    if ray.is_initialized():  # by the program that calls this
        yield ray
        return
    try:
        _connect(ray, cluster.address)
    except Exception as error:  # Ray raises bare ones too
        reason = " ".join(why(error).split()[:40])
        if cluster.address is None:
            raise FailedError(f"Ray did not start on this machine ({reason}); run the same command again") from error
        raise NetworkError(
            f"no Ray cluster answers at {cluster.address} ({reason}); start one with ray start --head, or give "
            "--ray local"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    """Start Ray here, or connect to the cluster at the address."""
    plain = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init(include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **plain)
        return
    if match := re.fullmatch(r"([\w.-]+):(\d+)", address):  # Ray itself tries for two minutes
        socket.create_connection((match[1], int(match[2])), CONNECT_S).close()
    ray.init(address, **plain)


class Scorer:
    """What an actor runs: it loads the classifier once, and writes one part at a time."""

    def __init__(self, job: Job, model: Model) -> None:
        self._job, self._model = job, model

    def load(self) -> None:
        """Load the classifier; not in `__init__`, so that errors keep their class."""
        from lasttoken.core.process import tune_cpu

        tune_cpu()
        self._predictor = self._model.load(self._job.model)

    def score(self, number: int) -> int:
        """Write a part; the number of its rows."""
        from lasttoken.bulk.parting import score_part

        return score_part(self._job, number, self._predictor).counts.n_rows


@dataclass
class _Pool:
    """The actors, what each is doing, and the parts that wait."""

    ray: Any
    job: Job
    model: Model
    cluster: Cluster
    waiting: deque[int]
    reporter: Reporter
    advance: Advance
    busy: dict[Any, tuple[Any, int | None]] = field(default_factory=dict)  # call → actor, its part; None: it loads
    deaths: Counter[int] = field(default_factory=Counter)  # of workers, by the part that each was on
    lost: dict[int, str] = field(default_factory=dict)  # parts that nobody could write → why

    def run(self) -> None:
        """Hand out all parts; parts that end their workers are named when the others are written."""
        resource = "GPU" if self.job.model.get("device") == "cuda" else "CPU"
        available = int(self.ray.cluster_resources().get(resource, 0))
        if not available and self.cluster.address is None:
            raise SettingsError(
                f"the classifier was asked for on cuda, and Ray finds no {resource} here; use --device cpu"
            )
        most = max(self.cluster.most or available, self.cluster.fewest, 1)
        actor = self.ray.remote(Scorer).options(**_resources(resource), max_restarts=0, max_task_retries=0)
        started, n_rows, n_failed_loads, patient = time.monotonic(), 0, 0, True
        shared = self.ray.put(self.job)
        while self.waiting or any(part is not None for _, part in self.busy.values()):
            for _ in range(self._n_wanted(most)):
                worker = actor.remote(shared, self.model)
                self.busy[worker.load.remote()] = (worker, None)
            done, _ = self.ray.wait(list(self.busy), timeout=PATIENCE_S)
            if not done and patient and all(part is None for _, part in self.busy.values()):
                patient = False
                self.reporter.say(f"waiting for a worker: each needs a {resource}, and the cluster has none free")
            for call in done:
                worker, part = self.busy.pop(call)
                try:
                    result = self.ray.get(call)
                except self.ray.exceptions.RayTaskError as error:
                    raise (error.cause if isinstance(error.cause, LastTokenError) else error) from None
                except self.ray.exceptions.RayError as error:
                    n_failed_loads += part is None
                    self._bury(part, error, n_failed_loads)
                    continue
                if part is None:
                    n_failed_loads = 0
                else:
                    n_rows += result
                    self.advance(1, f"{n_rows / (time.monotonic() - started):,.0f} rows/s")
                self._give(worker)
        if self.lost:
            raise FailedError(self._sentence())

    def _n_wanted(self, most: int) -> int:
        """How many actors to start: `fewest` at first, then twice as many whenever all have loaded and parts wait."""
        n, n_loading = len(self.busy), sum(part is None for _, part in self.busy.values())
        wanted = self.cluster.fewest if n < self.cluster.fewest else n if n_loading else 2 * n
        return max(0, min(wanted, most, n + len(self.waiting) - n_loading) - n)

    def _give(self, worker: Any) -> None:
        """Give a free actor the next part; without one, its resources go back to the cluster."""
        if self.waiting:
            part = self.waiting.popleft()
            self.busy[worker.score.remote(part)] = (worker, part)
        else:
            self.ray.kill(worker)

    def _bury(self, part: int | None, error: Exception, n_failed_loads: int) -> None:
        """Put the part of an actor that has died back, unless it has ended `MOST_DEATHS` of them."""
        reason = " ".join(str(error).split()[-40:])
        if part is None:
            if n_failed_loads >= MOST_DEATHS:
                raise FailedError(
                    f"{MOST_DEATHS} workers in a row died while they loaded the classifier ({reason}); give each "
                    "more memory"
                ) from error
            return
        self.reporter.say(f"a worker ended on part {part}; another takes its place")
        self.deaths[part] += not getattr(
            error, "preempted", False
        )  # a machine that is taken away is not the part's fault
        if self.deaths[part] >= MOST_DEATHS:
            self.lost[part] = reason
            if len(self.lost) >= MOST_DEATHS:
                raise FailedError(self._sentence()) from error
        else:
            self.waiting.appendleft(part)

    def _sentence(self) -> str:
        first = next(iter(self.lost))
        return given_up(self.lost, "give workers more memory", self.job.plan.piece(first).file.url)

    def end(self) -> None:
        """End the actors that are left."""
        for worker, _ in self.busy.values():
            self.ray.kill(worker)


def _absolute(store: Store) -> Store:
    """The same folder for a process that works in another one."""
    return store if not store.is_local else type(store)(f"{store.folder.absolute()}/")


def _resources(resource: str) -> dict[str, int]:
    """What one actor reserves."""
    return {"num_gpus": 1, "num_cpus": 1} if resource == "GPU" else {"num_cpus": 1}
