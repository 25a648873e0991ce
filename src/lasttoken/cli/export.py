"""The command export: a run's classifier for transformers or ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lasttoken.cli.flags import Json, Quiet, RunDirectory, WithoutNgrams
from lasttoken.cli.show import print_json, print_line, terminal
from lasttoken.core.errors import SettingsError

To = Annotated[
    Literal["hf", "onnx"],
    typer.Option(
        "--to",
        help="onnx: an ONNX graph, for any backbone and pooling; hf: for transformers' pipeline, for backbones of "
        "GPT-2's architecture and pooling last.",
    ),
]


def export(
    run: RunDirectory,
    to: To,
    out: Annotated[Path, typer.Option("--out", help="Folder to create.")],
    precision: Annotated[
        Literal["float32", "int8"],
        typer.Option("--precision", help="int8: also write an 8-bit graph, with --to onnx."),
    ] = "float32",
    without_ngrams: WithoutNgrams = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export a classifier for transformers or ONNX Runtime.

    The exported logits are compared with the original's.
    """
    from lasttoken.core.process import tune_cpu
    from lasttoken.export.hf import export_hf
    from lasttoken.export.onnx import export_onnx

    reporter = terminal(quiet)
    if to == "hf" and precision == "int8":
        raise SettingsError("--precision int8 is for --to onnx; transformers computes in float32")
    tune_cpu()
    if to == "hf":
        exported, int8 = export_hf(run, out, without_ngrams=without_ngrams), None
    else:
        exported, int8 = export_onnx(run, out, precision == "int8", without_ngrams)
    for note in exported.notes:
        reporter.say(note)
    if as_json:
        difference = exported.largest_difference
        print_json({"out": str(out), "largest_difference": difference, "int8": vars(int8) if int8 else None})
        return
    if exported.largest_difference is None:
        reporter.say("the exported logits were not checked, because transformers is not installed")
    else:
        reporter.say(f"the exported logits differ from the original's by at most {exported.largest_difference:.1e}")
    if int8:
        reporter.say(
            f"int8: {int8.flips} of {int8.n} probe texts get another label than in float32; probabilities differ by at "
            f"most {int8.largest:.3f}"
        )
    print_line(str(out))
