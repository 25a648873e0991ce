"""Flags: those that several commands share, and those that are made from the fields of Settings.

The name, default, choices and help of a setting are defined in config.py only; `with_settings` makes the signature of
a command from them, so that a new setting is a new flag.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import Field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from typer.core import TyperCommand

from lasttoken.core.columns import ColumnSpec
from lasttoken.core.config import BACKBONE_NAMES, DEVICES, FIELDS, PRECISIONS, flag_of, settings_of
from lasttoken.core.errors import SettingsError
from lasttoken.core.prompt import from_command_line
from lasttoken.core.resolve import resolve
from lasttoken.core.setting import info_of, kind_of
from lasttoken.data.tables.formats import format_names

if TYPE_CHECKING:
    from lasttoken.data.tables.options import ReadOptions

Offline = Annotated[bool, typer.Option("--offline", help="Never use the network.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing on stderr except errors.")]
Device = Annotated[
    Literal[DEVICES],  # type: ignore[valid-type]  # the choices have one home, which a type checker cannot read
    typer.Option("--device", help="Device to compute on."),
]
Precision = Annotated[
    Literal[PRECISIONS],  # type: ignore[valid-type]
    typer.Option(
        "--precision",
        help="Number format; auto: int8 if the run was trained so, else bfloat16 on CUDA, float32 elsewhere.",
    ),
]
Threshold = Annotated[
    str | None,
    typer.Option("--threshold", help="Use another decision threshold: spam=0.9, or 0.9 to abstain below it."),
]
Cost = Annotated[
    str | None, typer.Option("--cost", help="Predict the label with the least expected cost, such as spam:ham=5.")
]
TextColumns = Annotated[
    list[str] | None, typer.Option("--text", metavar="<column>", help="Name of the text column; repeatable.")
]
LabelColumn = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="<column>",
        help="Name of the label column; repeatable for columns of 0 and 1 named after the labels.",
    ),
]
WithoutNgrams = Annotated[
    bool,
    typer.Option(
        "--without-ngrams",
        help="Export the GPT alone, with its own temperature, of a classifier with n-grams.",
    ),
]
RunDirectory = Annotated[Path, typer.Argument(help="A run directory.")]
BackboneName = Annotated[str, typer.Argument(help=f"{BACKBONE_NAMES}.")]


class Command(TyperCommand):
    """A command that rejects a repeated flag of a single value; the parser alone would silently keep the last.

    Its help shows the type of a repeatable argument as `<path>`, not as `<list[Path]>`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        """Replace the types of lists in the help by those of their elements."""
        super().__init__(*args, **options)
        for item in cast("list[Any]", self.params):
            if _is_list(item):
                element = re.sub(r"list\[(.*)\]", r"\1", item.display_type(None)).lower()
                item.display_type = lambda _, element=element: element

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments.

        Raises:
            SettingsError: names the flag that is repeated.
        """
        if not ctx.resilient_parsing:
            _, _, used = self.make_parser(ctx).parse_args(args=list(args))
            for item in used:
                if used.count(item) > 1 and not (item.multiple or getattr(item, "is_flag", False)):
                    raise SettingsError(f"{item.opts[0]} is given {used.count(item)} times; give it once")
        return super().parse_args(ctx, args)


def _is_list(item: Any) -> bool:
    """Whether a parameter takes several values; their type is not a choice, whose display needs a context."""
    descriptor = getattr(item, "type_descriptor", None)
    return descriptor is not None and descriptor.is_list and not descriptor.is_choice


class Program(typer.Typer):
    """A program whose commands are `Command`s."""

    def command(self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **options: Any) -> Any:
        """Register a command, as typer does."""
        return super().command(name, cls=cls or Command, **options)


class TextCommand(Command):
    """A command with texts as arguments, which may begin with a dash: "-5 stars" is a text, "--jsn" a mistyped flag."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept words with a leading dash as texts, unless one looks like a flag that does not exist."""
        known = {flag for item in self.params for flag in (*item.opts, *item.secondary_opts)} | {"--help"}
        words = args[: args.index("--")] if "--" in args else args
        looks_like_flag = [
            word.partition("=")[0] for word in words if re.fullmatch(r"--?[^\W\d][\w-]*(=.*)?", word, re.S)
        ]
        ctx.ignore_unknown_options = known.issuperset(looks_like_flag)
        return super().parse_args(ctx, args)


def with_settings(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command that takes `**flags` a typed flag for each of its settings, see `config.settings_of`.

    A flag that the user does not give arrives as None, so that --config and the recipe can decide.
    """

    def wrap(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD]
        added = [_parameter(FIELDS[setting], name) for setting in settings_of(name)]
        signature = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in (*own, *added)])
        command.__signature__ = signature  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return command

    return wrap


def _parameter(item: Field[Any], command: str = "train") -> inspect.Parameter:
    """The parameter of a command for a setting."""
    info, kind = info_of(item), kind_of(item)
    own_help = info.help_of.get(command)
    shows_default = kind is not bool and item.default not in (None, ()) and "[default:" not in (own_help or "")
    help = (own_help or info.help) + (f" [default: {item.default}]" if shows_default else "")
    names = [info.flag or flag_of(item.name), *filter(None, [info.alias])]
    choices = info.valid_choices() or (
        format_names() if item.name == "format" else None
    )  # core does not know the formats
    value: Any = Literal[choices] if choices else list[str] if kind is tuple else kind
    metavar = "<column>" if kind is tuple else None
    option = typer.Option(*names, help=help, show_default=False, metavar=metavar)
    return inspect.Parameter(
        item.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[value | None, option]
    )


def column_spec(text: list[str] | None, label: list[str] | None) -> ColumnSpec:
    """The columns that --text and --label name."""
    return ColumnSpec(tuple(text or ()), tuple(label or ()))


def chosen_settings(flags: dict[str, Any]) -> dict[str, Any]:
    """The settings that the user has given as flags. `--no-causal-mask` is the setting causal_mask = False."""
    chosen = {name: value for name, value in flags.items() if value is not None and value != []}
    if "causal_mask" in chosen:
        chosen["causal_mask"] = not chosen["causal_mask"]
    if "prompt" in chosen:
        chosen["prompt"] = from_command_line(chosen["prompt"])
    return chosen


def read_options(flags: dict[str, Any]) -> ReadOptions:
    """How to read a file, from the flags of a command such as predict.

    Raises:
        SettingsError: an invalid value.
    """
    from lasttoken.data.tables.options import ReadOptions

    return ReadOptions.of(resolve("default", chosen_settings(flags)))
