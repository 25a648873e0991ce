"""The parts of a job beside its output: what is done stays done, whatever kills the job.

    scored.csv.parts/
      job.json              what the job is: the input, the classifier, the settings
      000000.csv            the first window of rows, without a head
      000000.rejects.csv    its rows that could not be read, if any
      000000.json           how many rows, written last: the part counts from then on

A part is a function of the job and its number, so a part written twice is the same part. Another job's folder is
refused, never mixed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from lasttoken.data.folders import csv_line
from lasttoken.data.tables import BadRow
from lasttoken.errors import DataError, RunError
from lasttoken.predict import Predictor
from lasttoken.scoring.answers import Answers
from lasttoken.scoring.writers import Format, Values, schema_of
from lasttoken.storage import make_dir, new_file, storage_errors, sweep_temporaries, write_text

HASHED_BYTES = 1 << 20  # of the input's start
REJECTED = ("row", "line", "reason")


@dataclass(frozen=True)
class Counts:
    """What became of the rows of a part, or of a file."""

    n_rows: int = 0  # classified
    n_cut: int = 0  # of them, too long and cut
    n_rejected: int = 0
    n_empty: int = 0  # classified without a character to read

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(mine + more for mine, more in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Parts:
    """The folder of parts of an output, and how they are written."""

    folder: Path
    form: Format

    @classmethod
    def beside(cls, output: Path, form: Format) -> Parts:
        """The folder `<output>.parts`."""
        return cls(output.with_name(f"{output.name}.parts"), form)

    def open(self, job: Mapping[str, Any], restart: bool) -> list[Counts]:
        """Begin, or go on with this very job: the counts of the parts that are done.

        Raises:
            RunError: the folder holds another job, or something else.
            StorageError: no permission, or a full disk.
        """
        if restart:
            self.remove()
        manifest = self.folder / "job.json"
        content = json.dumps(job, indent=1, sort_keys=True) + "\n"
        if self.folder.exists() and not manifest.is_file() and any(self.folder.iterdir()):
            raise RunError(
                f"{self.folder} holds something that is no job of ours; move it away, or give another --output"
            )
        if manifest.is_file():
            self._check(json.loads(content), manifest)
        else:
            make_dir(self.folder)
            write_text(manifest, content)
        sweep_temporaries(self.folder, older_than_s=0.0)
        return self._done()

    def _check(self, job: Mapping[str, Any], manifest: Path) -> None:
        try:
            found = json.loads(manifest.read_text("utf-8"))
        except (OSError, ValueError):
            found = {}
        differ = sorted(name for name in {*job, *found} if job.get(name) != found.get(name))
        if differ:
            raise RunError(
                f"{self.folder} holds an unfinished job with another {differ[0]}; finish that one, pass --restart to "
                "drop it, or give another --output"
            )

    def _done(self) -> list[Counts]:
        found: list[Counts] = []
        while (marker := self._path(len(found), ".json")).is_file():
            found.append(Counts(**json.loads(marker.read_text("utf-8"))))
        return found

    def _path(self, number: int, suffix: str) -> Path:
        return self.folder / f"{number:06d}{suffix}"

    def write(
        self, number: int, rows: Sequence[Values], answers: Answers, bad: Sequence[BadRow], counts: Counts
    ) -> None:
        """Write part `number`; when this returns it is done.

        Raises:
            DataError: values that the format does not hold.
            StorageError: no permission, or a full disk.
        """
        if bad:
            lines = [(str(one.number), str(one.line or ""), one.reason) for one in bad]
            write_text(self._path(number, ".rejects.csv"), "".join(map(csv_line, lines)))
        if rows:
            with new_file(self._path(number, self.form.suffix)) as path:
                self.form.write_part(path, rows, answers, self._schema(number))
        write_text(self._path(number, ".json"), json.dumps(asdict(counts)))

    def _schema(self, number: int) -> Any:
        if self.form.kind != "parquet":
            return None
        first = next((path for at in range(number) if (path := self._path(at, self.form.suffix)).is_file()), None)
        return schema_of(first) if first else self.form.schema

    def finish(self, n_parts: int, output: Path) -> Path | None:
        """Join the parts to the output, and their rejected rows to a file beside it, whose path is returned.

        Raises:
            DataError: no row could be read.
            StorageError: no permission, or a full disk.
        """
        numbers = range(n_parts)
        wholes = [path for at in numbers if (path := self._path(at, self.form.suffix)).is_file()]
        rejects = [path for at in numbers if (path := self._path(at, ".rejects.csv")).is_file()]
        side = rejects_of(output)
        if rejects:
            with new_file(side) as path, path.open("wb") as whole:
                whole.write(csv_line(REJECTED).encode())
                for one in rejects:
                    whole.write(one.read_bytes())
        else:
            side.unlink(missing_ok=True)  # of an earlier job
        if not wholes and self.form.kind == "parquet":
            raise DataError(f"no row could be read, so there is nothing to write to {output}; see {side}")
        with new_file(output) as path:
            self.form.join(wholes, path)
        self.remove()
        return side if rejects else None

    def remove(self) -> None:
        """Drop all parts; the job's description last, so that a kill in between leaves a job of ours."""
        if not (self.folder / "job.json").is_file():
            return
        with storage_errors(self.folder):
            for entry in self.folder.iterdir():
                if entry.name != "job.json":
                    entry.unlink()
            shutil.rmtree(self.folder)


def rejects_of(output: Path) -> Path:
    """Where the rows go that cannot be read: scored.csv ─► scored.rejects.csv."""
    return output.with_name(f"{output.name.split('.')[0]}.rejects.csv")


def describe_input(path: Path) -> dict[str, Any]:
    """What tells whether an input is still the same file."""
    if not path.is_file():
        return {"name": str(path)}  # a pipe
    stat = path.stat()
    with path.open("rb") as file:
        start = hashlib.sha256(file.read(HASHED_BYTES)).hexdigest()
    return {"name": path.name, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256 of its start": start}


def describe_classifier(predictor: Predictor) -> dict[str, Any]:
    """What tells whether a classifier is still the same: its head's weights, its settings, the machine's numbers."""
    digest = hashlib.sha256()
    for parameter in predictor.classifier.head.parameters():
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    config = json.loads(json.dumps(asdict(predictor.classifier.config)))
    machine = {"device": predictor.machine.device.type, "precision": predictor.machine.precision}
    return {"head": digest.hexdigest(), "config": config, "machine": machine}
