"""A job on several processes of this machine: into one file, or into a folder of parts."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from contextlib import closing

from lasttoken.bulk import windows
from lasttoken.bulk.job import Source, Spread
from lasttoken.bulk.model import Model
from lasttoken.bulk.parting import score_part
from lasttoken.bulk.parts import Parts
from lasttoken.bulk.store import check_shared
from lasttoken.bulk.tasks import FolderTask, WindowTask
from lasttoken.bulk.work import Job, Summary
from lasttoken.bulk.workers import Pool
from lasttoken.core.errors import RunError, SettingsError
from lasttoken.core.progress import Reporter
from lasttoken.data.columns import Columns


def over_workers(model: Model, n_workers: int, top_k: int | None, strict: bool, reporter: Reporter) -> Spread:
    """How `score_file` classifies on n processes."""

    def spread(source: Source, columns: Columns, parts: Parts, first: int) -> Iterator[int]:
        if not source.path.is_file():
            raise SettingsError(
                f"--workers {n_workers} needs an input that each worker can read, and {source.path} is a pipe; save it"
            )
        task = WindowTask(source, columns, parts, top_k, strict, windows.WINDOW, model)
        with Pool(task, n_workers, reporter.say) as pool:
            for _, n_rows in pool.run(itertools.count(first)):
                yield n_rows

    return spread


def score_folder(
    job: Job, model: Model, *, n_workers: int = 1, shard: tuple[int, int] = (0, 1), reporter: Reporter
) -> Summary | None:
    """Write the parts of a job that are missing, or those of a shard (i, n): p mod n = i; then the manifest.

    None: parts of other shards are missing still. Whoever writes the last part writes the manifest.

    Raises:
        LastTokenError: see `score_part`, `Pool.run` and `Job.finish`.
    """
    numbers = list(job.missing(*shard))
    n_parts = len(range(shard[0], job.n_parts, shard[1]))
    with reporter.bar("classifying", max(n_parts, 1)) as advance:
        advance(n_parts - len(numbers), "")
        if n_parts > len(numbers):
            reporter.say(f"{n_parts - len(numbers):,} of {n_parts:,} parts are finished already")
        with closing(_scored(job, model, numbers, n_workers, reporter)) as finished:
            for number, n_rows in finished:
                advance(1, f"part {number}, {n_rows:,} rows")
    summary = job.finish()
    if summary is None and shard[1] == 1:
        raise RunError(f"parts of {job.store.url} disappeared while it was written; run the command again")
    return summary


def _scored(
    job: Job, model: Model, numbers: list[int], n_workers: int, reporter: Reporter
) -> Generator[tuple[int, int], None, None]:
    """(part, its rows), as they are finished."""
    if not numbers:
        return
    if n_workers == 1:
        predictor = model.load(job.model)
        for number in numbers:
            yield number, score_part(job, number, predictor).counts.n_rows
        return
    check_shared(job.store.url, job.plan.files[0].url)
    with Pool(FolderTask(job, model), min(n_workers, len(numbers)), reporter.say) as pool:
        yield from pool.run(iter(numbers))
