"""What scoring costs beyond one machine: a simulated cluster, the coordinator's memory, Ray's overhead, kills.

    python benchmarks/scale.py simulate
    python benchmarks/scale.py memory
    python benchmarks/scale.py overhead --run RUN --input FILE [--rounds 3]
    python benchmarks/scale.py kills --run RUN --input FILE --engine ray [--kills 25]

`simulate` runs 10,000 parts on 100 workers on a clock of its own, with part times that have a long tail and workers
that die, handed out one by one (Ray) and dealt in advance (--shard i/n). job.json, the markers and the manifest are
written with the real functions to a store in memory that counts calls; no row is classified.
`memory` measures the process that plans and ends a job, for 100,000 and for 10 million rows of three words, while
another process writes parts without a classifier.
`overhead` alternates `predict --workers 2` and `predict --ray local --ray-actors 2,2`.
`kills` ends a random process of a running command with SIGKILL, the command itself too, which is then repeated; at the
end all files are compared with those of one process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from lasttoken.bulk.inputs import InputFile
from lasttoken.bulk.parts import Counts
from lasttoken.bulk.pieces import FilePlan
from lasttoken.bulk.plan import Plan
from lasttoken.bulk.store import Store
from lasttoken.bulk.work import JOB, MANIFEST, Job, JobSettings, Part, open_job, part_name

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # for flaky_store, which counts calls
from flaky_store import Weather, flaky_store

PARTS, WORKERS = 10_000, 100
ROWS_PER_S = 60.0  # of a worker; see simulate's table
ROW_BYTES = 300  # of the output, gzip not counted
SIGMA = 0.25  # of the logarithm of a part's time
STRAGGLERS, SLOWDOWN = 0.02, 4.0  # of the parts: a machine that is shared, throttled or swaps
LIFE_S = 8 * 3600.0  # of a worker, on average, until it dies: spot machines are often kept for longer
RESTART_S = 120.0  # until another worker has loaded the classifier
MODEL = {"files": {"model.safetensors": "0" * 64}, "decision": [None, None], "device": "cpu", "precision": "float32"}
PAGE = 1_000  # names that S3 gives for one request of a listing
WORDS = (
    "win",
    "prize",
    "now",
    "text",
    "call",
    "see you",
    "then",
    "bring",
    "book",
    "keys",
    "free",
    "money",
    "home",
    "late",
)


# A cluster on paper ---------------------------------------------------------------------------------------------------


def part_times(mean_s: float, draw: np.random.Generator) -> NDArray[np.float64]:
    """Seconds of each part: log-normal about the mean, and some of them several times slower."""
    times = mean_s * np.exp(SIGMA * draw.standard_normal(PARTS) - SIGMA**2 / 2)
    times[draw.random(PARTS) < STRAGGLERS] *= SLOWDOWN
    return times


def cluster(queues: list[list[int]], times: NDArray[np.float64], draw: np.random.Generator) -> dict[str, float]:
    """Run all parts; worker w takes from queues[w mod n]. A worker that dies loses the part it was at, and comes back.

    Returns seconds until the last part, seconds of work that were lost, deaths, and the workers' idle fraction.
    """
    queues = [queue[::-1] for queue in queues]
    free = [(0.0, worker) for worker in range(WORKERS)]
    heapify(free)
    dies = draw.exponential(LIFE_S, WORKERS)
    lost, deaths, last = 0.0, 0, 0.0
    while any(queues) and free:
        now, worker = heappop(free)
        queue = queues[worker % len(queues)]
        if not queue:
            continue  # this worker has nothing left to do
        part = queue.pop()
        done = now + times[part]
        if dies[worker] < done:
            deaths += 1
            lost += max(0.0, dies[worker] - now)
            queue.append(part)
            back = max(now, dies[worker]) + RESTART_S
            dies[worker] = back + draw.exponential(LIFE_S)
            heappush(free, (back, worker))
        else:
            last = max(last, done)
            heappush(free, (done, worker))
    return {"hours": last / 3600, "lost": lost / 3600, "deaths": deaths, "idle": 1 - times.sum() / (last * WORKERS)}


def sizes(kind: str, n_rows: int) -> dict[str, Any]:
    """What a job of `PARTS` finished parts keeps in its store, and the calls of one worker, with the real functions."""
    files = {
        "one .jsonl": (InputFile("in.jsonl", "flaky://in/in.jsonl", PARTS * 100, "etag"),),
        "one .csv": (InputFile("in.csv", "flaky://in/in.csv", PARTS * 100, "etag"),),
        "10,000 .parquet": tuple(
            InputFile(f"day=1/part-{n:05d}.parquet", "flaky://in/", 1 << 26, "0" * 32) for n in range(PARTS)
        ),
    }[kind]
    cuts = tuple(range(10**9, 10**9 + 101 * (PARTS + 1), 101))
    plan_of = {
        "one .jsonl": FilePlan("lines", "jsonl", "0" * 64, block=100, size=PARTS * 100),
        "one .csv": FilePlan("records", "csv", "0" * 64, cuts=cuts),
        "10,000 .parquet": FilePlan("whole", "parquet", "0" * 64),
    }[kind]
    plan = Plan(files, (plan_of,) * len(files), ("id", "text"))
    store = Store("flaky://bucket/scored")
    job = Job(store, plan, JobSettings(), MODEL, ("text",), ("csv", False), None, 4096, "0" * 64)
    with flaky_store(failing=0.0, slow=0.0) as weather:
        content = {"format": 1, "input": plan.to_json(), "model": MODEL, "settings": JobSettings().to_json()}
        store.write(JOB, json.dumps({**content, "key": job.key}, indent=1, sort_keys=True).encode())
        for number in range(PARTS):
            write_stand_in(job, number, n_rows // PARTS)
        weather.calls.clear()
        missing = len(list(job.missing(0, WORKERS)))
        shard = dict(weather.calls)
        weather.calls.clear()
        started = time.perf_counter()
        assert job.finish() is not None
        assert missing == 0
        objects = weather.objects(store.url)
        return {
            "job.json": len(objects[JOB]),
            "marker": len(objects[part_name(0, ".json")]),
            "manifest.json": len(objects[MANIFEST]),
            "objects": len(objects),
            "shard": shard,
            "finish": dict(weather.calls),
            "finish_s": time.perf_counter() - started,
            "unfinished": _unfinished(job, weather),
        }


def _unfinished(job: Job, weather: Weather) -> dict[str, int]:
    """The calls of a worker that finds that others have not finished."""
    job.store.remove(part_name(PARTS - 1, ".json"))
    weather.calls.clear()
    assert job.finish() is None
    return dict(weather.calls)


def write_stand_in(job: Job, number: int, n_rows: int) -> None:
    """A part and its marker, as `score_part` writes them, without rows."""
    content = b"id,text,predicted_label\n"
    files = {".csv": (len(content), "0" * 64)}
    part = Part(number, job.key, Counts(n_rows=n_rows, n_cut=n_rows // 50), n_rows, files)
    job.store.write(part_name(number, ".csv"), content)
    job.store.write(part_name(number, ".json"), part.to_json())


def simulate(n_rows: int, rounds: int) -> None:
    """Print the simulation and the projection."""
    mean_s = n_rows / PARTS / ROWS_PER_S
    print(f"{n_rows:,} rows, {PARTS:,} parts of {n_rows // PARTS:,} rows, {WORKERS} workers, {rounds} draws")
    print(
        f"assumed: {ROWS_PER_S:g} rows/s a worker, so {mean_s / 60:.0f} minutes a part; sigma {SIGMA} of its logarithm;"
    )
    print(f"{STRAGGLERS:.0%} of the parts {SLOWDOWN:g} times slower; a worker dies every {LIFE_S / 3600:g} h and is")
    print(f"back after {RESTART_S:g} s; {ROW_BYTES} bytes a row of output\n")
    deals = {
        "one by one (--ray)": [list(range(PARTS))],
        "dealt in advance (--shard i/n)": [list(range(shard, PARTS, WORKERS)) for shard in range(WORKERS)],
    }
    print("| parts are | hours | spread | idle | deaths | hours of work lost |\n|---|---|---|---|---|---|")
    for name, queues in deals.items():
        outcomes = []
        for seed in range(rounds):
            draw = np.random.default_rng(seed)
            outcomes.append(cluster(queues, part_times(mean_s, draw), draw))
        mean = {key: statistics.mean(outcome[key] for outcome in outcomes) for key in outcomes[0]}
        hours = [outcome["hours"] for outcome in outcomes]
        print(
            f"| {name} | {mean['hours']:.1f} | {min(hours):.1f}–{max(hours):.1f} | {mean['idle']:.1%} | "
            f"{mean['deaths']:.0f} | {mean['lost']:.1f} |"
        )
    print("\n| input | job.json | marker | manifest | objects | listing | a worker starts | ends early | ends last |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in ("one .jsonl", "one .csv", "10,000 .parquet"):
        print(_row(kind, sizes(kind, n_rows)))
    print(f"\noutput: {n_rows * ROW_BYTES / 1e9:,.0f} GB in parts of {n_rows // PARTS * ROW_BYTES / 1e6:.0f} MB")


def _row(kind: str, found: dict[str, Any]) -> str:
    calls = [", ".join(f"{n:,} {name}" for name, n in found[key].items()) for key in ("shard", "unfinished", "finish")]
    stored = " | ".join(f"{found[key]:,} B" for key in ("job.json", "marker", "manifest.json"))
    pages = -(-found["objects"] // PAGE)
    ended = f"{calls[1]} | {calls[2]}, {found['finish_s']:.1f} s"
    return f"| {kind} | {stored} | {found['objects']:,} | {pages} requests | {calls[0]} | {ended} |"


# Memory ---------------------------------------------------------------------------------------------------------------

COORDINATE = """
import sys; sys.path[:0] = {path!r}
import scale; scale.coordinate({input!r}, {output!r})
"""


def coordinate(input: str, output: str) -> None:
    """Plan a job, hand its parts to a process that writes them, and finish it; print parts, seconds and peak memory."""
    started = time.perf_counter()
    job = open_job(input, output, JobSettings(), MODEL)
    planned_s = time.perf_counter() - started
    missing = list(job.missing())
    if pid := os.fork():
        os.waitpid(pid, 0)
    else:
        for number in missing:
            write_stand_in(job, number, 4096)
        os._exit(0)
    assert job.finish() is not None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([job.n_parts, planned_s, time.perf_counter() - started, peak]))


def memory(rows: list[int]) -> None:
    """Print the coordinator's peak for each number of rows, as CSV and as JSON lines."""
    print("| input | rows | MB | parts | plan, s | all, s | peak, MB |\n|---|---|---|---|---|---|---|")
    for suffix in ("jsonl", "csv"):
        for n in rows:
            with tempfile.TemporaryDirectory(prefix="scale-") as name:
                path = write_rows(Path(name) / f"in.{suffix}", n)
                code = COORDINATE.format(
                    path=[*sys.path[:1], str(Path(__file__).parent)], input=str(path), output=f"{name}/out"
                )
                said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
                n_parts, plan_s, all_s, peak = json.loads(said)
                size = path.stat().st_size / 1e6
                print(
                    f"| .{suffix} | {n:,} | {size:.0f} | {n_parts:,} | {plan_s:.1f} | {all_s:.1f} | {peak:.0f} |",
                    flush=True,
                )


