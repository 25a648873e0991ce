"""A finished run measured on a labelled file, with a warning if the file contains texts the run was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lasttoken.classifier.evaluate import evaluate
from lasttoken.classifier.predict import Predictor
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.columns import SPLIT_COLUMNS, UNNAMED, ColumnSpec
from lasttoken.core.errors import DataError
from lasttoken.core.progress import Reporter
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.splitting.splits import count_shared_texts
from lasttoken.data.tables.options import DEFAULT, ReadOptions
from lasttoken.training.order import first_batches


@dataclass(frozen=True)
class FirstBatches:
    """A part of the rows: the first batches, as chapter 6's `num_batches` takes them."""

    n: int
    size: int = 8
    shuffle_seed: int | None = None  # shuffle first, as the chapter's train loader does; incomplete batches are dropped


def evaluate_run(
    run: Path,
    predictor: Predictor,
    data: Path,
    columns: ColumnSpec = UNNAMED,
    *,
    options: ReadOptions = DEFAULT,
    only: FirstBatches | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Metrics of a run's classifier on a labelled file, as one split of metrics.json.

    Args:
        run: the run directory; texts of its train split that are also in the file are reported.
        predictor: the run's classifier, perhaps with another decision rule.
        columns: of the file; those that are not named are the columns of the training.
        only: measure on the first batches only.

    Raises:
        DataError: a file that cannot be read, or a label that the classifier does not know.
    """
    reporter = reporter or Reporter()
    config = predictor.classifier.config
    examples = read_examples(data, columns, options=options, separator=config.separator, trained=config.columns)
    for note in examples.notes:
        reporter.say(note)
    if only is not None:
        rows = first_batches(len(examples), only.n, only.size, only.shuffle_seed)
        if not rows:
            raise DataError(f"{data} has {len(examples):,} rows, less than a batch of {only.size}; lower --batch-size")
        examples = examples.take(rows)
    if n_shared := count_texts_trained_on(run, examples, config.separator):
        reporter.say(
            f"{n_shared:,} of the {len(examples):,} texts are also in the run's train split; metrics are optimistic"
        )
    with reporter.bar("evaluating", len(examples)) as advance:
        return evaluate(predictor, examples, reporter.say, lambda n: advance(n, "")).to_json()


def count_texts_trained_on(run: Path, examples: Examples, separator: str | None = None) -> int:
    """The number of examples whose text is also in the train split of a run; 0 if the run has no such file."""
    train = RunDir(run).splits / "train.csv"
    if not train.is_file():
        return 0
    return count_shared_texts(read_examples(train, SPLIT_COLUMNS, separator=separator), examples)
