"""How far a job is: its parts, their rows a second, and the time that is left, from one listing and a few markers."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lasttoken.bulk.pieces import FilePlan
from lasttoken.bulk.store import Listed, Store
from lasttoken.bulk.work import MANIFEST, Part, read_job, read_manifest
from lasttoken.core.documents import checked

MARKER = re.compile(r"part-(\d+)\.json")
SAMPLED = 64  # of the markers, the latest, which tell the present speed
READERS = 16  # threads that read them


@dataclass(frozen=True)
class Status:
    """The state of a job."""

    n_parts: int
    n_done: int
    n_rows: int  # classified; about, while the job is not finished
    rows_per_s: float | None  # of all workers together, of late; None: too few parts to tell
    left_s: float | None
    idle_s: float | None  # since the last part was written; None: no part is finished, or all are
    is_finished: bool  # the manifest is there

    def sentence(self) -> str:
        """The state in words."""
        if self.is_finished:
            return f"finished: {self.n_rows:,} rows in {self.n_parts:,} parts"
        done = f"{self.n_done:,} of {self.n_parts:,} parts are finished ({self.n_done / self.n_parts:.0%})"
        if self.n_done == self.n_parts:
            return f"{done}, and the manifest is not written yet; repeat the command of any shard to write it"
        rows = f", about {self.n_rows:,} rows" if self.n_done else ""
        speed = f"; {self.rows_per_s:,.0f} rows/s of late" if self.rows_per_s else ""
        left = f", about {duration(self.left_s)} left" if self.left_s is not None else ""
        idle = f"; the last part was written {duration(self.idle_s)} ago" if self.idle_s is not None else ""
        return f"{done}{rows}{speed}{left}{idle}"


def duration(seconds: float) -> str:
    """A time in words, of two units at most.

    >>> duration(42), duration(600), duration(8_000), duration(200_000)
    ('42 s', '10 min', '2 h 13 min', '2 d 7 h')
    """
    minutes, hours, days = round(seconds / 60), int(seconds // 3600), int(seconds // 86_400)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if hours < 1:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if days < 2 else f"{days} d {hours % 24} h"


def status_of(store: Store, now: float) -> Status:
    """The state of the job in a folder; `now` in seconds since 1970.

    Raises:
        RunError: the folder holds no job.
    """
    job, key = read_job(store)
    n_parts = sum(FilePlan.from_json(entry).n_pieces for entry in job["input"]["files"])
    listed = store.names()
    markers = {name: entry for name, entry in listed.items() if MARKER.fullmatch(name)}
    if MANIFEST in listed and (manifest := read_manifest(store, key)):
        return Status(n_parts, n_parts, manifest["counts"]["n_rows"], None, None, None, True)
    latest = sorted(markers, key=lambda name: markers[name].written_at)[-SAMPLED:]
    rows = _rows_of(store, latest, key)
    mean = sum(rows.values()) / len(rows) if rows else 0.0
    per_s = _parts_per_s([markers[name] for name in latest])
    n_left = n_parts - len(markers)
    return Status(
        n_parts,
        len(markers),
        round(mean * len(markers)),
        per_s * mean if per_s else None,
        n_left / per_s if per_s else None,
        max(0.0, now - markers[latest[-1]].written_at) if latest and n_left else None,
        False,
    )


def _rows_of(store: Store, names: list[str], key: str) -> dict[str, int]:
    """The rows of these markers that are of the job."""

    def read(name: str) -> Part | None:
        try:
            return checked(Part, json.loads(store.read(name)), store.place(name))
        except (FileNotFoundError, ValueError):  # RunError is a ValueError
            return None

    with ThreadPoolExecutor(READERS, "markers") as pool:
        markers = dict(zip(names, pool.map(read, names), strict=True))
    return {name: part.counts.n_rows for name, part in markers.items() if part is not None and part.key == key}


def _parts_per_s(latest: list[Listed]) -> float | None:
    """The speed at which these parts, in the order of time, were finished."""
    if len(latest) < 2 or latest[-1].written_at <= latest[0].written_at:
        return None
    return (len(latest) - 1) / (latest[-1].written_at - latest[0].written_at)