def write_rows(path: Path, n: int) -> Path:
    """A file of rows with an id and three words."""
    draw = random.Random(1)
    with path.open("w", encoding="utf-8") as file:
        if path.suffix == ".csv":
            file.write("id,text\n")
        for number in range(n):
            text = " ".join(draw.choices(WORDS, k=3))
            file.write(f"{number},{text}\n" if path.suffix == ".csv" else f'{{"id": {number}, "text": "{text}"}}\n')
    return path


# Commands -------------------------------------------------------------------------------------------------------------

WORKER_PROCESSES = ("ray::Scorer", "spawn_main")  # of Ray, of multiprocessing
ENGINES = {"ray": ["--ray", "local", "--ray-actors", "2,2"], "workers": ["--workers", "2"], "one process": []}


def command(run: Path, input: Path, output: Path, engine: str, part_rows: int) -> list[str]:
    """The command that scores with an engine."""
    start = [sys.executable, "-c", "from lasttoken.cli.main import main; main()", "predict", str(run)]
    places = ["--input", str(input), "--output", f"{output}/", "--part-rows", str(part_rows)]
    return [*start, *places, *ENGINES[engine], "--device", "cpu", "--quiet"]


def overhead(run: Path, input: Path, rounds: int) -> None:
    """Print wall-clock and processor seconds of both engines, in turn, and rows/s from the first to the last marker."""
    measured: dict[str, dict[str, list[float]]] = {"workers": {}, "ray": {}}
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        for number in range(rounds):
            for engine, values in measured.items():
                output = Path(name) / f"{engine}-{number}"
                started = time.perf_counter()
                cpu_s = processor_seconds(command(run, input, output, engine, 1024))
                found = {"s": time.perf_counter() - started, "processor s": cpu_s, "rows/s": rate(output)}
                for what, value in found.items():
                    values.setdefault(what, []).append(value)
                print(engine, ", ".join(f"{value:.1f} {what}" for what, value in found.items()), flush=True)
    for what in measured["ray"]:
        median = {engine: statistics.median(values[what]) for engine, values in measured.items()}
        ratio = median["ray"] / median["workers"]
        print(f"{what}: workers {median['workers']:.1f}, ray {median['ray']:.1f}, ratio {ratio:.3f}")


