"""What is lost when any one call to the disk fails, the disk fills up from then on, or the process dies there?

    OMP_NUM_THREADS=1 python benchmarks/faults.py
    OMP_NUM_THREADS=1 python benchmarks/faults.py predict.csv train --stride 5

Every job runs once undisturbed, with the calls counted that change its folder: open for writing, write, fsync, rename,
unlink, mkdir, rmdir, truncate, and whole files that compiled libraries write. Then, for every k and each way of
failing, it runs in a fork that is disturbed at call k (a write that kills leaves half of its bytes), and the same
command runs again. Checked after both: no success that is not one, an earlier output or the new one and nothing in
between, and in the end the same bytes and the same names as undisturbed. The table gives the calls of each job, the
disturbed runs, and those that were not as they should be; exit 1 if there were any.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import dataclasses
import errno
import io
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

Way = Literal["kill", "fail", "full"]
WAYS: tuple[Way, ...] = ("kill", "fail", "full")
CALLS = ("replace", "rename", "unlink", "remove", "rmdir", "mkdir", "truncate")
FREEING = ("unlink", "remove", "rmdir", "rename", "replace")  # what a full disk still does
Files = dict[str, bytes]


class Disturbance:
    """Counts the calls that change files below `root`, and disturbs the one with number `at` (from 1; 0: none)."""

    def __init__(self, root: Path, at: int = 0, way: Way = "kill") -> None:
        self.root, self.at, self.way, self.n = str(root), at, way, 0
        self._counting = threading.Lock()

    def reached(self, call: str, path: object = None) -> bool:
        """Count a call; True when the process has to die in it.

        Raises:
            OSError: the call fails.
        """
        if isinstance(path, str | os.PathLike) and os.path.isabs(path) and not os.fspath(path).startswith(self.root):
            return False
        with self._counting:
            self.n += 1
            n = self.n
        if self.at and self.way == "full" and n >= self.at and call not in FREEING:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if n != self.at or self.way == "full":
            return False
        if self.way == "fail":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return True

    def counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """A call that is counted."""

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.reached(name, args[0] if args else None):
                die()
            return real(*args, **kwargs)

        return call

    def opened(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """`open`, with a count of the calls that write."""
        disturbance = self

        class Counted(io.FileIO):
            def write(self, content: Any, /) -> int:
                if disturbance.reached("write"):
                    super().write(memoryview(content).cast("B")[: memoryview(content).nbytes // 2])
                    die()
                return super().write(content)

        def call(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **more: Any) -> Any:
            writes = set(mode) & set("wax+") and isinstance(file, str | os.PathLike) and "opener" not in more
            if not writes or not os.path.abspath(file).startswith(self.root):
                return real(file, mode, buffering, *args, **more)
            if self.reached("open", file):
                die()
            raw = Counted(os.fspath(file), mode.replace("b", "").replace("t", ""))
            buffered: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, *args, **more)

        return call

    def apply(self) -> None:
        """Patch this process, for good."""
        import pyarrow.parquet

        weights: Any = import_module("lasttoken.backbone.weights")

        for name in CALLS:
            setattr(os, name, self.counted(name, getattr(os, name)))
        os.fsync = self.counted("fsync", lambda file: None)  # a process that dies loses nothing that it has written
        save_file = weights.save_file
        weights.save_file = lambda tensors, path, **more: self._whole(path, lambda: save_file(tensors, path, **more))
        write_table = pyarrow.parquet.write_table
        pyarrow.parquet.write_table = lambda table, path, **more: self._whole(path, lambda: write_table(table, path))
        io.open = builtins.open = self.opened(io.open)

    def _whole(self, path: Path, write: Callable[[], None]) -> None:
        """A compiled library writes a file: a kill leaves half of it."""
        dies = self.reached("write whole", path)
        write()
        if dies:
            os.truncate(path, Path(path).stat().st_size // 2)
            die()


def die() -> None:
    """Die as by the kernel's hand."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Result:
    """What became of a run: "done", the error's class and sentence, or "killed"; and how many calls were counted."""

    outcome: str
    n_calls: int = 0

    @property
    def is_sentence(self) -> bool:
        """Whether a user gets a sentence, and not a traceback."""
        return self.outcome.startswith(("done", "killed", "LastTokenError", "OSError"))


