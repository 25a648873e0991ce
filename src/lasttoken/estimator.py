"""The Python interface to a classifier: train, load, predict, explain, evaluate, save.

clf = TextClassifier.train(texts, labels, backbone="gpt2")
clf.predict(["You won $1000!"])        # [Prediction(label="spam", score=0.997, …)]
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.bulk.job import JobResult, Source, score_file
from lasttoken.classifier.checkpoint import save_classifier
from lasttoken.classifier.evaluate import evaluate
from lasttoken.classifier.explain import Explanation, explain
from lasttoken.classifier.predict import Prediction, Predictor
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.columns import ColumnSpec, column_names, names_in_frame
from lasttoken.core.errors import DataError
from lasttoken.core.locks import exclusive
from lasttoken.core.progress import Reporter
from lasttoken.core.resolve import resolve
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.frames import from_frame, from_lists, is_table
from lasttoken.data.tables.options import DEFAULT, ReadOptions
from lasttoken.runs.train import TrainingRequest, train_run

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
        reporter: Reporter | None = None,
        **settings: Any,
    ) -> TextClassifier:
        """Train a classifier.

        Args:
            texts: texts (with `labels`), a data frame (columns by `text` and `label`), or the path of a file or folder.
            validation, test: (texts, labels), frames, or paths of files; validation is cut from the data when it is
                not given, and so is test when neither is given.
            recipe: "default", or "book" for chapter 6.
            out: write a run directory there.
            settings: any field of `lasttoken.core.config.Settings`, such as `backbone`, `epochs`, `train_blocks`.

        Raises:
            LastTokenError: see lasttoken.core.errors.
        """
        files = {"validation": validation, "test": test}
        files = {name: str(value) for name, value in files.items() if isinstance(value, str | Path)}
        columns_given: dict[str, Any] = {
            name: names_in_frame(settings[name]) for name in ("text", "label") if name in settings
        }
        resolved = resolve(recipe, {**settings, **columns_given}, files)
        columns = resolved.columns
        reading: dict[str, Any] = {"separator": resolved.separator, "strict": resolved.strict}
        data = _data(texts, labels, columns, **reading)
        run = train_run(
            TrainingRequest(
                data=data,
                settings=resolved,
                out=Path(out) if out is not None else None,
                validation=None if "validation" in files else _split_of(validation, columns, data, **reading),
                test=None if "test" in files else _split_of(test, columns, data, **reading),
                overwrite=overwrite,
                offline=offline,
                reporter=reporter or Reporter(),
            )
        )
        return cls(run.predictor, run.metrics, run.out)

    @classmethod
    def load(cls, run_dir: str | Path, *, device: str = "auto", precision: str = "auto") -> TextClassifier:
        """Load a finished run. The process is not changed; `lasttoken.core.process.tune_cpu()` makes CPUs faster.

        Raises:
            RunError: not a finished run.
            BackboneError: its weights are corrupt.
        """
        folder = Path(run_dir)
        metrics = RunDir(folder).read_metrics()
        return cls(Predictor.load(folder, device, precision), metrics, folder)

    @property
    def labels(self) -> tuple[str, ...]:
        """The K labels, in the order of their ids."""
        return self._predictor.labels

    def predict(self, texts: str | Texts, *, text: str | Sequence[str] = ()) -> list[Prediction]:
        """One prediction for each text, or for each row of a table, in order.

        `text` names one or several text columns of a table. Without it, the columns of the training are read; if the
        table has none of them, an obvious column is read with a UserWarning.

        Raises:
            DataError: something that is not a string, or a table without such columns.
        """
        return self._predictor.predict(self._texts(texts, text))

    def predict_file(
        self,
        input: str | Path,
        output: str | Path,
        *,
        text: str | Sequence[str] = (),
        id: str | None = None,
        options: ReadOptions = DEFAULT,
        top_k: int | None = None,
        strict: bool = False,
        restart: bool = False,
        reporter: Reporter | None = None,
    ) -> JobResult:
        """Classify every row of a file and write another file; a killed job can be resumed. See `bulk.job.score_file`.

        `options` says how the input is read: its encoding, separator, header, format and longest row.

        Raises:
            DataError, SettingsError, RunError, StorageError: see `score_file`.
        """
        trained = self._predictor.classifier.config.columns
        source = Source(Path(input), ColumnSpec(column_names(text), id=id), options, trained)
        return score_file(
            lambda: self._predictor,
            source,
            Path(output),
            top_k=top_k,
            strict=strict,
            restart=restart,
            reporter=reporter,
        )

    def predict_proba(self, texts: str | Texts, *, text: str | Sequence[str] = ()) -> NDArray[np.float32]:
        """Probabilities [N, K], columns in the order of `labels`; `text` as in `predict`.

        Raises:
            DataError: something that is not a string, or a table without such columns.
        """
        return np.exp(self._predictor.log_probs(self._predictor.encode(self._texts(texts, text))))

    def _texts(self, texts: str | Texts, text: str | Sequence[str]) -> list[str]:
        if is_table(texts):
            asked = ColumnSpec(column_names(names_in_frame(text)))
            examples = from_frame(texts, asked, labelled=False, trained=self._predictor.classifier.config.columns)
            self._warn_of_guesses(examples)
            return examples.texts
        if text not in ((), [], None):
            raise DataError(f"text={text!r} names a column, and there is no table but a list of texts; leave it out")
        return from_lists([texts] if isinstance(texts, str) else texts).texts

    def _warn_of_guesses(self, examples: Examples) -> None:
        if self._predictor.classifier.config.columns is not None:
            for note in examples.notes:
                warnings.warn(note, UserWarning, stacklevel=4)

    def explain(self, text: str, *, label: str | None = None, method: str | None = None) -> Explanation:
        """The contribution of each word to the prediction, see `lasttoken.classifier.explain.explain`.

        Raises:
            SettingsError: an unknown label or method.
        """
        return explain(self._predictor, text, label=label, method=method)

    def evaluate(
        self,
        texts: Texts | str | Path,
        labels: Labels | None = None,
        *,
        text: str | Sequence[str] = (),
        label: str | Sequence[str] | None = None,
        options: ReadOptions = DEFAULT,
    ) -> dict[str, Any]:
        """Metrics on labelled texts, as one split of metrics.json.

        Args:
            texts: a list of texts with `labels` beside it, a table, or the path of a file.
            labels: one for each text of a list.
            text, label: the columns of a table or a file; without them those of the training, as in `predict`.
            options: how a file is read, as in `predict_file`.

        Rows without a text or a label are left out, with a warning.

        Raises:
            DataError: a label that the classifier does not know.
        """
        columns = ColumnSpec(column_names(names_in_frame(text)), column_names(names_in_frame(label)))
        config = self._predictor.classifier.config
        if isinstance(texts, str | Path) and labels is None:
            reading: dict[str, Any] = {"options": options, "separator": config.separator}
            examples = read_examples(texts, columns, trained=config.columns, **reading)
        else:
            examples = _examples(texts, labels, columns, config.separator, config.columns)
        self._warn_of_guesses(examples)
        for sentence in examples.left_out.sentences() if examples.left_out else ():
            warnings.warn(sentence, UserWarning, stacklevel=2)
        return evaluate(self._predictor, examples).to_json()

    def save(self, folder: str | Path) -> None:
        """Write a folder that `load` reads: the classifier and its metrics.

        Raises:
            RunError: the folder holds a run or other files, or another process uses it.
            StorageError: no permission, or a full disk.
        """
        run_dir = RunDir(Path(folder))
        with exclusive(run_dir.path):
            run_dir.check_free(overwrite=False, replace_unfinished=False)
            run_dir.clear()
            save_classifier(run_dir.path, self._predictor.classifier, self._predictor.tokenizer)
            run_dir.write_metrics(self.metrics)


def _data(texts: Any, labels: Any, columns: ColumnSpec, *, separator: str | None, strict: bool) -> Path | Examples:
    """The training data: a path, or examples."""
    if not isinstance(texts, str | Path):
        return _examples(texts, labels, columns, separator, strict=strict)
    if labels is not None:
        raise DataError(f"labels were given beside the path {texts}; leave them out, they are read from the file")
    return Path(texts)


def _examples(
    texts: Any,
    labels: Any,
    columns: ColumnSpec,
    separator: str | None,
    trained: ColumnSpec | None = None,
    train_header: Sequence[str] | None = None,
    strict: bool = False,
) -> Examples:
    if not is_table(texts):
        if labels is None:
            raise DataError("there are texts but no labels; give a list of labels beside them, one for each text")
        return from_lists(texts, labels, separator=separator, strict=strict)
    if labels is not None:
        raise DataError("labels were given beside a table; leave them out, they are read from its column")
    return from_frame(texts, columns, separator=separator, trained=trained, train_header=train_header, strict=strict)


def _split_of(value: Any, columns: ColumnSpec, train: Any, *, separator: str | None, strict: bool) -> Examples | None:
    """A validation or test split, whose columns are those of train."""
    if value is None:
        return None
    if not isinstance(value, tuple):
        like = train.columns if isinstance(train, Examples) else None
        if like is None:
            return _examples(value, None, columns, separator, strict=strict)
        others = replace(columns, text=(), label=())
        return _examples(value, None, others, separator, like.remembered, like.header, strict)
    if len(value) != 2:
        raise DataError(f"a split is a tuple of {len(value)}; give (texts, labels)")
    return _examples(*value, columns, separator, strict=strict)