def processor_seconds(words: list[str]) -> float:
    """Run a command; the processor seconds of it and of all processes that it starts, read five times a second."""
    process, seconds = psutil.Popen(words), dict[int, float]()
    while process.poll() is None:
        for member in family_of(process):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = member.cpu_times()
                seconds[member.pid] = times.user + times.system
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(process.returncode)
    return sum(seconds.values())


def rate(output: Path) -> float:
    """Rows per second from the first marker to the last."""
    markers = sorted(output.glob("part-*.json"), key=lambda path: path.stat().st_mtime_ns)
    n_rows = sum(json.loads(path.read_text())["counts"]["n_rows"] for path in markers[1:])
    last, first = markers[-1].stat().st_mtime, markers[0].stat().st_mtime
    return float(n_rows / (last - first))


def kills(run: Path, input: Path, engine: str, n_kills: int, seed: int) -> None:
    """Kill random processes at random moments, repeat the command when it ends, and compare the bytes."""
    draw, killed = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        alone, output = Path(name) / "alone", Path(name) / "killed"
        subprocess.run(command(run, input, alone, "one process", 256), check=True)
        n_started = n_left = 0
        while killed.total() < n_kills:
            process = psutil.Popen(command(run, input, output, engine, 256), start_new_session=True)
            n_started += 1
            while process.poll() is None and killed.total() < n_kills:
                time.sleep(draw.uniform(0.5, 12.0))
                family = family_of(process)
                if family and process.poll() is None:
                    workers = [member for member in family if kind_of(member, process) in WORKER_PROCESSES]
                    victim = draw.choice(workers if workers and draw.random() < 0.6 else family)
                    killed[kind_of(victim, process)] += 1
                    victim.send_signal(signal.SIGKILL)
                    if victim.pid == process.pid:
                        n_left += len(psutil.wait_procs(family[1:], timeout=30)[1])
            if (output / MANIFEST).exists() and killed.total() < n_kills:
                shutil.rmtree(output)  # finished before enough was killed: begin again
        process.wait()
        subprocess.run(command(run, input, output, engine, 256), check=True)
        same = contents(alone) == contents(output)
        print(
            f"{engine}: {killed.total()} kills {dict(killed)}, {n_started + 1} commands, {n_left} processes left behind"
        )
        print(f"{len(contents(alone)):,} files, byte-equal to one process: {same}")
        if not same:
            raise SystemExit(1)


