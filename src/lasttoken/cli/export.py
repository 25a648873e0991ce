"""The command export: a run's classifier for transformers, peft or ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lasttoken.cli.flags import Json, Offline, Quiet, RunDirectory, WithoutNgrams
from lasttoken.cli.show import print_json, print_line, terminal
from lasttoken.core.errors import SettingsError

if TYPE_CHECKING:
    from lasttoken.export.folder import Exported
    from lasttoken.export.onnx import Int8

To = Annotated[
    Literal["hf", "onnx", "peft"],
    typer.Option(
        "--to",
        help="onnx: an ONNX graph, for any backbone and pooling; hf: for transformers' pipeline, for pooling last, "
        "and --no-head-bias except on GPT-2's architecture; peft: the LoRA of a run with --keep-adapter, likewise.",
    ),
]


Precision = Annotated[
    Literal["float32", "int8"],
    typer.Option("--precision", help="int8: also write an 8-bit graph, with --to onnx."),
]
WithBase = Annotated[
    bool,
    typer.Option("--with-base", help="Also write the backbone, with --to peft, where transformers cannot load it."),
]


def export(
    run: RunDirectory,
    to: To,
    out: Annotated[Path, typer.Option("--out", help="Folder to create.")],
    precision: Precision = "float32",
    with_base: WithBase = False,
    without_ngrams: WithoutNgrams = False,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export a classifier for transformers, peft or ONNX Runtime.

    The exported logits are compared with the original's.
    """
    from lasttoken.core.process import tune_cpu
    from lasttoken.export.adapter import export_adapter
    from lasttoken.export.hf import export_hf
    from lasttoken.export.onnx import export_onnx

    reporter = terminal(quiet)
    if to != "onnx" and precision == "int8":
        raise SettingsError("--precision int8 is for --to onnx; transformers computes in float32")
    if to != "peft" and offline:
        raise SettingsError("--offline is for --to peft; the other exports never use the network")
    if to != "peft" and with_base:
        raise SettingsError("--with-base is for --to peft; the other exports hold the whole classifier")
    tune_cpu()
    int8 = None
    if to == "peft":
        flags = {"with_base": with_base, "without_ngrams": without_ngrams, "offline": offline}
        exported = export_adapter(run, out, **flags, reporter=reporter)
    elif to == "hf":
        exported = export_hf(run, out, without_ngrams=without_ngrams)
    else:
        exported, int8 = export_onnx(run, out, precision == "int8", without_ngrams)
    for note in exported.notes:
        reporter.say(note)
    if as_json:
        difference = exported.largest_difference
        print_json({"out": str(out), "largest_difference": difference, "int8": vars(int8) if int8 else None})
        return
    for sentence in _checks(exported, int8, "peft or transformers" if to == "peft" else "transformers"):
        reporter.say(sentence)
    print_line(str(out))


def _checks(exported: Exported, int8: Int8 | None, library: str) -> list[str]:
    """What the comparison of an export showed, in sentences; `library` is what it needs."""
    difference = exported.largest_difference
    if difference is None:
        return [f"the exported logits were not checked, because {library} is not installed"]
    sentences = [f"the exported logits differ from the original's by at most {difference:.1e}"]
    if int8:
        sentences.append(
            f"int8: {int8.flips} of {int8.n} probe texts get another label than in float32; probabilities differ by at "
            f"most {int8.largest:.3f}"
        )
    return sentences
