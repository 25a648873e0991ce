"""How many rows the comparison of depths needs: the choice on fewer rows, and what it costs on rows of test.

    python benchmarks/explored.py ../shared/data/trec

One pass computes the features of 2,000 rows of train, 400 of validation and 400 of test at all depths that are tried.
Then depth and pooling are chosen as `--method auto` does, on all of these rows of train and on parts of them. The loss
of a choice is that of its head, fitted to the 2,000 rows, on the rows of test.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from lasttoken.backbone.pretrained import count_blocks
from lasttoken.core.progress import Reporter
from lasttoken.core.resolve import resolve
from lasttoken.data.files import Examples
from lasttoken.data.gather import gather_splits
from lasttoken.data.splitting.splits import Splits
from lasttoken.runs.choice import EXPLORED_AXES, EXPLORED_STRENGTHS, POOLINGS
from lasttoken.runs.session import Session, open_device, open_session
from lasttoken.training.depths import DepthFeatures, depth_features, depths_to_try, pooled
from lasttoken.training.features import StoredFeatures
from lasttoken.training.held_out import Score, best_place, score_of
from lasttoken.training.linear import PRECISE, ROUGH, Head
from lasttoken.training.linear_training import STRENGTHS, make_problem, walk
from lasttoken.training.split_features import SplitFeatures

SIZES = (2_000, 1_000, 500, 250)
Way = tuple[int, str]  # depth and pooling


class Explored:
    """The features of all depths, and regressions on some of the rows of train."""

    def __init__(self, session: Session, depths: list[int]) -> None:
        self.session, self.depths = session, depths
        self.features: dict[str, DepthFeatures] = {
            name: depth_features(session.trunk, encoded, depths) for name, encoded in session.prepared.encoded.items()
        }

    def fit(self, way: Way, n_rows: int, rough: bool) -> tuple[Score, Head]:
        """The best head of a depth and pooling on the first rows of train, with its score on validation."""
        prepared, (depth, read) = self.session.prepared, way
        splits = []
        for name, n in (("train", n_rows), ("validation", len(prepared.truth["validation"]))):
            encoded, rows = prepared.encoded[name], np.arange(min(n, len(prepared.truth[name])))
            vectors = pooled(self.features[name].at(depth), read)[rows]
            taken = prepared.predictor.encode(list((encoded.texts or [])[: len(rows)]))
            source = StoredFeatures(taken, vectors, False, self.session.device.torch_device)
            splits.append(SplitFeatures(source, prepared.truth[name][rows]))
        vectors = np.concatenate([split.source.array for split in splits])  # type: ignore[attr-defined]
        task, axes = prepared.classifier.config.task, EXPLORED_AXES if rough else None
        problem = make_problem(task, vectors, splits, self.session.settings, None, False, axes)
        points = walk(problem, EXPLORED_STRENGTHS if rough else STRENGTHS, None, ROUGH if rough else PRECISE)
        best = points[best_place([point.score for point in points])]
        return best.score, best.heads[0]

    def choose(self, n_rows: int) -> Way:
        """The best depth and pooling on so many rows of train; both poolings together at the two best depths."""
        losses = {
            (depth, read): self.fit((depth, read), n_rows, rough=True)[0].loss
            for depth in self.depths
            for read in POOLINGS
        }
        two = list(dict.fromkeys(depth for depth, _ in sorted(losses, key=lambda way: losses[way])))[:2]
        losses |= {(depth, "last+mean"): self.fit((depth, "last+mean"), n_rows, rough=True)[0].loss for depth in two}
        return min(losses, key=lambda way: losses[way])

    def test(self, way: Way) -> Score:
        """The score on the rows of test of the head that is fitted to all rows."""
        prepared, (depth, read) = self.session.prepared, way
        logits = self.fit(way, SIZES[0], rough=False)[1].logits(pooled(self.features["test"].at(depth), read))
        return score_of(prepared.classifier.config.task, logits, prepared.truth["test"], "accuracy")


def some(examples: Examples, n: int) -> Examples:
    """At most n rows, in a random order."""
    return examples.take(np.random.default_rng(0).permutation(len(examples))[:n].tolist())


def main() -> None:
    """Print a line for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a file, or a folder of splits")
    settings = resolve("default", {"method": "linear", "no_cache": True})
    data = parser.parse_args().data
    named = gather_splits(data, settings, lambda sentence: None).named()
    splits = Splits(some(named["train"], SIZES[0]), some(named["validation"], 400), some(named["test"], 400))
    n_blocks = count_blocks(settings.backbone)
    deepest = resolve("default", {"method": "linear", "no_cache": True, "depth": str(n_blocks), "read": "last"})
    session = open_session(splits, deepest, open_device(deepest, Reporter()))
    started = time.process_time()
    explored = Explored(session, depths_to_try(n_blocks))
    print(f"{data.name}: features in {time.process_time() - started:.0f} s of CPU")
    for n_rows in SIZES:
        started = time.process_time()
        depth, read = explored.choose(n_rows)
        seconds = time.process_time() - started
        score = explored.test((depth, read))
        print(
            f"{n_rows:6,} rows: depth {depth}, {read}; test loss {score.loss:.3f}, accuracy {score.value:.1%}; "
            f"{seconds:.0f} s of CPU for the comparison",
            flush=True,
        )


if __name__ == "__main__":
    main()
