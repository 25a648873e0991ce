"""The commands that take classifiers elsewhere and bring them in: export, push, import, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lasttoken.cli.flags import Json, Offline, Quiet
from lasttoken.cli.show import new_table, print_json, print_line, print_table, terminal
from lasttoken.core.errors import NetworkError, SettingsError

RUN = Annotated[Path, typer.Argument(help="A run directory.")]


def add_commands(app: typer.Typer) -> None:
    """Put this file's commands on the program."""
    app.command()(export)
    app.command()(push)
    app.command("import")(import_weights)
    app.command()(verify)


def export(
    run: RUN,
    to: Annotated[Literal["hf", "onnx"], typer.Option("--to", help="hf: for transformers' pipeline; onnx: one graph.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")],
    precision: Annotated[
        Literal["float32", "int8"], typer.Option("--precision", help="int8: of onnx, a second graph in 8 bits.")
    ] = "float32",
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a run's classifier for transformers or ONNX Runtime, checked against our own logits."""
    from lasttoken.core.process import tune_cpu
    from lasttoken.export.hf import export_hf
    from lasttoken.export.onnx import export_onnx

    reporter = terminal(quiet)
    if to == "hf" and precision == "int8":
        raise SettingsError("--precision int8 is for --to onnx; transformers computes in float32")
    tune_cpu()
    found, int8 = (export_hf(run, out), None) if to == "hf" else export_onnx(run, out, precision == "int8")
    for note in found.notes:
        reporter.say(note)
    if as_json:
        difference = found.largest_difference
        print_json({"out": str(out), "largest_difference": difference, "int8": vars(int8) if int8 else None})
        return
    if found.largest_difference is None:
        reporter.say("its logits were not checked: transformers is not installed")
    else:
        reporter.say(f"its logits differ from ours by {found.largest_difference:.1e} at most")
    if int8:
        reporter.say(
            f"int8: {int8.flips} of {int8.n} probe texts got another label, probabilities differ by {int8.largest:.3f}"
        )
    print_line(str(out))


def push(
    run: RUN,
    repository: Annotated[str, typer.Argument(help="owner/name on the hub.")],
    private: Annotated[bool, typer.Option("--private", help="Nobody else may see it.")] = False,
    offline: Offline = False,
    quiet: Quiet = False,
) -> None:
    """Upload a run's classifier, exported for transformers, with its model card, to a hub (HF_TOKEN, HF_ENDPOINT)."""
    from lasttoken.export.push import push as upload

    if offline:
        raise NetworkError("push needs the network, and --offline forbids it")
    print_line(upload(run, repository, private=private))


def import_weights(
    file: Annotated[Path, typer.Argument(help="What torch.save(model.state_dict(), …) wrote in the book's chapter 6.")],
    out: Annotated[Path, typer.Option("--out", help="Run directory to make.")],
    labels: Annotated[str, typer.Option("--labels", help="Names of the head's outputs, in order.")] = "ham,spam",
    max_length: Annotated[
        int, typer.Option("--max-length", help="Tokens that every text was padded to: the longest train text.")
    ] = 120,
    heads: Annotated[
        int | None, typer.Option("--heads", help="Attention heads; needed where the width is not one of GPT-2's.")
    ] = None,
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", help="Backbone whose it is, or a folder, such as the book's gpt2/124M.")
    ] = "gpt2",
    offline: Offline = False,
    quiet: Quiet = False,
) -> None:
    """Make a run of the book's own saved weights, so that what a reader has trained is not lost."""
    from lasttoken.export.book import import_book

    names = [name.strip() for name in labels.split(",")]
    if max_length < 1:
        raise SettingsError(f"--max-length is {max_length}; it must be at least 1")
    import_book(file, out, names, max_length=max_length, n_head=heads, tokenizer=tokenizer, offline=offline)
    terminal(quiet).say("nothing is known of its figures: measure them with lasttoken evaluate")
    print_line(str(out))


def verify(
    run: RUN,
    split: Annotated[str, typer.Option("--split", help="The split whose texts are used.")] = "test",
    export: Annotated[
        list[Path] | None, typer.Option("--export", help="A folder that export wrote; may be given several times.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Count the answers that other precisions, devices and exports change, against float32 on the CPU."""
    from lasttoken.core.process import tune_cpu
    from lasttoken.export.verify import verify as check

    tune_cpu()
    found = check(run, split, export or [])
    if as_json:
        print_json([one.to_json() for one in found])
        return
    table = new_table("against cpu float32", "texts", "flips", "largest drift", "mean drift")
    for one in found:
        figures = (f"{one.n:,}", f"{one.flips:,}", f"{one.largest:.1e}", f"{one.mean:.1e}")
        table.add_row(one.name, *(figures if one.trouble is None else ("", "", "", "")))
    print_table(table)
    for one in found:
        for sentence in filter(None, (one.trouble, one.note)):
            terminal(quiet).say(f"{one.name}: {sentence}")
