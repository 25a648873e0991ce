"""What the parts of a tail's training cost in seconds of CPU: opening, trunk, steps, an evaluation.

    OMP_NUM_THREADS=1 python benchmarks/parts.py src/lasttoken/demo/messages.csv --depth 13 [--operators]

Seconds of CPU, because the wall clock of a shared machine says little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from lasttoken.core.process import flush_denormals
from lasttoken.core.progress import Reporter
from lasttoken.core.resolve import resolve
from lasttoken.data.gather import gather_splits
from lasttoken.runs.session import open_device, open_session
from lasttoken.training.accumulation import MicroBatch, micro_batches
from lasttoken.training.loop import Trainer, TrainingInputs

WARM, TIMED = 3, 10  # steps


@contextmanager
def cpu_seconds(part: str) -> Iterator[None]:
    """Print the seconds of CPU that the block takes."""
    started = time.process_time()
    yield
    print(f"{part:50} {time.process_time() - started:6.1f} s", flush=True)


def main() -> None:
    """Print a line for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a file, or a folder of splits")
    parser.add_argument("--depth", type=int, required=True)
    parser.add_argument("--operators", action="store_true", help="also print torch's operators in the steps")
    given = parser.parse_args()
    asked = resolve("default", {"method": "tail", "depth": str(given.depth), "no_cache": True})
    splits = gather_splits(given.data, asked, lambda sentence: None)
    with cpu_seconds("opening: weights, token ids, hash of the trunk"):
        session = open_session(splits, asked, open_device(asked, Reporter()))
    settings, prepared = replace(session.settings, start_head="drawn"), session.prepared
    tokens = sum(encoded.n_tokens for encoded in prepared.encoded.values())
    with cpu_seconds(f"trunk of {prepared.classifier.n_frozen} blocks, {tokens:,} tokens"):
        features = session.features(Reporter())
    trainer = Trainer(prepared.classifier, TrainingInputs(features, settings, session.device))
    rows = np.random.default_rng(0).permutation(len(features["train"])).tolist()
    batches = micro_batches([rows[n * settings.n_in_batch :][: settings.n_in_batch] for n in range(WARM + TIMED)], 1)
    with flush_denormals():
        for batch in batches[:WARM]:
            trainer._step(batch)
        with cpu_seconds(f"{TIMED} steps of {settings.n_in_batch} texts, {settings.train_blocks} blocks"):
            for batch in batches[WARM:]:
                trainer._step(batch)
        with cpu_seconds(f"an evaluation of twice {len(features['validation'])} texts"):
            trainer._evaluate("epoch")
        if given.operators:
            print_operators(trainer, batches[WARM:])


def print_operators(trainer: Trainer, batches: list[MicroBatch]) -> None:
    """Print the operators that take the most time."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as found:
        for batch in batches:
            trainer._step(batch)
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=45))


if __name__ == "__main__":
    main()
