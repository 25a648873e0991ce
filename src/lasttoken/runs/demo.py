"""The demo: a training on the bundled backbone and the bundled messages, which were written for it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from lasttoken.core.progress import Reporter
from lasttoken.core.resolve import resolve
from lasttoken.runs.train import TrainedRun, TrainingRequest, train_run

TEXTS = ("Your parcel is held: pay the £2 fee at parcel.example.net", "Mum says thanks for the flowers, she loved them")


def run_demo(
    out: Path, *, overwrite: bool = False, offline: bool = False, reporter: Reporter | None = None
) -> TrainedRun:
    """Train on the bundled messages with the default recipe, and leave a run directory in `out`.

    Raises:
        LastTokenError: as `train_run`.
    """
    with resources.as_file(resources.files("lasttoken") / "demo" / "messages.csv") as messages:
        return train_run(
            TrainingRequest(
                data=messages,
                settings=resolve("default"),
                out=out,
                overwrite=overwrite,
                offline=offline,
                reporter=reporter or Reporter(),
            )
        )
