"""What a study trains: rows of settings on shared data and seeds, from a TOML file or the chapter's table.

data = "messages.csv"      seeds = 5      [settings] of all rows      [rows.base]  [rows."two blocks"]
                                                │                          │
                                                └──► resolve ◄─────────────┘   checked before anything is trained
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lasttoken.core.book_rows import BOOK_ROWS
from lasttoken.core.config import FIELDS, Settings
from lasttoken.core.errors import SettingsError, UserError, nearest, one_of
from lasttoken.core.resolve import resolve_layers

BOOK = "book"  # the name of the chapter's table, in place of a file
BOOK_DATA = Path("SMSSpamCollection")
DEFAULT_SEEDS = 5
MOST_SEEDS = 10_000
LARGEST_SEED = 2**32 - 1  # NumPy's limit
KEYS = ("data", "seeds", "settings", "rows")  # of a study file
OF_THE_DATA = (  # settings that every row shares, because they decide which rows are in which split
    "recipe", "text", "label", "multi_label", "label_separator", "id", "group", "encoding", "field_separator",
    "no_header", "format", "max_row_bytes", "skip_unreadable", "strict", "min_rows", "validation", "test", "balance",
    "train_fraction", "validation_fraction",
)  # fmt: skip
NOT_IN_A_STUDY = {  # settings that a study does not take, with what to do
    "seed": "write seeds = [...] at the top of the file",
    "seeds": "write seeds at the top of the file, outside of [settings]",
    "folds": "use lasttoken train --folds",
    "learning_curve": "use lasttoken learning-curve",
    "track": "use lasttoken train --track",
    "answers": "use lasttoken train --answers",
    "slice_by": "use lasttoken train --slice-by",
}


@dataclass(frozen=True)
class StudyRow:
    """A named set of settings."""

    name: str
    settings: Settings  # complete but for what the backbone and the data decide; its seed is the study's first
    given: Mapping[str, Any]  # what the row itself sets


@dataclass(frozen=True)
class Study:
    """Rows to train on the same data with the same seeds."""

    name: str
    data: Path
    seeds: tuple[int, ...]
    rows: tuple[StudyRow, ...]
    skips_missing: bool = False  # whether a row is skipped, and not an error, where its backbone is not at hand


@dataclass(frozen=True)
class Choices:
    """What the command line changes in a study; None: nothing."""

    data: Path | None = None
    seeds: str | None = None  # a number of seeds, or the seeds themselves: "5", "123,124"
    epochs: int | None = None
    rows: str | None = None  # names of the rows to keep, separated by commas
    backbone: str | None = None  # in place of the chapter's smallest


def read_study(path: Path, choices: Choices | None = None) -> Study:
    """The study of a TOML file.

    Raises:
        SettingsError: no such file, not TOML, unknown keys or settings, or rows that cannot be trained or compared.
    """
    choices = choices or Choices()
    try:
        content = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        raise SettingsError(f"there is no study file {path}; name a TOML file with rows, or {BOOK!r}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} cannot be read as TOML: {error}") from error
    for name in content:
        if name not in KEYS:
            raise SettingsError(
                f"{path} has {name!r}, which a study does not have{nearest(name, KEYS)}; {_advice(name)}"
            )
    shared, rows = _table(content, "settings", path), _table(content, "rows", path)
    if not rows:
        raise SettingsError(f"{path} has no rows; add a table such as [rows.base] for each set of settings to compare")
    tables = {name: _table(rows, name, path, f"rows.{name}") for name in rows}
    if choices.backbone is not None:
        raise SettingsError(f"--backbone replaces the backbone of the study {BOOK!r}; in {path} set backbone = ...")
    data = choices.data or _data_of(content, path)
    seeds = _seeds_of(content.get("seeds"), f"{path}: seeds") if choices.seeds is None else _given_seeds(choices.seeds)
    return make_study(path.stem, data, seeds, shared, tables, choices)


def book_study(choices: Choices | None = None) -> Study:
    """The chapter's table of 19 rows as a study; rows whose backbone is not at hand are skipped.

    Raises:
        SettingsError: see `read_study`.
    """
    choices = choices or Choices()
    data = choices.data or BOOK_DATA
    if not data.exists():
        raise SettingsError(
            f"there is no file {data}; lasttoken fetch sms-spam prints where the messages are, which --data takes"
        )
    smallest = BOOK_ROWS[0].backbone
    tables = {}
    for row in BOOK_ROWS:
        given = dict(row.settings)
        if choices.backbone is not None and given["backbone"] == smallest:
            given["backbone"] = choices.backbone
        tables[f"{row.number} {row.change.replace('`', '')}"] = given
    seeds = _seeds_of(None, "") if choices.seeds is None else _given_seeds(choices.seeds)
    shared = {"recipe": "book", "precision": "float32"}
    study = make_study(BOOK, data, seeds, shared, tables, choices)
    return replace(study, skips_missing=True)


def make_study(
    name: str,
    data: Path,
    seeds: Sequence[int],
    shared: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, Any]],
    choices: Choices,
) -> Study:
    """A study of checked rows: `shared` settings with those of each row on top.

    Raises:
        SettingsError: names the row and what is wrong with it.
    """
    shared = _known(shared, "[settings]")
    if choices.epochs is not None:
        shared["epochs"] = choices.epochs
    made: list[StudyRow] = []
    for row_name, values in rows.items():
        where = f"row {row_name!r}"
        given = _known(values, where)
        if choices.epochs is not None:
            given.pop("epochs", None)
        _check_shared(shared, given, where)
        try:
            settings = resolve_layers(shared, given, {"seed": seeds[0]})
        except UserError as error:
            raise SettingsError(f"{where}: {error}") from error
        made.append(StudyRow(row_name, settings, given))
    _check_names([row.name for row in made])
    if not data.exists():
        raise SettingsError(
            f"there is no file or folder {data}, which the study names as its data; give a labelled file"
        )
    return Study(name, data, tuple(seeds), _kept(made, choices.rows))


def parse_seeds(text: str) -> list[int] | int:
    """The value of --seeds: a number of seeds, or the seeds; a comma behind a single one tells it from a number.

    >>> parse_seeds("3"), parse_seeds("123,7"), parse_seeds("124,")
    (3, [123, 7], [124])

    Raises:
        SettingsError: not numbers.
    """
    parts = [part.strip() for part in text.removesuffix(",").split(",")]
    if not all(part.isdecimal() for part in parts):
        raise SettingsError(f"--seeds is {text!r}; give a number of seeds, such as 5, or the seeds, such as 123,124")
    return int(parts[0]) if "," not in text else [int(part) for part in parts]


def _given_seeds(text: str) -> list[int]:
    return _seeds_of(parse_seeds(text), "--seeds")


def _seeds_of(value: Any, where: str) -> list[int]:
    """The seeds that a number of seeds, or a list of them, stands for."""
    first = Settings.seed
    value = DEFAULT_SEEDS if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | list):
        raise SettingsError(f"{where} is {value!r}; give a number of seeds, such as 5, or a list, such as [123, 124]")
    if isinstance(value, int) and value > MOST_SEEDS:
        raise SettingsError(f"{where} is {value}; at most {MOST_SEEDS:,} seeds can be compared")
    seeds = list(range(first, first + value)) if isinstance(value, int) else value
    if not seeds:
        raise SettingsError(f"{where} is {value!r}; a study needs at least one seed")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
            raise SettingsError(f"{where} has {seed!r}; a seed is a whole number from 0 to {LARGEST_SEED:,}")
    if len(set(seeds)) < len(seeds):
        repeated = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise SettingsError(f"{where} has {repeated} twice; the same seed gives the same training, so name it once")
    return seeds


def _data_of(content: Mapping[str, Any], path: Path) -> Path:
    """The data that a study file names: from the current folder, or else from the folder of the study file."""
    name = content.get("data")
    if not isinstance(name, str) or not name:
        raise SettingsError(f'{path} names no data; add data = "messages.csv" at its top, or pass --data')
    data = Path(name).expanduser()
    beside = path.parent / data
    return beside if not data.exists() and beside.exists() else data


def _table(content: Mapping[str, Any], name: str, path: Path, title: str | None = None) -> dict[str, Any]:
    value = content.get(name, {})
    if not isinstance(value, dict):
        raise SettingsError(f"{path}: {title or name} is {value!r}; it must be a table, [{title or name}]")
    return value


def _advice(name: str) -> str:
    return "put settings under [settings]" if name.replace("-", "_") in FIELDS else f"it has {one_of(KEYS)}"


def _known(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The settings with underscores in their names, all of which exist and have a place in a study."""
    named = {name.replace("-", "_"): value for name, value in values.items()}
    for name in named:
        if name not in FIELDS:
            raise SettingsError(f"{where} sets {name!r}, which is not a setting{nearest(name, FIELDS)}")
        if name in NOT_IN_A_STUDY:
            raise SettingsError(f"{where} sets {name!r}, which is not a setting of a study; {NOT_IN_A_STUDY[name]}")
    return named