def family_of(process: psutil.Process) -> list[psutil.Process]:
    """A running process and those that it has started, without those that have ended; none if it has ended."""
    try:
        family = [process, *process.children(recursive=True)]
        return [member for member in family if member.status() != psutil.STATUS_ZOMBIE and member.cmdline()]
    except psutil.NoSuchProcess:
        return []


def kind_of(victim: psutil.Process, command: psutil.Process) -> str:
    """What a process is, in a word."""
    if victim.pid == command.pid:
        return "the command"
    line = " ".join(victim.cmdline())
    return next((word for word in (*WORKER_PROCESSES, "gcs_server", "ray/raylet") if word in line), "another")


def contents(output: Path) -> dict[str, bytes]:
    """All files of an output."""
    return {path.name: path.read_bytes() for path in sorted(output.iterdir()) if not path.name.startswith(".")}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["simulate", "memory", "overhead", "kills"])
    parser.add_argument("--rows", type=int, nargs="+", help="of simulate: 1,000,000,000; of memory: 100,000 10,000,000")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--engine", choices=["ray", "workers"], default="ray")
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.what == "simulate":
        simulate((given.rows or [10**9])[0], given.rounds)
    elif given.what == "memory":
        memory(given.rows or [100_000, 10_000_000])
    elif given.what == "overhead":
        overhead(given.run, given.input, given.rounds)
    else:
        kills(given.run, given.input, given.engine, given.kills, given.seed)


if __name__ == "__main__":
    main()
