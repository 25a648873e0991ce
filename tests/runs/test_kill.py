"""Runs that are killed, and runs that are interrupted.

A run dies of SIGKILL at random moments, as often as KILLS says, and is resumed each time; what lies on the disk in
between is either absent or exactly what the uninterrupted run has, and so is the result. The processes that are
killed are forked from a server that has imported everything, which saves four seconds a death; the uninterrupted run
and the interrupted one are the installed program.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from miniature import messages, random_gpt, write_backbone, write_messages
from safetensors.torch import load_file

from lasttoken.classifier.run_dir import FINAL
from lasttoken.cli.main import main

pytestmark = pytest.mark.slow

PROGRAM = Path(sys.executable).with_name("lasttoken")
SEED = 8
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["lasttoken.runs.train", "lasttoken.cli.main", "torch._dynamo", "sklearn.linear_model", "pytest"]
)

# What the process must have written before its death may come, and up to how many more seconds it then has.
MOMENTS = {
    "starting": ("log", 0.3),
    "trunk": ("cache/features/*", 0.05),
    "training": ("run/resume.safetensors", 0.3),
    "finishing": ("run/model.safetensors", 0.5),
}
KILLS = ("starting", "trunk", "trunk", "training", "training", "training", "finishing", "finishing")


@dataclass(frozen=True)
class Job:
    """A training to run, in a folder of its own."""

    folder: Path
    texts: Path
    backbone: Path

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def arguments(self, *more: str, epochs: int = 4) -> list[str]:
        settings = ["--epochs", str(epochs), "--eval-every", "3", "--learning-rate", "1e-3", "--train-blocks", "2"]
        paths = [str(self.texts), "--backbone", str(self.backbone), "--out", str(self.run)]
        return ["train", *paths, *settings, "--checkpoint-every", "0", "--offline", *more]

    def start(self, *more: str, epochs: int = 4) -> subprocess.Popen[str]:
        """The installed program."""
        environment = {**os.environ, "LASTTOKEN_CACHE": str(self.cache)}
        command = [str(PROGRAM), *self.arguments(*more, epochs=epochs)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def fork(self, *more: str) -> Any:
        """The same, in a process forked from the server."""
        process = FORKS.Process(target=run_program, args=(self.arguments(*more), self.cache, self.folder / "log"))
        process.start()
        return process


def run_program(arguments: list[str], cache: Path, log: Path) -> None:
    os.environ["LASTTOKEN_CACHE"] = str(cache)
    sys.argv = ["lasttoken", *arguments]
    with log.open("ab") as file:
        file.write(b"started\n")
        file.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    main()


@pytest.fixture(scope="module")
def make_job(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Job]:
    folder = tmp_path_factory.mktemp("kill")
    texts, labels = messages(120)
    awkward = ["two\nlines", "two\r\nlines", "a\rreturn", " spaces ", '"quoted", they said', "=1+1", "né 🙂 متن", "\t"]
    texts = [f"{text}{awkward[at % 13]}" if at % 13 < len(awkward) else text for at, text in enumerate(texts)]
    file = write_messages(folder / "messages.csv", texts, labels)
    backbone = write_backbone(folder / "backbone", random_gpt(n_embd=64, n_layer=5, n_positions=64))
    return lambda: Job(tmp_path_factory.mktemp("job"), file, backbone)


@pytest.fixture(scope="module")
def uninterrupted(make_job: Callable[[], Job]) -> Job:
    job = make_job()
    process = job.start()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return job


def history(run: Path) -> list[dict[str, Any]]:
    """The whole lines, without what depends on the clock or is only known at the end."""
    text = (run / "history.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [{name: line[name] for name in line if name not in ("evaluation_s", "best")} for line in lines]


def files(folder: Path) -> Iterator[Path]:
    """What a reader would take for finished."""
    return (path for path in folder.rglob("*") if path.is_file() and ".tmp-" not in str(path.relative_to(folder)))


def check_what_is_there(job: Job, whole: Job) -> None:
    """After a death: each file is absent or whole, and right."""
    for path in files(job.run):
        expected = whole.run / path.relative_to(job.run)
        match path.name:
            case "resume.safetensors":
                assert "order" in load_file(path)
            case "history.jsonl":
                lines = history(job.run)
                assert lines == history(whole.run)[: len(lines)]
            case "run.toml":
                found, wanted = (recorded(each) for each in (path, expected))
                assert found == wanted
            case "report.html":
                assert path.read_text("utf-8").rstrip().endswith("</html>")
            case _ if path.parent.name != "curves":
                assert path.read_bytes() == expected.read_bytes(), path
    for path in files(job.cache / "features"):
        assert path.read_bytes() == (whole.cache / path.relative_to(job.cache)).read_bytes(), path


def recorded(path: Path) -> dict[str, Any]:
    content = tomllib.loads(path.read_text("utf-8"))
    assert tomli_w.dumps(content) == path.read_text("utf-8")
    return {"settings": content["settings"], "trunk": content["trunk"]}


def kill_at(moment: str, job: Job, draw: random.Random) -> bool:
    """Run until a moment, then kill; False when the run was faster."""
    pattern, spread = MOMENTS[moment]
    started, until = time.time_ns(), time.monotonic() + 60
    process = job.fork("--resume")
    while process.is_alive() and time.monotonic() < until:
        if any(written_after(path, started) for path in job.folder.glob(pattern)):
            break
        time.sleep(0.002)
    time.sleep(draw.uniform(0, spread))
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), (job.folder / "log").read_text()
    return bool(process.exitcode)


def written_after(path: Path, time_ns: int) -> bool:
    try:
        return path.stat().st_mtime_ns > time_ns
    except FileNotFoundError:
        return False


def without_seconds(metrics: dict[str, Any]) -> dict[str, Any]:
    """The figures that do not depend on how busy the machine is."""
    verdict = {**metrics["verdict"], "times_faster": None, "sentences": None}
    return {**metrics, "timing_s": None, "durations_s": None, "verdict": verdict}


def check_finished(job: Job, whole: Job) -> None:
    """A run that was killed and resumed is the one that was not."""
    for name in ("model.safetensors", "config.json", "tokenizer.json", "splits/train.csv"):
        assert (job.run / name).read_bytes() == (whole.run / name).read_bytes(), name
    assert history(job.run) == history(whole.run)
    ours, theirs = (json.loads((each.run / FINAL).read_text("utf-8")) for each in (job, whole))
    assert without_seconds(ours) == without_seconds(theirs)
    found, expected = ({str(path.relative_to(each.run)) for path in each.run.rglob("*")} for each in (job, whole))
    assert found - {"resume.safetensors"} == expected  # it goes after metrics.json: a death may come between


def test_a_run_killed_again_and_again_ends_as_the_uninterrupted_one(
    make_job: Callable[[], Job], uninterrupted: Job
) -> None:
    draw, job, deaths = random.Random(SEED), make_job(), 0
    for moment in KILLS:
        if moment == "trunk":
            shutil.rmtree(job.cache, ignore_errors=True)  # there must be something to compute
        deaths += kill_at(moment, job, draw)
        if (job.run / FINAL).exists():
            check_finished(job, uninterrupted)
            job = make_job()
        else:
            check_what_is_there(job, uninterrupted)
    assert deaths >= len(KILLS) // 2, "most runs were faster than their death"
    process = job.fork("--resume")
    process.join(timeout=120)
    assert process.exitcode == 0, (job.folder / "log").read_text()
    check_finished(job, uninterrupted)


def test_ctrl_c_completes_the_run_with_what_was_best_so_far(make_job: Callable[[], Job]) -> None:
    job = make_job()
    process = job.start(epochs=5000)
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.02)
        if (job.run / "history.jsonl").is_file() and len(history(job.run)) >= 4:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    metrics = json.loads((job.run / FINAL).read_text("utf-8"))
    assert metrics["stopped"] == "interrupted"
    assert "interrupted by a signal" in err
    lines = [json.loads(line) for line in (job.run / "history.jsonl").read_text("utf-8").splitlines()]
    assert metrics["kept_step"] in {line["step"] for line in lines if line["best"]}
    best = min(line["validation_loss"] for line in lines)
    assert metrics["splits"]["validation"]["loss"] == pytest.approx(best, abs=1e-6)
    with (job.run / "splits" / "train.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file))) == metrics["examples"]["train"] + 1
    assert not (job.run / "resume.safetensors").exists()
