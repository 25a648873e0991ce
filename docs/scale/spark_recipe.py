"""Score a Spark data frame: mapInPandas, with one classifier for each Python worker."""

from collections.abc import Iterator
from functools import cache

import pandas as pd
from pyspark.sql import DataFrame

from lasttoken import TextClassifier

COLUMNS = "id long, text string, predicted_label string, predicted_score double"


@cache  # loaded once in a Python worker, which Spark keeps from task to task
def classifier(run: str) -> TextClassifier:
    """The classifier of this worker."""
    return TextClassifier.load(run, device="cpu")


def score(rows: DataFrame, run: str) -> DataFrame:
    """The rows, which have the columns id and text, with a label and its score; run: a path on every machine."""

    def scored(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            answers = classifier(run).predict(frame["text"].tolist())
            yield frame[["id", "text"]].assign(
                predicted_label=[answer.label for answer in answers],
                predicted_score=[answer.score for answer in answers],
            )

    return rows.mapInPandas(scored, COLUMNS)