def _check_shared(shared: Mapping[str, Any], given: Mapping[str, Any], where: str) -> None:
    for name in OF_THE_DATA:
        if name in given and given[name] != shared.get(name, FIELDS[name].default):
            raise SettingsError(
                f"{where} sets {name} to {given[name]!r}, but all rows share their data and its split; set it under "
                "[settings], or make another study"
            )


def _check_names(names: Sequence[str]) -> None:
    keys = [" ".join(name.split()).casefold() for name in names]
    for name, key in zip(names, keys, strict=True):
        if not key or not name.isprintable():
            raise SettingsError(f"a row has the name {name!r}; give it one that can be read")
        if keys.count(key) > 1:
            alike = [other for other, other_key in zip(names, keys, strict=True) if other_key == key]
            raise SettingsError(
                f"the rows {one_of(alike)} have the same name up to spaces and case; give them different names"
            )


def _kept(rows: Sequence[StudyRow], wanted: str | None) -> tuple[StudyRow, ...]:
    """The rows that --rows names, in the order of the study; a number stands for the row that begins with it."""
    if wanted is None:
        return tuple(rows)
    by_name = {row.name: row for row in rows} | {row.name.split()[0]: row for row in rows if row.name[0].isdecimal()}
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        if name not in by_name:
            hint, known = nearest(name, by_name), one_of(row.name for row in rows)
            raise SettingsError(f"--rows names {name!r}, which is not a row{hint}; there are {known}")
    if not names:
        raise SettingsError(f"--rows is {wanted!r}; name rows, separated by commas")
    kept = {by_name[name].name for name in names}
    return tuple(row for row in rows if row.name in kept)
