"""Several labels in a cell: every way in which people write them becomes one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lasttoken.core.errors import DataError
from lasttoken.core.spelling import tidy
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.frames import from_frame, from_lists
from lasttoken.data.label_tables import label_counts, label_names, truth_of
from lasttoken.data.labels import join_labels, natural_order, split_labels
from lasttoken.data.splitting.cutting import split_examples

NAMES = st.text(st.characters(exclude_characters="|[", exclude_categories=["Cs"]), min_size=1, max_size=6).map(tidy)


@given(st.lists(NAMES.filter(bool), max_size=5))
def test_a_list_its_json_and_its_written_form_are_the_same(names: list[str]) -> None:
    written = join_labels(names, "|")
    assert join_labels(json.dumps(names), "|") == join_labels(" | ".join(names), "|") == written
    assert join_labels(written, "|") == written
    assert set(split_labels(written, "|")) == set(names)


def test_formats_agree(tmp_path: Path) -> None:
    texts, sets = ["one", "two", "three"], [["joy", "love"], [], ["fear"]]
    (tmp_path / "a.csv").write_text("text,label\none,love|joy\ntwo,\nthree,fear\n")
    (tmp_path / "b.csv").write_text('text,label\none,"[""joy"", ""love""]"\ntwo,[]\nthree,"[""fear""]"\n')
    rows = ({"text": text, "label": labels} for text, labels in zip(texts, sets, strict=True))
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.table({"text": texts, "label": sets}), tmp_path / "d.parquet")
    found = [read_examples(tmp_path / name, separator="|") for name in ("a.csv", "b.csv", "c.jsonl", "d.parquet")]
    found.append(from_lists(texts, sets, separator="|"))
    found.append(from_frame(pd.DataFrame({"text": texts, "label": sets}), separator="|"))
    for examples in found:
        assert (examples.labels, examples.separator) == (["joy|love", "", "fear"], "|")
        assert label_names(examples) == ["fear", "joy", "love"]
        assert truth_of(examples, ["fear", "joy", "love"]).tolist() == [
            [False, True, True],
            [False] * 3,
            [True, False, False],
        ]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ('"[""a"""', "starts like a list"),
        ('"[""a|b""]"', "--label-separator"),
        ('"[[1]]"', "a list"),
    ],
)
def test_a_value_that_cannot_be_a_label_is_named_with_its_row(tmp_path: Path, cell: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(f"text,label\none,joy\ntwo,{cell}\n")
    with pytest.raises(DataError, match=r"row 2 \(line 3\) of a\.csv has") as caught:
        read_examples(tmp_path / "a.csv", separator="|")
    assert message in str(caught.value)


def drawn(n: int, seed: int = 4) -> Examples:
    """Texts of which a third have no label, and whose rarest label has 12 rows."""
    random = np.random.default_rng(seed)
    has = random.random((n, 3)) < (0.5, 0.2, 0.05)
    has[random.random(n) < 0.3] = False
    has[:12, 2] = True
    sets = [[name for name, there in zip(("joy", "love", "fear"), row, strict=True) if there] for row in has.tolist()]
    return from_lists([f"text number {at} {at * 7919}" for at in range(n)], sets, separator="|")


def test_splits_spread_every_label_and_keep_texts_without_one() -> None:
    examples = drawn(400)
    splits = split_examples(examples, 0.7, 0.1, seed=1)
    for label, n in label_counts(examples).items():
        for name, part in splits.named().items():
            share = {"train": 0.7, "validation": 0.1, "test": 0.2}[name]
            assert label_counts(part)[label] == pytest.approx(share * n, rel=0.35, abs=3)
    blank = Counter(not label for part in splits.named().values() for label in part.labels or [])
    assert blank[True] == sum(not label for label in examples.labels or []) > 50
    assert sum(map(len, splits.named().values())) == 400


def test_rows_of_a_label_that_is_too_rare_to_be_everywhere_stay_in_train() -> None:
    examples = from_lists([f"text {at}" for at in range(20)], [["joy"]] * 18 + [["joy", "fear"]] * 2, separator="|")
    splits = split_examples(examples, 0.7, 0.1, seed=1)
    assert [label_counts(part).get("fear", 0) for part in splits.named().values()] == [2, 0, 0]
    assert splits.facts == {"labels_in_train_only": {"fear": 2}}


def test_lists_of_label_ids_are_labels() -> None:
    table = pd.DataFrame({"text": ["one", "two"], "tags": [[0, 1], [1]]})
    assert from_frame(table, separator="|").labels == ["0|1", "1"]


def test_choices_of_label_studios_small_export(tmp_path: Path) -> None:
    rows = [{"text": "one", "mood": {"choices": ["joy", "love"]}}, {"text": "two", "mood": "fear"}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert read_examples(tmp_path / "a.json", separator="|").labels == ["joy|love", "fear"]
    cells = pd.DataFrame({"text": ["one", "two"], "mood": ['{"choices":["joy","love"]}', "fear"]})
    cells.to_csv(tmp_path / "a.csv", index=False)
    assert read_examples(tmp_path / "a.csv", separator="|").labels == ["joy|love", "fear"]
    with pytest.raises(DataError, match="--multi-label"):
        read_examples(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("['joy' 'love']", "joy|love"),
        ("['joy'\n \"can't\"]", "can't|joy"),
        ("('joy', 'love')", "joy|love"),
        ("('joy',)", "joy"),
        ("{'love', 'joy'}", "joy|love"),
        ("(joy)", "(joy)"),
        ("{joy}", "{joy}"),
        ("('joy')", "('joy')"),
        ("()", ""),
        ("set()", ""),
        ("(1, 2)", "(1, 2)"),
    ],
)
def test_labels_as_python_and_numpy_print_them(cell: str, labels: str) -> None:
    assert join_labels(cell, "|") == labels


def test_natural_order() -> None:
    labels = ["b10", "b2", "10", "2", "-1", "1.5", "a", "B3", "ham", "2"]
    assert natural_order(labels) == ["-1", "1.5", "2", "10", "a", "b2", "B3", "b10", "ham"]
    assert natural_order(["spam", "ham"]) == ["ham", "spam"]
    assert natural_order(["9" * 5000, "8"]) == ["8", "9" * 5000]


@given(st.lists(st.text(alphabet="aA10٣.-")), st.randoms())
def test_natural_order_is_total(labels: list[str], random: object) -> None:
    shuffled = list(labels)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert natural_order(shuffled) == natural_order(labels)
    assert set(natural_order(labels)) == set(labels)
