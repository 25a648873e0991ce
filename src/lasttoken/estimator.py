"""The classifier as Python code uses it: train, load, predict, evaluate, save.

clf = TextClassifier.train(texts, labels, backbone="gpt2")
clf.predict(["You won $1000!"])        # [Prediction(label="spam", score=0.997, …)]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.checkpoint import save_classifier
from lasttoken.columns import ColumnSpec, column_names
from lasttoken.config import resolve
from lasttoken.data.files import Examples
from lasttoken.data.frames import from_frame, from_lists
from lasttoken.errors import DataError
from lasttoken.evaluation.evaluate import evaluate
from lasttoken.explain import Explanation, explain
from lasttoken.predict import Prediction, Predictor
from lasttoken.run import train_run
from lasttoken.rundir import RunDir
from lasttoken.scoring.job import Outcome, Source, score_file
from lasttoken.talk import Talk

Labels = Sequence[str] | Sequence[int] | Sequence[Sequence[str]]  # lists of labels with multi_label=True
Texts = Sequence[str] | Any  # a list of texts, a table with columns, or (train only) a path


class TextClassifier:
    """A trained classifier. Make one with `train` or `load`."""

    def __init__(self, predictor: Predictor, metrics: dict[str, Any], run_dir: Path | None = None) -> None:
        self._predictor = predictor
        self.metrics = metrics  # the content of metrics.json
        self.run_dir = run_dir

    @classmethod
    def train(
        cls,
        texts: Texts,
        labels: Labels | None = None,
        *,
        validation: tuple[Sequence[str], Labels] | Any = None,
        test: tuple[Sequence[str], Labels] | Any = None,
        recipe: str = "default",
        out: str | Path | None = None,
        overwrite: bool = False,
        offline: bool = False,
        talk: Talk | None = None,
        **settings: Any,
    ) -> TextClassifier:
        """Train a classifier.

        Args:
            texts: a list of texts with `labels` beside it; a data frame (columns by the settings `text`, `label`);
                or the path of a file or a folder of splits, as on the command line.
            validation, test: (texts, labels), frames, or paths of files; validation is cut from the data when it is
                not given, and so is test when neither is.
            recipe: "default", or "book" for chapter 6.
            out: leave a run directory there.
            settings: any field of `lasttoken.config.Settings`, such as `backbone`, `epochs`, `train_blocks`.

        Raises:
            LastTokenError: see lasttoken.errors.
        """
        files = {"validation": validation, "test": test}
        files = {name: str(value) for name, value in files.items() if isinstance(value, str | Path)}
        resolved = resolve(recipe, settings, files)
        columns, separator = resolved.columns, resolved.separator
        data: Path | Examples
        if isinstance(texts, str | Path):
            if labels is not None:
                raise DataError(
                    f"labels were given beside the path {texts}; leave them out, they are read from the file"
                )
            data = Path(texts)
        else:
            data = _examples(texts, labels, columns, separator)
        run = train_run(
            data,
            resolved,
            out=Path(out) if out is not None else None,
            validation=None if "validation" in files else _given_split(validation, columns, separator),
            test=None if "test" in files else _given_split(test, columns, separator),
            overwrite=overwrite,
            offline=offline,
            talk=talk,
        )
        return cls(run.predictor, run.metrics, run.out)

    @classmethod
    def load(cls, run_dir: str | Path, *, device: str = "auto", precision: str = "auto") -> TextClassifier:
        """Load a finished run.

        Raises:
            RunError: not a finished run.
            BackboneError: its weights are torn.
        """
        folder = Path(run_dir)
        metrics = RunDir(folder).read_metrics()
        return cls(Predictor.load(folder, device, precision), metrics, folder)

    @property
    def labels(self) -> tuple[str, ...]:
        """The K labels, in the order of their ids."""
        return self._predictor.labels

    def predict(self, texts: str | Texts) -> list[Prediction]:
        """One prediction for each text, or for each row of a frame, in order.

        Raises:
            DataError: something that is not a string.
        """
        return self._predictor.predict(_checked(texts))

    def predict_file(
        self,
        input: str | Path,
        output: str | Path,
        *,
        text: Sequence[str] = (),
        id: str | None = None,
        top_k: int | None = None,
        strict: bool = False,
        restart: bool = False,
        talk: Talk | None = None,
    ) -> Outcome:
        """Classify every row of a file into another; a killed job goes on where it was. See `scoring.job.score_file`.

        Raises:
            DataError, SettingsError, RunError, StorageError: as there.
        """
        source = Source(Path(input), tuple(text), id)
        return score_file(
            lambda: self._predictor, source, Path(output), top_k=top_k, strict=strict, restart=restart, talk=talk
        )

    def predict_proba(self, texts: str | Texts) -> NDArray[np.float32]:
        """Probabilities [N, K], columns in the order of `labels`.

        Raises:
            DataError: something that is not a string.
        """
        return np.exp(self._predictor.log_probs(self._predictor.encode(_checked(texts))))

    def explain(self, text: str, *, label: str | None = None, method: str | None = None) -> Explanation:
        """Which words moved the decision for a text, see `lasttoken.explain.explain`.

        Raises:
            SettingsError: a label or method that is not known.
        """
        return explain(self._predictor, text, label=label, method=method)

    def evaluate(
        self,
        texts: Texts,
        labels: Labels | None = None,
        *,
        text: Sequence[str] = (),
        label: str | None = None,
    ) -> dict[str, Any]:
        """Metrics on labelled texts, as one split of metrics.json; `text` and `label` name a frame's columns.

        Raises:
            DataError: a label that the classifier does not know.
        """
        columns = ColumnSpec(column_names(text), column_names(label))
        separator = self._predictor.classifier.config.separator
        return evaluate(self._predictor, _examples(texts, labels, columns, separator)).to_json()

    def save(self, folder: str | Path) -> None:
        """Write a folder that `load` reads: the classifier and its metrics.

        Raises:
            RunError: the folder holds a finished run, or other files.
            StorageError: no permission, or a full disk.
        """
        run_dir = RunDir(Path(folder))
        run_dir.check_free(overwrite=False)
        run_dir.clear()
        save_classifier(run_dir.path, self._predictor.classifier, self._predictor.tokenizer)
        run_dir.write_metrics(self.metrics)


def _examples(texts: Any, labels: Any, columns: ColumnSpec, separator: str | None) -> Examples:
    is_frame = hasattr(texts, "columns")
    if is_frame == (labels is not None):
        raise DataError(
            "labels were given beside a frame; leave them out, they are read from its column"
            if is_frame
            else "there are texts but no labels; give a list of labels beside them, one for each text"
        )
    if is_frame:
        return from_frame(texts, columns, separator=separator)
    return from_lists(texts, labels, separator=separator)


def _given_split(value: Any, columns: ColumnSpec, separator: str | None) -> Examples | None:
    if value is None:
        return None
    if not isinstance(value, tuple):
        return _examples(value, None, columns, separator)
    if len(value) != 2:
        raise DataError(f"a split is a tuple of {len(value)}; give (texts, labels)")
    return _examples(*value, columns, separator)


def _checked(texts: str | Texts) -> list[str]:
    if hasattr(texts, "columns"):
        return from_frame(texts, labelled=False).texts
    return from_lists([texts] if isinstance(texts, str) else texts).texts
