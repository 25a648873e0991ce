"""The list of file formats: a format registered in one place is read, written, and named in flags and messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from lasttoken.bulk.job import Source, score_file
from lasttoken.classifier.predict import Predictor
from lasttoken.cli.flags import _parameter
from lasttoken.core.config import FIELDS
from lasttoken.core.errors import DataError, SettingsError
from lasttoken.core.resolve import resolve
from lasttoken.data.files import read_examples
from lasttoken.data.folders import split_name
from lasttoken.data.gather import gather_splits
from lasttoken.data.tables import formats
from lasttoken.data.tables.format import Format, ReadRequest
from lasttoken.data.tables.lines import read_lines
from lasttoken.data.tables.opening import open_table
from lasttoken.data.tables.options import ReadOptions
from lasttoken.data.tables.table import Row, Table
from lasttoken.data.tables.writing import Added, TextWriter, Values


def read_toy(request: ReadRequest) -> Table:
    """Lines of `label > text`."""
    lines = request.closing(read_lines(request.path, request.options, "\n"))

    def read(_: object) -> Iterator[Row]:
        for number, line in enumerate(lines, 1):
            label, _, text = line.rstrip("\n").partition(" > ")
            yield Row(number, number, {"label": label, "text": text})

    return Table(request.source, ["label", "text"], read)


class ToyWriter(TextWriter):
    """Writes lines of `predicted label > text`."""

    format_name = "toy"

    def body(self, rows: list[Values], added: Added) -> str:  # type: ignore[override]
        return "".join(f"{label} > {row['text']}\n" for row, label in zip(rows, added[0], strict=True))


TOY = Format(name="toy", title="Toy", read=read_toy, suffixes=(".toy",), magic=(b"TOY!",), writer=ToyWriter)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, TOY))


@pytest.mark.usefixtures("toy")
def test_a_registered_format_is_read_and_written(run_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "train.toy"
    path.write_text("".join(f"ham > see {letter}\nspam > win {letter}\n" for letter in "abcdefghij"))
    examples = read_examples(path)
    assert (examples.texts[1], examples.labels and examples.labels[1]) == ("win a", "spam")
    assert len(gather_splits(path, resolve("default", {}), lambda _: None).train) == 14
    assert split_name(path) == "train"

    predictor = Predictor.load(run_dir, "cpu")
    for name in ("out.toy", "out.csv"):
        assert score_file(lambda: predictor, Source(path), tmp_path / name).counts.n_rows == 20
    lines = (tmp_path / "out.toy").read_text().splitlines()
    assert [line.partition(" > ")[2] for line in lines] == examples.texts
    assert {line.partition(" > ")[0] for line in lines} <= set(predictor.classifier.config.labels)


@pytest.mark.usefixtures("toy")
def test_flags_and_messages_name_a_registered_format(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("text\n")
    with pytest.raises(DataError, match=r"a\.xyz.* \.toy"), open_table(tmp_path / "a.xyz"):
        pass
    with pytest.raises(SettingsError, match=r"b\.xyz.* \.toy"):
        formats.output_format(Path("b.xyz"))
    with pytest.raises(SettingsError, match=r"--format is 'toi'.*'toy'"):
        formats.format_named("toi")
    annotation = _parameter(FIELDS["format"]).annotation
    choices = get_args(get_args(get_args(annotation)[0])[0])
    assert choices == formats.format_names()
    assert "toy" in choices


@pytest.mark.usefixtures("toy")
def test_first_bytes_decide_over_suffix_and_flag(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("TOY! > hello\n")
    with open_table(path, options=ReadOptions(format="json")) as table:
        assert [row.values["text"] for row in table.rows()] == ["hello"]
        assert any("a.csv" in note and "Toy" in note for note in table.notes)


def test_an_unknown_format_is_an_error_before_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nhi,x\n")
    with pytest.raises(SettingsError, match=r"--format is 'xlsx'"):
        read_examples(tmp_path / "a.csv", options=ReadOptions(format="xlsx"))
    with pytest.raises(SettingsError, match=r"--format is 'xlsx'"):
        gather_splits(tmp_path / "missing.csv", resolve("default", {"format": "xlsx"}), lambda _: None)


@pytest.mark.parametrize("known", formats.FORMATS, ids=lambda known: str(known.name))
def test_names_and_suffixes_are_of_one_format(known: Format) -> None:
    assert formats.format_named(known.name) is known
    for suffix in (*known.suffixes, *known.shared_suffixes):
        assert formats.format_by_suffix(Path(f"a{suffix.upper()}")) is known
        assert (formats.format_by_suffix(Path(f"a{suffix}.gz")) is known) == known.is_text
        assert (suffix in formats.readable_suffixes()) or not suffix
        if known.writer and suffix in known.suffixes:
            assert formats.output_format(Path(f"a{suffix}")) == (known, False)


@pytest.mark.parametrize("name", ["a.xlsx", "a.parquet.gz", "a.txt", "a.json"])
def test_suffixes_that_are_not_written(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        formats.output_format(Path(name))


def test_json_under_the_suffix_of_a_text_table_is_read_as_json(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('[{"text": "hi", "label": "x"}]')
    with open_table(path) as table:
        assert [row.values for row in table.rows()] == [{"text": "hi", "label": "x"}]
        assert any("a.csv" in note and "JSON" in note for note in table.notes)
