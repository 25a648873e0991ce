"""The parts of a scoring job beside its output: a finished part stays finished, whatever kills the job.

    scored.csv.parts/
      job.json              describes the job: the input, the classifier, the settings
      000000.csv            the first window of rows, without the column names
      000000.rejects.csv    its rows that could not be read, if any
      000000.json           its marker: how many rows, and the size and checksum of both files

A part depends only on the job and its number, so writing it twice gives the same part. A marker is written after its
part and removed before it, and a part that does not match its marker is computed again. The parts of another job are
never used.
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

from lasttoken.classifier.predict import Predictor
from lasttoken.core.documents import STRICT, checked, load_json
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
from lasttoken.data.tables.cells import csv_line
from lasttoken.data.tables.formats import format_by_suffix
from lasttoken.data.tables.table import BadRow
from lasttoken.data.tables.writing import Added, TableWriter, Values

HASHED_BYTES = 1 << 20  # hashed of the input's start; read at a time for a checksum
REJECT_COLUMNS = ("row", "line", "reason")
REJECTS = ".rejects.csv"  # suffix of the file of rows that could not be read


@dataclass(frozen=True)
class Counts:
    """How many rows of a part, or of a file, were classified, cut and rejected."""

    __pydantic_config__ = STRICT

    n_rows: int = 0  # classified
    n_cut: int = 0  # classified after their text was cut to the context
    n_rejected: int = 0
    n_empty: int = 0  # classified with an empty or blank text

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(ours + theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Part:
    """A finished part, as its marker records it."""

    __pydantic_config__ = STRICT

    counts: Counts
    files: dict[str, tuple[int, int]]  # suffix → size in bytes, CRC-32

    def to_json(self) -> str:
        """The content of the marker."""
        return json.dumps({**asdict(self.counts), "files": self.files})

    @classmethod
    def load(cls, marker: Path) -> Part:
        """Read a marker.

        Raises:
            FileNotFoundError: there is none.
            RunError: not a marker, or one without checksums, as earlier versions wrote.
        """
        content = load_json(marker)
        files = content.pop("files", None)
        return checked(cls, {"counts": content, "files": files}, marker)


@dataclass(frozen=True)
class Parts:
    """The folder of the parts of an output, and their writer. Hold the output's lock (`exclusive`) while using it."""

    folder: Path
    writer: TableWriter

    @classmethod
    def beside(cls, output: Path, writer: TableWriter) -> Parts:
        """The folder `<output>.parts`."""
        return cls(output.with_name(f"{output.name}.parts"), writer)

    def open(self, job: Mapping[str, Any], restart: bool) -> list[Part]:
        """Start the job, or continue it; return the finished parts.

        Raises:
            RunError: the folder holds another job, or something that is not a job.
            StorageError: no permission, or a full disk.
        """
        manifest = self.folder / "job.json"
        self._check_folder(manifest)
        if restart or not self._path(0, ".json").is_file():
            self.remove()  # no part is finished, so nothing is lost, whichever job it was
        content = json.dumps(job, indent=1, sort_keys=True) + "\n"
        if manifest.is_file():
            self._check(json.loads(content), manifest)
        else:
            make_dir(self.folder)
            write_text(manifest, content)
        sweep_temporaries(self.folder, older_than_s=0.0)
        return self.finished()

    def _check_folder(self, manifest: Path) -> None:
        """Reject a folder that is not a job's, unless it holds only temporary files that a killed process left."""
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            raise RunError(f"{self.folder} is not a folder; move it away, or give another --output")
        if not self.folder.exists() or manifest.is_file():
            return
        if any(not is_leftover(entry.name) for entry in self.folder.iterdir()):
            raise RunError(f"{self.folder} is not a folder of a lasttoken job; move it away, or give another --output")

    def _check(self, job: Mapping[str, Any], manifest: Path) -> None:
        try:
            recorded = load_json(manifest)
        except (FileNotFoundError, RunError):
            recorded = {}
        differences = sorted(name for name in {*job, *recorded} if job.get(name) != recorded.get(name))
        if differences:
            raise RunError(
                f"{self.folder} holds an unfinished job with another {differences[0]}; finish that job, pass --restart "
                "to discard it, or give another --output"
            )

    def finished(self) -> list[Part]:
        """The parts, from the first on, that match their markers; the markers of all other parts are removed."""
        parts: list[Part] = []
        while (part := self._read(len(parts))) is not None:
            parts.append(part)
        with storage_errors(self.folder):
            for marker in self._markers():
                if int(marker.stem) >= len(parts):
                    marker.unlink()
        return parts

    def _markers(self) -> list[Path]:
        """The markers, the last part's first."""
        return sorted((path for path in self.folder.glob("*.json") if path.stem.isdigit()), reverse=True)

    def _read(self, number: int) -> Part | None:
        """Part `number`, if it is finished and its files match its marker."""
        try:
            part = Part.load(self._path(number, ".json"))
            files = {suffix: size_and_crc(self._path(number, suffix)) for suffix in part.files}
        except (OSError, RunError):
            return None
        return part if files == part.files else None

    def _path(self, number: int, suffix: str) -> Path:
        return self.folder / f"{number:06d}{suffix}"

    def write(
        self,
        number: int,
        rows: Sequence[Values],
        added: Added,
        bad: Sequence[BadRow],
        counts: Counts,
    ) -> Part:
        """Write part `number`; when this returns, the part is finished.

        Raises:
            DataError: values that the format cannot hold.
            StorageError: no permission, or a full disk.
        """
        files = {}
        if bad:
            lines = [(str(row.number), str(row.line or ""), row.reason) for row in bad]
            content = "".join(map(csv_line, lines)).encode("utf-8")
            write_bytes(self._path(number, REJECTS), content)
            files[REJECTS] = (len(content), zlib.crc32(content))
        if rows:
            with new_file(self._path(number, self.writer.suffix)) as path:
                self.writer.write_part(path, rows, added, self._first_before(number))
                files[self.writer.suffix] = size_and_crc(path)
        part = Part(counts, files)
        write_text(self._path(number, ".json"), part.to_json())
        return part

    def _first_before(self, number: int) -> Path | None:
        """The file of the first part before part `number` that has one."""
        paths = (self._path(earlier, self.writer.suffix) for earlier in range(number))
        return next((path for path in paths if path.is_file()), None)

    def finish(self, parts: Sequence[Part], output: Path) -> Path | None:
        """Join the parts into the output, and their rejected rows into a file beside it; return that file's path.

        Raises:
            DataError: no row could be read.
            StorageError: no permission, a full disk, or a part that is missing.
        """
        wholes, rejects = self._files_of(parts, self.writer.suffix), self._files_of(parts, REJECTS)
        side = rejects_of(output)
        if rejects:
            with new_file(side) as path, path.open("wb") as whole:
                whole.write(csv_line(REJECT_COLUMNS).encode())
                for part in rejects:
                    whole.write(part.read_bytes())
        if not wholes and not self.writer.can_be_empty:
            raise DataError(f"no row could be read, so there is nothing to write to {output}; see {side}")
        with new_file(output) as path:
            self.writer.join(wholes, path)
        if not rejects:
            with storage_errors(side):
                side.unlink(missing_ok=True)  # from an earlier job, whose output has just been replaced
        self.remove()
        return side if rejects else None

    def _files_of(self, parts: Sequence[Part], suffix: str) -> list[Path]:
        """The files of the parts that have one; each must have the size that was written."""
        paths = []
        for number, part in enumerate(parts):
            if suffix in part.files:
                path = self._path(number, suffix)
                size = path.stat().st_size if path.is_file() else None
                if size != part.files[suffix][0]:
                    state = "is missing" if size is None else "was changed"
                    raise StorageError(f"{path} {state}; run the same command again to compute that part again")
                paths.append(path)
        return paths

    def remove(self) -> None:
        """Remove all parts. Markers go first, the last part's first, so that a kill in between leaves whole parts.

        The job's description goes last, so that until then the folder is still recognized as a job.
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
    """The file of the rows that cannot be read.

    >>> rejects_of(Path("scored.csv")).name, rejects_of(Path("day.2.jsonl.gz")).name, rejects_of(Path("day.2")).name
    ('scored.rejects.csv', 'day.2.rejects.csv', 'day.2.rejects.csv')
    """
    plain = output.with_suffix("") if output.suffix.lower() == ".gz" else output
    is_format = bool(plain.suffix) and format_by_suffix(plain) is not None
    return plain.with_name(f"{plain.stem if is_format else plain.name}.rejects.csv")


def describe_input(path: Path) -> dict[str, Any]:
    """What identifies an input file: a resumed job must have the same."""
    if not path.is_file():
        return {"name": str(path)}  # a pipe
    stat = path.stat()
    with path.open("rb") as file:
        start = hashlib.sha256(file.read(HASHED_BYTES)).hexdigest()
    return {"name": path.name, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256 of its start": start}


def describe_classifier(predictor: Predictor) -> dict[str, Any]:
    """What identifies a classifier: its head's weights, its settings, the device and number format."""
    digest = hashlib.sha256()
    ngrams = predictor.classifier.ngrams
    for tensor in (*predictor.classifier.head.parameters(), *(ngrams.tensors.values() if ngrams else ())):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    config = json.loads(json.dumps(asdict(predictor.classifier.config)))
    device = {"device": predictor.device.torch_device.type, "precision": predictor.device.precision}
    return {"head": digest.hexdigest(), "config": config, "machine": device}
