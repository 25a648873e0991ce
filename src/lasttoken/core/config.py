"""Every setting of a training, once: its name, its default, its help text and its check.

    flag  ──wins over──►  --config FILE  ──wins over──►  the recipe  ──wins over──►  the default below

The command line makes its flags from these fields and `run.toml` records them, so a setting has one home.
A recipe is a named set of differences to the defaults: `book` is the recipe of chapter 6 of *Build a Large
Language Model (From Scratch)*, in every detail; `default` is what docs/decisions/default-recipe.md measured.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from lasttoken.core.columns import ColumnSpec, column_names
from lasttoken.core.errors import SettingsError, nearest, one_of
from lasttoken.core.storage import parse_bytes

BALANCES = ("none", "undersample", "oversample", "weights")
READS = ("last", "first", "mean", "padded-last")
ENDS = ("head", "tail")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16", "int8")
SCHEDULES = ("constant", "cosine")
TRACKERS = ("tensorboard", "mlflow", "wandb")
KEEPS = ("best", "last")
MOST_ROW_BYTES = 1_000_000_000  # more is not a row of text; the csv module ends at 2^31 - 1
FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "fasttext", "txt")
CLEAN_SETTINGS = ("strict", "min_rows")  # which labelled rows are left out
# How a file is read, on every command that reads one
READ_SETTINGS = ("encoding", "field_separator", "no_header", "format", "max_row_bytes", "skip_unreadable")
ONE_LABEL_ONLY = ("balance", "cost", "folds", "learning_curve", "answers")  # settings that --multi-label refuses
METRICS = {"loss": "min", "accuracy": "max", "macro_f1": "max"}  # what `keep=best` can follow, and its direction


def _setting(default: Any, help: str, choices: tuple[str, ...] | None = None, flag: str | None = None) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices, "flag": flag})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of one training. Immutable; `resolve` makes them, `check` refuses what cannot be meant."""

    recipe: str = _setting(
        "default", "Named set of settings: default, or book for chapter 6 to the letter.", ("default", "book")
    )
    # data
    text: tuple[str, ...] = _setting((), "Column of the text; may be given several times (joined by a blank line).")
    label: tuple[str, ...] = _setting(
        (), "Column of the label; with --multi-label several, each with 0 or 1 for the label of its name."
    )
    multi_label: bool = _setting(
        False, "A text may have any number of labels, parted by a separator or as a JSON list.", flag="--multi-label"
    )
    label_separator: str = _setting("|", "What parts the labels of a text, with --multi-label.")
    id: str | None = _setting(None, "Column passed through to splits and predictions.")
    group: str | None = _setting(None, "Column whose equal values are never on two sides of the split.")
    encoding: str = _setting("utf-8", "Encoding of the text files.")
    field_separator: str | None = _setting(
        None, "Character between the fields of a table, or tab; default: what the file uses.", flag="--separator"
    )
    no_header: bool = _setting(
        False, "The file has no line of column names: its columns are named 1, 2, ...", flag="--no-header"
    )
    format: str | None = _setting(
        None, "Format of the data files; default: by the suffix. txt: one text a line.", FORMATS
    )
    max_row_bytes: str = _setting("16MB", "Longest row that is read; a longer one is refused.")
    skip_unreadable: bool = _setting(
        False, "Leave out rows that cannot be read, and say how many.", flag="--skip-unreadable"
    )
    strict: bool = _setting(
        False, "Stop at the first row without a text or a label, instead of leaving such rows out.", flag="--strict"
    )
    min_rows: int = _setting(1, "Rows that a label needs; rows of labels with fewer are left out.")
    validation: str | None = _setting(None, "File to use as the validation split.")
    test: str | None = _setting(None, "File to use as the test split.")
    balance: str = _setting(
        "none", "What to do about uneven labels in the train split; probabilities are corrected.", BALANCES
    )
    train_fraction: float = _setting(0.7, "Part of the rows to train on.")
    validation_fraction: float = _setting(0.1, "Part of the rows to choose the weights by; the rest is the test split.")
    # the classifier
    backbone: str = _setting(
        "pocket", "Pretrained GPT: pocket, gpt2, gpt2-medium, gpt2-large, gpt2-xl, a folder, a hub id."
    )
    train_blocks: str = _setting("2", "What trains: head, the last 1, 2, ... blocks with ln_f, or all.")
    read: str = _setting("last", "The token that the head reads.", READS)
    causal_mask: bool = _setting(True, "Let every token see the whole text.", flag="--no-causal-mask")
    max_length: int | None = _setting(None, "Longest text in tokens; default: what the backbone was trained for.")
    truncate: str = _setting("tail", "The end of a longer text that is cut off.", ENDS)
    # training
    epochs: int = _setting(6, "Passes over the train split.")
    batch_size: int = _setting(16, "Examples in a step.")
    learning_rate: float | None = _setting(None, "AdamW's learning rate, its peak; default: by the backbone's width.")
    schedule: str = _setting("cosine", "Course of the learning rate.", SCHEDULES)
    warmup_fraction: float = _setting(0.1, "Part of the steps over which the learning rate rises from zero.")
    weight_decay: float = _setting(0.1, "AdamW's weight decay, on every trained tensor.")
    clip_norm: float = _setting(1.0, "Largest norm of a step's gradient; 0: no limit.")
    drop_last: bool = _setting(
        False, "Leave out the last batch of an epoch when it is not full.", flag="--drop-last/--no-drop-last"
    )
    eval_every: int = _setting(0, "Steps between evaluations; 0: at the end of each epoch only.")
    eval_batches: int = _setting(
        0, "Batches that an evaluation while training reads of each split; 0: all of validation."
    )
    keep: str = _setting("best", "Weights that are kept: the best on validation, or the last.", KEEPS)
    metric: str = _setting("loss", "Validation metric that `best` follows.", tuple(METRICS))
    patience: int = _setting(0, "Evaluations without a better one after which training stops; 0: never.")
    seed: int = _setting(123, "Seed of the head, the order and the split.")
    # judging
    calibrate: bool = _setting(
        True,
        "Fit one temperature on validation, so that probabilities mean something.",
        flag="--calibrate/--no-calibrate",
    )
    threshold: str | None = _setting(
        None,
        "When a label is given: spam=0.9, auto (two labels; fitted on validation), spam@precision=0.99 or "
        "spam@recall=0.9 (fitted on validation), or 0.9 to abstain below it. With --multi-label auto is the default, "
        "and 0.5 gives every label that reaches it.",
    )
    cost: str | None = _setting(
        None,
        "What errors cost, such as spam:ham=5 for spam taken for ham; the others cost 1. Least expected cost wins.",
    )
    seeds: int = _setting(1, "Trainings by different seeds, on the same trunk; the run keeps the first.")
    folds: int = _setting(0, "Parts for a cross-validation over all rows beside the run; 0: none.")
    learning_curve: bool = _setting(
        False, "Train on 5 sizes of train: would more labels help?", flag="--learning-curve"
    )
    slice_by: str | None = _setting(None, "Column by whose values the errors are broken down.")
    answers: str | None = _setting(
        None, "Ask the bare backbone too, as a baseline: the answer of each label, such as spam=yes,ham=no."
    )
    track: str | None = _setting(None, "Also tell a tracker.", TRACKERS)
    # the machine
    device: str = _setting("auto", "Where to compute.", DEVICES)
    precision: str = _setting(
        "auto",
        "Number format; auto: bfloat16 autocast on CUDA, float32 elsewhere. int8: the trunk in 8 bits, on CPUs; "
        "quicker than float32 only on processors with VNNI.",
        PRECISIONS,
    )
    cache_limit: str | None = _setting(
        None, "Most that cached features may fill, such as 20GB; default: a quarter of the free disk."
    )
    no_cache: bool = _setting(False, "Keep features in memory for this run, nothing on disk.")

    @property
    def train_balance(self) -> str:
        """`balance` of the rows that are trained on; the book balances its rows before they are split."""
        return "none" if self.recipe == "book" else self.balance

    @property
    def columns(self) -> ColumnSpec:
        """The columns that are named."""
        return ColumnSpec(self.text, self.label, self.id, self.group, self.slice_by)

    @property
    def separator(self) -> str | None:
        """Between the labels of a text; None: every text has one label."""
        return self.label_separator if self.multi_label else None

    @property
    def cache_limit_bytes(self) -> int | None:
        """`cache_limit` in bytes; None: the default."""
        return None if self.cache_limit is None else parse_bytes(self.cache_limit)

    @property
    def row_limit_bytes(self) -> int:
        """`max_row_bytes` in bytes."""
        return parse_bytes(self.max_row_bytes)

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            SettingsError: names the setting, its value and what it may be.
        """
        for item in fields(self):
            choices = item.metadata["choices"]
            value = getattr(self, item.name)
            if choices and value is not None and value not in choices:
                raise SettingsError(
                    f"{flag_of(item.name)} is {value!r}; use one of {one_of(choices)}{nearest(str(value), choices)}"
                )
        for name in ("epochs", "batch_size", "max_length", "seeds", "min_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{flag_of(name)} is {value}; it must be at least 1")
        for name in ("eval_every", "eval_batches", "patience", "weight_decay", "clip_norm", "seed"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise SettingsError(f"{flag_of(name)} is {value}; it must be 0 or more")
        if self.folds == 1 or self.folds < 0:
            raise SettingsError(f"--folds is {self.folds}; it must be 2 or more, or 0 for none")
        if self.seed + self.seeds > 2**32:
            raise SettingsError(f"--seed is {self.seed}; it must be below {2**32:,}, as NumPy's seeds are")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise SettingsError(f"--learning-rate is {self.learning_rate}; it must be above 0, such as 5e-5")
        if not 0 <= self.warmup_fraction < 1:
            raise SettingsError(f"--warmup-fraction is {self.warmup_fraction}; it must be at least 0 and below 1")
        self._check_fractions()
        self._check_columns()
        if self.multi_label:
            self._check_multi_label()
        if self.train_blocks not in ("head", "all") and not (
            self.train_blocks.isdecimal() and int(self.train_blocks) > 0
        ):
            raise SettingsError(
                f"--train-blocks is {self.train_blocks!r}; use head, all, or a number of blocks such as 1"
            )
        if self.precision == "int8" and self.train_blocks == "all":
            raise SettingsError(
                "--precision int8 is for the frozen trunk, and --train-blocks all leaves none; train fewer blocks"
            )
        try:
            _ = self.cache_limit_bytes
        except ValueError as error:
            raise SettingsError(f"--cache-limit: {error}") from error
        self._check_reading()

    def _check_reading(self) -> None:
        separator = self.field_separator
        if separator is not None and separator not in ("tab", "\\t") and (len(separator) != 1 or separator in '\r\n"'):
            raise SettingsError(f"--separator is {separator!r}; give one character, such as ';', or tab")
        try:
            limit = self.row_limit_bytes
        except ValueError as error:
            raise SettingsError(f"--max-row-bytes: {error}") from error
        if not 0 < limit <= MOST_ROW_BYTES:
            raise SettingsError(f"--max-row-bytes is {self.max_row_bytes!r}; give at least 1 byte and at most 1 GB")

    def _check_columns(self) -> None:
        for name in ("text", "label"):
            columns = getattr(self, name)
            if twice := [column for column in columns if columns.count(column) > 1]:
                raise SettingsError(f"{flag_of(name)} names column {twice[0]!r} twice; name each column once")
        if len(self.label) > 1 and not self.multi_label:
            raise SettingsError(
                f"--label is given as {one_of(self.label)}, and a text has one label; give one column, or "
                "--multi-label as well where each column holds 0 or 1 for the label of its name"
            )

    def _check_multi_label(self) -> None:
        if not self.label_separator or self.label_separator.startswith("["):
            raise SettingsError(f"--label-separator is {self.label_separator!r}; give a sign, such as '|' or ';'")
        usual = {item.name: item.default for item in fields(self)}
        for name in ("recipe", *ONE_LABEL_ONLY):
            if getattr(self, name) != usual[name]:
                raise SettingsError(f"{flag_of(name)} is for texts of one label; leave it out, or --multi-label")

    def _check_fractions(self) -> None:
        train, validation = self.train_fraction, self.validation_fraction
        if not (0 < train < 1 and 0 < validation < 1):
            raise SettingsError(
                f"--train-fraction {train} and --validation-fraction {validation} must both be above 0 and below 1"
            )
        if train + validation > 1 - 1e-9:
            raise SettingsError(
                f"--train-fraction {train} and --validation-fraction {validation} add up to {train + validation:g}; "
                "they must leave something below 1 for the test split"
            )

    def with_rate_for(self, n_embd: int) -> Settings:
        """The settings with a learning rate: the one that was set, or the default for a backbone of this width.

        5e-5 · (768 / n_embd)²: the chapter's rate at GPT-2 small's width, and at pocket's the one that
        docs/decisions/default-recipe.md measured. The widths between and beyond are not measured.
        """
        return self if self.learning_rate else replace(self, learning_rate=5e-5 * (768 / n_embd) ** 2)

    def to_toml(self) -> dict[str, Any]:
        """The settings as `run.toml` holds them: what is not set is left out."""
        found = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: value for name, value in found.items() if value is not None}


RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "book": {
        "balance": "undersample",
        "train_fraction": 0.7,
        "validation_fraction": 0.1,
        "train_blocks": "1",
        "read": "padded-last",
        "epochs": 5,
        "batch_size": 8,
        "learning_rate": 5e-5,
        "schedule": "constant",
        "warmup_fraction": 0.0,
        "weight_decay": 0.1,
        "clip_norm": 0.0,
        "drop_last": True,
        "eval_every": 50,
        "eval_batches": 5,
        "keep": "last",
        "patience": 0,
        "seed": 123,
        "precision": "float32",
        "calibrate": False,
    },
}


def flag_of(name: str) -> str:
    """The flag of a setting.

    >>> flag_of("batch_size"), flag_of("causal_mask")
    ('--batch-size', '--no-causal-mask')
    """
    special = {item.name: item.metadata["flag"] for item in fields(Settings)}.get(name)
    return special.partition("/")[0] if special else "--" + name.replace("_", "-")


def resolve(recipe: str = "default", *layers: Mapping[str, Any]) -> Settings:
    """The settings of a recipe with layers of changes on top, later ones winning. None means "not given".

    >>> resolve("book", {"epochs": 2}, {"epochs": None}).epochs
    2

    Raises:
        SettingsError: unknown recipe or setting, or a value that cannot be meant.
    """
    if not isinstance(recipe, str) or recipe not in RECIPES:
        raise SettingsError(f"--recipe is {recipe!r}; use one of {one_of(RECIPES)}{nearest(str(recipe), RECIPES)}")
    merged: dict[str, Any] = {"recipe": recipe, **RECIPES[recipe]}
    for layer in layers:
        merged.update(
            {name: _typed(name, value) for name, value in layer.items() if value is not None and name != "recipe"}
        )
    settings = replace(Settings(), **merged)
    settings.check()
    return settings


def _typed(name: str, value: Any) -> Any:
    """`value` in the type of the setting `name`, as TOML, flags and Python callers may give it."""
    known = {item.name: item for item in fields(Settings)}
    if name not in known:
        raise SettingsError(f"there is no setting {name!r}{nearest(name, known)}")
    default = known[name].default
    if name in ("text", "label"):
        try:
            return column_names(value)
        except TypeError as error:
            raise SettingsError(
                f"--{name} is {value!r}; it must be the name of a column, or a list of names"
            ) from error
    if (
        name in ("train_blocks", "cache_limit", "threshold", "max_row_bytes")
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    ):
        value = str(value)
    elif (
        (isinstance(default, float) or name == "learning_rate")
        and isinstance(value, int)
        and not isinstance(value, bool)
    ):
        value = float(value)
    wanted = {"max_length": int, "learning_rate": float}.get(name, str if default is None else type(default))
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise SettingsError(f"{flag_of(name)} is {value!r}; it must be of type {wanted.__name__}")
    return value


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a TOML file: at its top level, or under `[settings]` as in a run's `run.toml`.

    `data` may stand beside them. Dashes and underscores are the same.

    Raises:
        SettingsError: not there, not TOML, or a name that is no setting.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"--config: there is no file {path}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"--config: {path} cannot be read as TOML: {error}") from error
    found = content.get("settings", content)
    if not isinstance(found, dict):
        raise SettingsError(f"--config: [settings] in {path} must be a table")
    found = {name.replace("-", "_"): value for name, value in found.items()}
    known = {item.name for item in fields(Settings)} | {"data"}
    for name in found:
        if name not in known:
            raise SettingsError(f"--config: {path} sets {name!r}, which is no setting{nearest(name, known)}")
    if not isinstance(found.get("data", ""), str):
        raise SettingsError(f"--config: {path} sets data to {found['data']!r}; it must be a path")
    return found
