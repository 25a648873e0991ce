"""The classifier of a job: its run directory, and how it is loaded and identified without being loaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lasttoken.classifier.predict import Predictor
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.device import pick_device
from lasttoken.core.documents import load_json
from lasttoken.core.errors import RunError

FILES = ("config.json", "model.safetensors", "tokenizer.json", "ngrams.json", "ngrams.safetensors")
HASHED_BYTES = 1 << 22  # at a time


@dataclass(frozen=True)
class Model:
    """A classifier on disk, and how it answers. It is a small value that can be sent to another process."""

    run: Path
    device: str = "auto"
    precision: str = "auto"
    threshold: str | None = None
    cost: str | None = None

    def describe(self) -> dict[str, Any]:
        """What identifies the classifier's answers: the content of its files, the decision rule and the number format.

        Raises:
            RunError: not a finished run.
            SettingsError: a device that this machine does not have.
        """
        RunDir(self.run).read_metrics()
        precision = self.precision
        if precision == "auto" and self._is_int8():
            precision = "int8"
        device = pick_device(self.device, precision)
        digests = {name: _digest(self.run / name) for name in FILES if (self.run / name).is_file()}
        return {
            "files": digests,
            "decision": [self.threshold, self.cost],
            "device": device.torch_device.type,
            "precision": device.precision,
        }

    def _is_int8(self) -> bool:
        """Whether the classifier computes its trunk in 8 bits by default."""
        try:
            recorded = load_json(self.run / "config.json").get("lasttoken")
        except FileNotFoundError:
            return False
        return isinstance(recorded, dict) and recorded.get("int8_trunk") is True

    def load(self, expected: dict[str, Any] | None = None) -> Predictor:
        """Load the classifier; with `expected`, only if it is the one that was described so.

        Raises:
            RunError: another classifier; or see `Predictor.load`.
        """
        if expected is not None and (found := self.describe()) != expected:
            different = next(name for name in found if found[name] != expected.get(name))
            raise RunError(
                f"the classifier in {self.run} has other {different} than the one that the job was begun with; give "
                "that run and device, or pass --restart to start again"
            )
        predictor = Predictor.load(self.run, self.device, self.precision)
        predictor.answer_by(self.threshold, self.cost)
        return predictor


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()
