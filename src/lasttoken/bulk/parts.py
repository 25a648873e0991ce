"""The parts of a job beside its output: what is done stays done, whatever kills the job.

    scored.csv.parts/
      job.json              what the job is: the input, the classifier, the settings
      000000.csv            the first window of rows, without a head
      000000.rejects.csv    its rows that could not be read, if any
      000000.json           its marker: how many rows, and size and checksum of both files

A part is a function of the job and its number, so a part written twice is the same part. A marker is written after its
part and removed before it, and a part that is not what its marker says is computed again. Another job's folder is
refused, never mixed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from lasttoken.bulk.answers import Answers
from lasttoken.bulk.writers import KINDS, Format, Values, schema_of
from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import DataError, RunError, StorageError
from lasttoken.core.storage import (
    is_leftover,
    make_dir,
    new_file,
    storage_errors,
    sweep_temporaries,
    write_bytes,
    write_text,
)
from lasttoken.data.folders import csv_line
from lasttoken.data.tables import BadRow

HASHED_BYTES = 1 << 20  # of the input's start; read at a time for a checksum
REJECTED = ("row", "line", "reason")
REJECTS = ".rejects.csv"  # suffix of a part's rows that could not be read


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
class Part:
    """A part that is done, as its marker records it."""

    counts: Counts
    files: dict[str, tuple[int, int]]  # suffix → size in bytes, CRC-32

    def to_json(self) -> str:
        """The content of the marker."""
        return json.dumps({**asdict(self.counts), "files": self.files})

    @classmethod
    def from_json(cls, text: str) -> Part:
        """Read a marker.

        Raises:
            ValueError, KeyError, TypeError: not a marker, or one without checksums, as earlier versions wrote.
        """
        content = json.loads(text)
        files = {str(suffix): (int(size), int(crc)) for suffix, (size, crc) in content.pop("files").items()}
        return cls(Counts(**content), files)


@dataclass(frozen=True)
class Parts:
    """The folder of parts of an output, and how they are written. Hold the output (`exclusive`) while using it."""

    folder: Path
    form: Format

    @classmethod
    def beside(cls, output: Path, form: Format) -> Parts:
        """The folder `<output>.parts`."""
        return cls(output.with_name(f"{output.name}.parts"), form)

    def open(self, job: Mapping[str, Any], restart: bool) -> list[Part]:
        """Begin, or go on with this very job: the parts that are done.

        Raises:
            RunError: the folder holds another job, or something else.
            StorageError: no permission, or a full disk.
        """
        manifest = self.folder / "job.json"
        self._check_folder(manifest)
        if restart or not self._path(0, ".json").is_file():
            self.remove()  # no part is done, so there is nothing to lose, whatever the job was
        content = json.dumps(job, indent=1, sort_keys=True) + "\n"
        if manifest.is_file():
            self._check(json.loads(content), manifest)
        else:
            make_dir(self.folder)
            write_text(manifest, content)
        sweep_temporaries(self.folder, older_than_s=0.0)
        return self._done()

    def _check_folder(self, manifest: Path) -> None:
        """Refuse a folder that is not a job's: what a killed process may leave in one is none of the user's files."""
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            raise RunError(f"{self.folder} is not a folder; move it away, or give another --output")
        if not self.folder.exists() or manifest.is_file():
            return
        if any(not is_leftover(entry.name) for entry in self.folder.iterdir()):
            raise RunError(
                f"{self.folder} holds something that is no job of ours; move it away, or give another --output"
            )

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

    def _done(self) -> list[Part]:
        """The parts from the first on that are what their markers say; the markers of all others are removed."""
        done: list[Part] = []
        while (part := self._read(len(done))) is not None:
            done.append(part)
        with storage_errors(self.folder):
            for marker in self._markers():
                if int(marker.stem) >= len(done):
                    marker.unlink()
        return done

    def _markers(self) -> list[Path]:
        """The markers that are there, the last part's first."""
        return sorted((path for path in self.folder.glob("*.json") if path.stem.isdigit()), reverse=True)

    def _read(self, number: int) -> Part | None:
        """Part `number`, if it is done and its files are those that were written."""
        try:
            part = Part.from_json(self._path(number, ".json").read_text("utf-8"))
            files = {suffix: size_and_crc(self._path(number, suffix)) for suffix in part.files}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return part if files == part.files else None

    def _path(self, number: int, suffix: str) -> Path:
        return self.folder / f"{number:06d}{suffix}"

    def write(
        self, number: int, rows: Sequence[Values], answers: Answers, bad: Sequence[BadRow], counts: Counts
    ) -> Part:
        """Write part `number`; when this returns it is done.

        Raises:
            DataError: values that the format does not hold.
            StorageError: no permission, or a full disk.
        """
        files = {}
        if bad:
            lines = [(str(one.number), str(one.line or ""), one.reason) for one in bad]
            content = "".join(map(csv_line, lines)).encode("utf-8")
            write_bytes(self._path(number, REJECTS), content)
            files[REJECTS] = (len(content), zlib.crc32(content))
        if rows:
            with new_file(self._path(number, self.form.suffix)) as path:
                self.form.write_part(path, rows, answers, self._schema(number))
                files[self.form.suffix] = size_and_crc(path)
        part = Part(counts, files)
        write_text(self._path(number, ".json"), part.to_json())
        return part

    def _schema(self, number: int) -> Any:
        if self.form.kind != "parquet":
            return None
        first = next((path for at in range(number) if (path := self._path(at, self.form.suffix)).is_file()), None)
        return schema_of(first) if first else self.form.schema

    def finish(self, parts: Sequence[Part], output: Path) -> Path | None:
        """Join the parts to the output, and their rejected rows to a file beside it, whose path is returned.

        Raises:
            DataError: no row could be read.
            StorageError: no permission, a full disk, or a part that is not there any more.
        """
        wholes, rejects = self._files_of(parts, self.form.suffix), self._files_of(parts, REJECTS)
        side = rejects_of(output)
        if rejects:
            with new_file(side) as path, path.open("wb") as whole:
                whole.write(csv_line(REJECTED).encode())
                for part in rejects:
                    whole.write(part.read_bytes())
        if not wholes and self.form.kind == "parquet":
            raise DataError(f"no row could be read, so there is nothing to write to {output}; see {side}")
        with new_file(output) as path:
            self.form.join(wholes, path)
        if not rejects:
            with storage_errors(side):
                side.unlink(missing_ok=True)  # of an earlier job, whose output has just been replaced
        self.remove()
        return side if rejects else None

    def _files_of(self, parts: Sequence[Part], suffix: str) -> list[Path]:
        """The files of all parts that have one, each of the size it was written with."""
        paths = []
        for number, part in enumerate(parts):
            if suffix in part.files:
                path = self._path(number, suffix)
                size = path.stat().st_size if path.is_file() else None
                if size != part.files[suffix][0]:
                    state = "is not there any more" if size is None else "was changed"
                    raise StorageError(f"{path} {state}; run the same command again, which computes that part again")
                paths.append(path)
        return paths

    def remove(self) -> None:
        """Drop all parts: the markers first, from the last part's on, so that a kill in between leaves whole parts.

        The job's description goes last: what is there before is a job of ours.
        """
        if not (self.folder / "job.json").is_file():
            return
        with storage_errors(self.folder):
            for marker in self._markers():
                marker.unlink()
            for entry in self.folder.iterdir():
                if entry.name != "job.json":
                    entry.unlink()
            shutil.rmtree(self.folder)


def size_and_crc(path: Path) -> tuple[int, int]:
    """The size of a file in bytes, and its CRC-32."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(HASHED_BYTES):
            crc = zlib.crc32(block, crc)
        return file.tell(), crc


def rejects_of(output: Path) -> Path:
    """Where the rows go that cannot be read: scored.csv ─► scored.rejects.csv, day.2.jsonl.gz ─► day.2.rejects.csv."""
    plain = output.with_suffix("") if output.suffix.lower() == ".gz" else output
    return plain.with_name(f"{plain.stem if plain.suffix.lower() in KINDS else plain.name}.rejects.csv")


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
    device = {"device": predictor.device.torch_device.type, "precision": predictor.device.precision}
    return {"head": digest.hexdigest(), "config": config, "machine": device}
