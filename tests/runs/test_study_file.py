"""A study file: its rows become settings, and every mistake in it is found before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from miniature import messages, write_messages

from lasttoken.core.book_rows import BOOK_ROWS
from lasttoken.core.config import FIELDS
from lasttoken.core.errors import SettingsError
from lasttoken.core.resolve import read_config
from lasttoken.runs.study_file import BOOK, NOT_IN_A_STUDY, OF_THE_DATA, Choices, book_study, read_study

ROWS = '[rows.base]\n[rows."two blocks"]\ntrain-blocks = 2\n'
TOP = 'data = "messages.csv"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_messages(tmp_path / "messages.csv", *messages(20))
    return tmp_path


def write(folder: Path, content: str) -> Path:
    path = folder / "study.toml"
    path.write_text(content, "utf-8")
    return path


def test_rows_have_the_shared_settings_and_their_own(folder: Path) -> None:
    study = read_study(write(folder, f"{TOP}seeds = 3\n[settings]\nepochs = 3\n{ROWS}"))
    assert study.name == "study"
    assert study.data == Path("messages.csv")
    assert study.seeds == (123, 124, 125)
    assert [row.name for row in study.rows] == ["base", "two blocks"]
    assert [row.settings.train_blocks for row in study.rows] == ["auto", "2"]
    assert {row.settings.epochs for row in study.rows} == {3}
    assert study.rows[1].given == {"train_blocks": 2}


def test_seeds_may_be_listed_and_default_to_five(folder: Path) -> None:
    assert read_study(write(folder, f"{TOP}seeds = [9, 4]\n{ROWS}")).seeds == (9, 4)
    assert len(read_study(write(folder, TOP + ROWS)).seeds) == 5


def test_the_command_line_wins_over_the_file(folder: Path) -> None:
    path = write(folder, f"{TOP}seeds = 3\n[settings]\nepochs = 3\n{ROWS}[rows.long]\nepochs = 9\n")
    write_messages(folder / "other.csv", *messages(20))
    choices = Choices(data=folder / "other.csv", seeds="7,8", epochs=1, rows="long, base")
    study = read_study(path, choices)
    assert study.data == folder / "other.csv"
    assert study.seeds == (7, 8)
    assert [(row.name, row.settings.epochs) for row in study.rows] == [("base", 1), ("long", 1)]


def test_data_beside_the_study_file_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(folder, TOP + ROWS)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert read_study(path).data == folder / "messages.csv"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (TOP, ("no rows",)),
        (ROWS, ("no data",)),
        (f'data = "absent.csv"\n{ROWS}', ("absent.csv",)),
        (f"{TOP}seeds = 0\n{ROWS}", ("seeds", "0")),
        (f"{TOP}seeds = -2\n{ROWS}", ("seeds", "-2")),
        (f"{TOP}seeds = []\n{ROWS}", ("seeds",)),
        (f"{TOP}seeds = [1, 1]\n{ROWS}", ("1 twice",)),
        (f"{TOP}seeds = true\n{ROWS}", ("True",)),
        (f"{TOP}seeds = [5000000000]\n{ROWS}", ("5000000000",)),
        (f"{TOP}seeds = 5000000000\n{ROWS}", ("5000000000", "10,000")),
        (f"{TOP}[rows.base]\nlora_alpha = 1e300", ("'base'", "--lora-alpha", "1,000,000")),
        (f"{TOP}epochs = 3\n{ROWS}", ("epochs", "[settings]")),
        (f"{TOP}row = 3\n{ROWS}", ("'row'", "'rows'")),
        (f"{TOP}rows = 3", ("rows", "table")),
        (f"{TOP}[rows]\nbase = 3", ("rows.base", "table")),
        (f"{TOP}[rows.base]\nepoch = 3", ("'base'", "'epoch'", "'epochs'")),
        (f"{TOP}[rows.base]\nepochs = 0", ("'base'", "--epochs", "0")),
        (f'{TOP}[rows.base]\nmethod = "linear"\nepochs = 2', ("'base'", "--epochs", "linear")),
        (f'{TOP}[rows.base]\n[rows.b]\ntext = "body"', ("'b'", "text", "share")),
        (f"{TOP}[rows.base]\n[rows.b]\ntrain_fraction = 0.5", ("'b'", "train_fraction", "share")),
        (f'{TOP}[rows.base]\n[rows.b]\nrecipe = "book"', ("'b'", "recipe", "share")),
        (f"{TOP}[rows.base]\nseed = 3", ("'base'", "seed", "top")),
        (f"{TOP}[settings]\nfolds = 3\n{ROWS}", ("[settings]", "folds")),
        (f"{TOP}[rows.base]\n[rows.base]", ("TOML", "base")),
        (f'{TOP}[rows.base]\n[rows."Base "]', ("Base",)),
        (f'{TOP}[rows." "]', ("name",)),
        ("data = ", ("TOML",)),
    ],
)
def test_a_mistake_is_named(folder: Path, content: str, named: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError) as error:
        read_study(write(folder, content))
    assert all(part in str(error.value) for part in named), error.value
    assert "\n" not in str(error.value).strip()


def test_a_byte_order_mark_is_no_mistake(folder: Path) -> None:
    path = folder / "marked.toml"
    path.write_text(TOP + ROWS, "utf-8-sig")
    assert [row.name for row in read_study(path).rows] == [
        row.name for row in read_study(write(folder, TOP + ROWS)).rows
    ]
    path.write_text("epochs = 2", "utf-8-sig")
    assert read_config(path) == {"epochs": 2}


def test_a_file_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.toml"):
        read_study(folder / "absent.toml")


@pytest.mark.parametrize(
    "choices", [Choices(rows="bases"), Choices(rows=","), Choices(seeds="x"), Choices(seeds="0"), Choices(backbone="x")]
)
def test_a_wrong_choice_of_the_command_line_is_an_error(folder: Path, choices: Choices) -> None:
    with pytest.raises(SettingsError):
        read_study(write(folder, TOP + ROWS), choices)


def test_the_settings_that_are_shared_or_absent_exist() -> None:
    assert {*OF_THE_DATA, *NOT_IN_A_STUDY} <= set(FIELDS)


def test_the_chapters_table_is_a_study(folder: Path) -> None:
    """Only the rows whose settings exist in this version; --backbone replaces the small GPT-2, and no larger one."""
    known = [row for row in BOOK_ROWS if set(row.settings) <= set(FIELDS) and row.number not in (11, 12, 19)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lasttoken.runs.study_file.BOOK_ROWS", known)
        study = book_study(Choices(data=folder / "messages.csv", backbone="mine", seeds="2", epochs=1))
        some = book_study(Choices(data=folder / "messages.csv", rows="13,1"))
        with pytest.raises(SettingsError, match="sms-spam"):
            book_study()
    assert study.name == BOOK
    assert study.skips_missing
    assert [int(row.name.split()[0]) for row in study.rows] == [row.number for row in known]
    backbones = {row.number: row.backbone for row in known}
    for row, number in zip(study.rows, backbones, strict=True):
        assert row.settings.recipe == "book"
        assert row.settings.epochs == 1
        assert row.settings.backbone == ("mine" if backbones[number] == "gpt2" else backbones[number])
    assert [row.name.split()[0] for row in some.rows] == ["1", "13"]