def in_fork(work: Callable[[], None], root: Path, at: int = 0, way: Way = "kill", timeout_s: float = 120.0) -> Result:
    """Do some work in a fork of this process, disturbed at call `at`."""
    receive, send = multiprocessing.get_context("fork").Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(int(timeout_s))
            disturbance = Disturbance(root, at, way)
            disturbance.apply()
            send.send((_outcome(work), disturbance.n))
        finally:
            os._exit(0)
    send.close()
    os.waitpid(pid, 0)
    try:
        return Result(*receive.recv())
    except EOFError:
        return Result("killed")
    finally:
        receive.close()


def _outcome(work: Callable[[], None]) -> str:
    from lasttoken.core.errors import LastTokenError

    try:
        work()
    except LastTokenError as error:
        return f"LastTokenError {type(error).__name__}: {error}"
    except OSError as error:
        said = error.errno in (errno.EIO, errno.ENOSPC)  # the command line has a sentence for both
        return f"{'OSError' if said else 'crash'}: {error!r}"
    except BaseException as error:
        return f"crash: {error!r}"
    return "done"


@dataclass(frozen=True)
class Job:
    """Work that leaves files in a folder."""

    name: str
    work: Callable[[Path], None]  # given its folder
    again: Callable[[Path], None]  # the same command after a fault
    files: Callable[[Path], Files]  # what counts of the folder, once done
    prepare: Callable[[Path], None]  # what lies there before
    outputs: tuple[
        str, ...
    ] = ()  # of the files, those that are whole at any moment: as before, absent, or as at the end


