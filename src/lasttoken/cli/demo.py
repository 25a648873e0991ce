"""The command demo: a first classifier, without any data or download."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from lasttoken.cli.flags import Json, Offline, Quiet
from lasttoken.cli.show import print_json, print_line, print_metrics, terminal

OUT = Path("runs/demo")


def demo(
    out: Annotated[Path, typer.Option("--out", help="Run directory.")] = OUT,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help=f"Replace a finished run in another directory than {OUT}.")
    ] = False,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a first classifier on bundled data and weights.

    Then classifies two texts and writes a report. The messages were written for the demo, so its metrics are
    illustrative.
    """
    reporter = terminal(quiet)
    reporter.say("training a classifier that tells spam from ham, on messages that were written for this demo")
    with reporter.working("starting"):
        from lasttoken.core.process import tune_cpu
        from lasttoken.runs.demo import TEXTS, run_demo

    tune_cpu()
    run = run_demo(out, overwrite=overwrite or out == OUT, offline=offline, reporter=reporter)
    if as_json:
        print_json({**run.metrics, "run": str(run.out)})
        return
    reporter.say("\ntwo new texts, with their label and its probability:")
    for text in TEXTS:
        prediction = run.predictor.predict([text])[0]
        print_line(f"{prediction.label}\t{prediction.score:.3f}\t{text}")
    print_metrics(run.metrics, None, reporter)
    reporter.say(
        "\nThe demo's messages are few and were written for it, so its metrics are illustrative; the SMS collection is "
        f"the real test.\nThe run is in {out}, with its report in {out / 'report.html'}. Next:\n"
        f"  {_program()} predict {out} 'your text'\n"
        f"  {_program()} serve {out}\n"
        f"  {_program()} fetch sms-spam"
    )


def _program() -> str:
    """How to call the program from here: by its name if the shell finds it, otherwise by its path."""
    called, on_path = Path(sys.argv[0]), shutil.which("lasttoken")
    if not called.is_file() or (on_path and called.samefile(on_path)):
        return "lasttoken"
    with contextlib.suppress(ValueError):
        return shlex.quote(str(called.absolute().relative_to(Path.cwd())))
    return shlex.quote(str(called))