def files_in(folder: Path) -> Files:
    """All files below a folder, by their path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check(job: Job, folder: Path, expected: Files, at: int, way: Way) -> list[str]:
    """Disturb a job at one call, run it again, and say what is not as it should be."""
    job.prepare(folder)
    before = files_in(folder)
    faults = []
    result = in_fork(lambda: job.work(folder), folder, at, way)
    now = files_in(folder)
    if not result.is_sentence:
        faults.append(result.outcome)
    if result.outcome == "done" and not _holds(job.files(folder), expected):
        faults.append("a success that is none")
    torn = [name for name in job.outputs if now.get(name) not in (before.get(name), expected.get(name))]
    faults += [f"{name} is neither the earlier one nor the new one" for name in torn]
    second = in_fork(lambda: job.again(folder), folder)
    if second.outcome != "done":
        faults.append(f"again: {second.outcome}")
    elif job.files(folder) != expected:
        differ = sorted(n for n in {*job.files(folder), *expected} if job.files(folder).get(n) != expected.get(n))
        faults.append(f"in the end other bytes: {differ}")
    return [f"{job.name}, {way} at call {at} ({result.outcome}): {fault}" for fault in faults]


def _holds(files: Files, expected: Files) -> bool:
    """Whether all that is expected is there; what a failed removal left may be, too."""
    return all(files.get(name) == content for name, content in expected.items())


def sweep(job: Job, folder: Path, ways: tuple[Way, ...] = WAYS, stride: int = 1) -> tuple[int, int, list[str]]:
    """Disturb a job at every `stride`th call in each way: the calls, the disturbed runs, what was wrong."""
    job.prepare(folder / "undisturbed")
    whole = in_fork(lambda: job.work(folder / "undisturbed"), folder / "undisturbed")
    if whole.outcome != "done":
        raise RuntimeError(f"{job.name} fails undisturbed: {whole.outcome}")
    expected = job.files(folder / "undisturbed")
    n_runs, faults = 0, []
    for way in ways:
        for at in range(1 + WAYS.index(way) % stride, whole.n_calls + 1, stride):
            place = folder / "disturbed"
            faults += check(job, place, expected, at, way)
            shutil.rmtree(place)
            n_runs += 1
    return whole.n_calls, n_runs, faults


# The jobs -------------------------------------------------------------------------------------------------------------


def predict_job(predictor: Any, rows: Path, suffix: str) -> Job:
    """Classify a file into another; an earlier output and its rejects lie there."""
    from lasttoken.bulk.job import Source, score_file

    def work(folder: Path) -> None:
        score_file(lambda: predictor, Source(rows), folder / f"scored{suffix}")

    def prepare(folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / f"scored{suffix}").write_text("an earlier output")
        (folder / "scored.rejects.csv").write_text("its rejects")

    outputs = (f"scored{suffix}", "scored.rejects.csv")
    return Job(f"predict{suffix}", work, work, files_in, prepare, outputs)


def train_job(data: Path, backbone: Path, overwrite: bool = False) -> Job:
    """Train; after a fault with --resume, as its message says. With `overwrite`, over a finished run."""
    from lasttoken.classifier.run_dir import RunDir
    from lasttoken.core.resolve import resolve
    from lasttoken.runs.train import TrainingRequest, train_run

    quick: dict[str, Any] = {"backbone": str(backbone), "epochs": 1, "batch_size": 8, "eval_every": 2, "seed": 3}

    def train(folder: Path, **more: Any) -> None:
        settings = resolve("default", {**quick, "cache_limit": "1GB"})
        os.environ["LASTTOKEN_CACHE"] = str(folder / "cache")
        request = TrainingRequest(
            data=data, settings=settings, out=folder / "run", offline=True, checkpoint_every_s=0.0
        )
        train_run(dataclasses.replace(request, **more))

    def again(folder: Path) -> None:
        run = RunDir(folder / "run")
        if not run.is_finished:
            split = run.splits / "train.csv"
            is_earlier = split.is_file() and split.read_text("utf-8") == "old"  # resuming it is rejected, and says so
            train(folder, resume=not is_earlier)
        elif overwrite and (run.path / "old").is_file() and _is_old(run.path):
            train(folder, overwrite=True)

    def prepare(folder: Path) -> None:
        folder.mkdir(parents=True)
        if overwrite:
            (folder / "run" / "splits").mkdir(parents=True)
            for name in ("run.toml", "metrics.json", "model.safetensors", "splits/train.csv", "old"):
                (folder / "run" / name).write_text("" if name == "run.toml" else "old")

    return Job(
        "train --overwrite" if overwrite else "train",
        lambda f: train(f, overwrite=overwrite),
        again,
        _run_files,
        prepare,
    )


def _is_old(run: Path) -> bool:
    return (run / "metrics.json").read_text("utf-8") == "old"


def _run_files(folder: Path) -> Files:
    """What a run leaves, without what depends on the clock; of the report, that it is whole."""
    files = {
        name.removeprefix("run/"): content for name, content in files_in(folder).items() if name.startswith("run/")
    }
    files.pop("old", None)
    files.pop("run.toml", None)
    files.pop("resume.safetensors", None)  # it goes after metrics.json: a death may come between
    for name in ("README.md", "report.html"):
        if name in files:
            files[name] = b"whole" if len(files[name]) > 1000 else b"torn"
    if "metrics.json" in files and files["metrics.json"] != b"old":
        metrics = json.loads(files["metrics.json"])
        metrics |= dict.fromkeys(("timing_s", "durations_s", "verdict"))
        files["metrics.json"] = json.dumps(metrics, sort_keys=True).encode()
    lines = [json.loads(line) for line in files.get("history.jsonl", b"").splitlines()]
    kept = [{key: value for key, value in line.items() if key != "evaluation_s"} for line in lines]
    return files | {"history.jsonl": json.dumps(kept).encode()}


def export_job(run: Path) -> Job:
    """Export for transformers."""
    from lasttoken.export.hf import export_hf

    def again(folder: Path) -> None:
        if not (folder / "export").exists():
            export_hf(run, folder / "export", check=False)

    def files(folder: Path) -> Files:  # a lock file that a killed process left disturbs nobody
        return {name: found for name, found in files_in(folder).items() if not name.endswith(".lock")}

    return Job("export", lambda folder: _export(run, folder), again, files, _empty)


def _export(run: Path, folder: Path) -> None:
    from lasttoken.export.hf import export_hf

    export_hf(run, folder / "export", check=False)


def _empty(folder: Path) -> None:
    folder.mkdir(parents=True)


def fetch_job() -> Job:
    """Fetch a data set; the download itself is replaced by the bytes of a zip."""
    import hashlib
    import zipfile

    from lasttoken.data import catalog, datasets

    content = b"ham\tsee you\n" * 30_000
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("Tiny", content)
    sha256 = hashlib.sha256(content).hexdigest()
    entry = catalog.DatasetEntry(
        name="tiny", url="http://127.0.0.1:9/", archive_bytes=None, member="Tiny", member_bytes=len(content),
        sha256=sha256, description="", licence="", citation="",
    )  # fmt: skip

    def work(folder: Path) -> None:
        os.environ["LASTTOKEN_CACHE"] = str(folder)
        catalog.DATASETS["tiny"] = entry
        datasets._download = lambda source, archive, *more: archive.write(packed.getvalue()) and None
        datasets.fetch_dataset("tiny", backoff_s=0.0)

    def files(folder: Path) -> Files:  # temporaries of a killed process stay for a day: another one may be fetching
        return {name: found for name, found in files_in(folder).items() if ".tmp-" not in name}

    return Job("fetch", work, work, files, _empty, ("datasets/tiny/Tiny",))


def cache_job() -> Job:
    """Compute features into the cache, and read them; what was read is written to a file beside it."""
    from miniature import classifier_of, random_encoded, random_gpt

    from lasttoken.core.device import CPU
    from lasttoken.training.feature_cache import FeatureCache
    from lasttoken.training.features import TrunkPass

    encoded, classifier = random_encoded(30), classifier_of(random_gpt())

    def work(folder: Path) -> None:
        cache = FeatureCache(10**9, folder / "features")
        source = TrunkPass(classifier, CPU, cache=cache, say=lambda sentence: None).source(encoded, "train")
        block, _ = source.batch(range(len(encoded)))
        os.write(descriptor := os.open(folder / "read", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), block.numpy().tobytes())
        os.close(descriptor)

    def files(folder: Path) -> Files:
        return {"read": files_in(folder).get("read", b"")}

    def again(folder: Path) -> None:
        work(folder)
        kept = list((folder / "features").glob("*/features.bin"))
        assert [path for path in kept if ".tmp-" not in path.parent.name], "no entry"

    return Job("cache", work, again, files, _empty, ("read",))


@contextlib.contextmanager
def all_jobs(folder: Path) -> Iterator[dict[str, Job]]:
    """The jobs on miniatures; windows of a few rows, no curves drawn, a cache of their own."""
    from unittest.mock import patch

    from miniature import blank_figure, messages, random_gpt, write_backbone, write_messages

    from lasttoken.classifier.predict import Predictor
    from lasttoken.core.resolve import resolve
    from lasttoken.runs.train import TrainingRequest, train_run

    texts, labels = messages(40)
    data = write_messages(folder / "messages.csv", texts, labels)
    rows = folder / "rows.csv"
    rows.write_text("text,n\n" + "".join("a,b,c\n" if at % 5 == 3 else f'"{texts[at]}",{at}\n' for at in range(14)))
    backbone = write_backbone(folder / "backbone", random_gpt(n_positions=64))
    with (
        patch("lasttoken.report.curves.write_figure", blank_figure),
        patch("lasttoken.runs.write.draw_plots", lambda *_: {}),
        patch("lasttoken.bulk.windows.WINDOW", 5),
        patch.dict(os.environ, {"LASTTOKEN_CACHE": str(folder / "cache")}),
    ):
        settings = resolve("default", {"backbone": str(backbone), "epochs": 1})
        train_run(TrainingRequest(data=data, settings=settings, out=folder / "run", offline=True))
        predictor = Predictor.load(folder / "run", "cpu")
        jobs = [predict_job(predictor, rows, suffix) for suffix in (".csv", ".jsonl.gz", ".parquet")]
        jobs += [train_job(data, backbone), train_job(data, backbone, overwrite=True)]
        jobs += [export_job(folder / "run"), fetch_job(), cache_job()]
        yield {job.name: job for job in jobs}


def main() -> None:
    """Run the jobs that are named, or all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", help="names of jobs; default: all")
    parser.add_argument("--stride", type=int, default=1, help="disturb every stride-th call only")
    arguments = parser.parse_args()
    wrong = []
    with tempfile.TemporaryDirectory() as temporary, all_jobs(Path(temporary).resolve()) as jobs:
        print(f"{'job':20} {'calls':>6} {'runs':>6} {'wrong':>6}")
        for name in arguments.jobs or jobs:
            n_calls, n_runs, faults = sweep(
                jobs[name], Path(temporary).resolve() / "sweep" / name, stride=arguments.stride
            )
            print(f"{name:20} {n_calls:6} {n_runs:6} {len(faults):6}", flush=True)
            wrong += faults
    print("\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # for `miniature`
    main()
