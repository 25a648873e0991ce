"""Splitting: nothing shared, labels spread, the book's files byte for byte; and what cannot be split says why."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lasttoken.core.columns import SPLIT_COLUMNS
from lasttoken.core.errors import DataError, SettingsError, StorageError
from lasttoken.core.spelling import is_blank
from lasttoken.data import folders
from lasttoken.data import placing as module
from lasttoken.data.cutting import cut_validation, split_examples
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.folders import read_splits, write_splits
from lasttoken.data.label_tables import label_counts
from lasttoken.data.labels import natural_order
from lasttoken.data.near_duplicates import normalise
from lasttoken.data.splits import Splits, check_splits, count_shared_texts
from lasttoken.data.undersampling import undersample


def made(labels: str, texts: list[str] | None = None, groups: list[str] | None = None) -> Examples:
    """One example for each letter, its label; every text different unless given."""
    return Examples(texts or [f"text {at}" for at in range(len(labels))], list(labels), groups=groups, source="a.csv")


NAMES = ["anna", "boris", "clara", "dmitri", "elena", "felix", "gerda", "hector", "irina", "jonas"]
NAMES += ["katya", "lukas", "maria", "nestor", "olga", "pablo", "quentin", "rosa", "stefan", "tamara"]


def parts_of(splits: Splits) -> list[Examples]:
    return list(splits.named().values())


# Labels


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


def test_label_counts() -> None:
    assert list(label_counts(Examples(["a"] * 4, ["10", "2", "2", "x"])).items()) == [("2", 2), ("10", 1), ("x", 1)]
    with pytest.raises(DataError, match=r"a.csv have no labels; name their column with --label"):
        label_counts(Examples(["a"], source="a.csv"))


# Splitting


def test_quotas_are_exact() -> None:
    splits = split_examples(made("a" * 100 + "b" * 50 + "c" * 10), 0.7, 0.1, seed=1)
    counts = [label_counts(part) for part in parts_of(splits)]
    assert counts == [{"a": 70, "b": 35, "c": 7}, {"a": 10, "b": 5, "c": 1}, {"a": 20, "b": 10, "c": 2}]
    assert splits.notes == ()


def test_same_seed_same_splits_other_seed_others() -> None:
    examples = made("ab" * 100, [f"text {at // 2 * 2 if at % 7 == 0 else at}" for at in range(200)])
    assert split_examples(examples, 0.7, 0.1, 5) == split_examples(examples, 0.7, 0.1, 5)
    assert split_examples(examples, 0.7, 0.1, 5).test != split_examples(examples, 0.7, 0.1, 6).test


def test_every_row_may_be_anywhere() -> None:
    """A row alone and a row of a pair are in train as often as the fraction says."""
    examples = made("ab" * 30, [f"text {at if at >= 20 else at // 4 * 2 + at % 2}" for at in range(60)])
    in_train = Counter(
        text for seed in range(200) for text in set(split_examples(examples, 0.6, 0.2, seed).train.texts)
    )
    shares = [in_train[text] / 200 for text in set(examples.texts)]
    assert min(shares) > 0.4
    assert max(shares) < 0.8


EXAMPLES = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 60), st.integers(0, 80)), min_size=0, max_size=120
).map(lambda rows: [*rows, *((label, 1000 + at, 1000 + at) for at in range(20) for label in "abc")])


@settings(max_examples=60, deadline=None)
@given(EXAMPLES, st.integers(0, 5), st.booleans())
def test_splits_share_nothing_and_lose_nothing(rows: list[tuple[str, int, int]], seed: int, grouped: bool) -> None:
    examples = Examples(
        [f"text {text}" for _, text, _ in rows],
        [label for label, _, _ in rows],
        ids=[str(at) for at in range(len(rows))],
        groups=["" if group < 20 else f"group {group}" for _, _, group in rows] if grouped else None,
    )
    splits = split_examples(examples, 0.6, 0.2, seed)
    parts = parts_of(splits)
    assert sorted(int(key) for part in parts for key in part.ids or []) == list(range(len(rows)))
    for part in parts:
        assert [int(key) for key in part.ids or []] == sorted(int(key) for key in part.ids or [])
        assert set(part.labels or []) == {"a", "b", "c"}
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not set(parts[one].texts) & set(parts[other].texts)
        assert not (set(parts[one].groups or []) & set(parts[other].groups or [])) - {""}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 100), min_size=60, max_size=150), st.integers(0, 5))
def test_labels_are_spread_though_texts_repeat(texts: list[int], seed: int) -> None:
    """Repeated texts of one label: each label's share of each split is the fraction, to within a large text."""
    examples = made(
        "".join("ab"[text % 2] for text in texts) + "ab" * 20, [*map(str, texts), *(f"x{at}" for at in range(40))]
    )
    largest = max(Counter(examples.texts).values())
    counts = label_counts(examples)
    for part, fraction in zip(parts_of(split_examples(examples, 0.6, 0.2, seed)), (0.6, 0.2, 0.2), strict=True):
        for label, count in label_counts(part).items():
            assert abs(count - counts[label] * fraction) <= largest


def test_groups_join_through_texts() -> None:
    """Group g1 and group g2 share a text: their rows are one component, however long the chain."""
    chain_length = 30
    texts = [f"link {at // 2}" for at in range(chain_length)] + [f"text {at}" for at in range(40)]
    groups = [f"g{(at + 1) // 2}" for at in range(chain_length)] + [""] * 40
    splits = split_examples(made("ab" * 35, texts, groups), 0.6, 0.2, seed=3)
    holding = [part for part in parts_of(splits) if any(text.startswith("link") for text in part.texts)]
    assert len(holding) == 1
    assert sum(text.startswith("link") for text in holding[0].texts) == chain_length


def test_few_groups_still_reach_every_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    groups = ["big"] * 10 + ["small"] + ["tiny"] + [f"b{at}" for at in range(12)]
    for seed in range(20):
        parts = parts_of(split_examples(made("a" * 12 + "b" * 12, groups=groups), 0.7, 0.1, seed))
        assert all(label_counts(part).keys() == {"a", "b"} for part in parts)


def test_components_of_several_labels() -> None:
    groups = [f"user {at % 12}" for at in range(120)]
    for seed in range(10):
        parts = parts_of(split_examples(made("abcde" * 24, groups=groups), 0.7, 0.1, seed))
        assert [len(part) for part in parts] == [90, 10, 20] or [len(part) for part in parts] == [80, 10, 30]
        assert all(len(label_counts(part)) == 5 for part in parts)


def test_notes_tell_of_repeats_and_of_missed_fractions() -> None:
    splits = split_examples(made("ab" * 50, ["same"] * 90 + [f"text {at}" for at in range(10)]), 0.7, 0.1, 1)
    assert splits.notes[0] == "89 rows repeat the text of another; identical texts are kept in one split"
    assert splits.notes[1].startswith("train has 9")
    assert "of 100 rows instead of 70, because rows that share a text or a group" in splits.notes[1]


def noted(n_exact: int, n_near: int, kept: str) -> str:
    return f"{n_exact} rows repeat the text of another and {n_near} more nearly do; {kept}"


def test_nearly_equal_texts_are_kept_together() -> None:
    """Pairs that differ in a letter, in case or in a number are on one side, for every seed."""
    stories = [f"{word} went to the market to buy bread, salt and a new lamp, {word}" for word in NAMES]
    texts = [*stories, *(story.replace("salt", "malt") for story in stories), *(story.upper() for story in stories)]
    examples = made("ab" * (len(texts) // 2), texts)
    for seed in range(10):
        splits = split_examples(examples, 0.6, 0.2, seed)
        for part in parts_of(splits):
            assert set(Counter(normalise(text).split()[0] for text in part.texts).values()) == {3}
        kept = "texts that are nearly equal are kept in one split"
        assert splits.notes[0] == noted(0, 2 * len(stories), kept)


def test_templates_that_leave_no_fair_split_are_cut_by_equality() -> None:
    """All of label b is one template: its rows cannot be kept together, and a note says so."""
    template = "Your parcel number {} waits for you at the post office, please come and pick it up"
    other = [" ".join([name] * 8) for name in NAMES]
    texts = [*other, *(template.format(at) for at in range(len(NAMES))), other[0], other[0]]
    splits = split_examples(made("a" * len(NAMES) + "b" * len(NAMES) + "aa", texts), 0.6, 0.2, seed=1)
    assert all(label_counts(part).keys() == {"a", "b"} for part in parts_of(splits))
    assert splits.notes[0].startswith(noted(2, len(NAMES) - 1, "only identical texts are kept in one split"))
    assert "may be optimistic" in splits.notes[0]
    assert sum(other[0] in part.texts for part in parts_of(splits)) == 1


def test_a_chain_of_nearly_equal_texts_is_cut_by_what_normalising_makes_equal() -> None:
    """Each text of label b is nearly the next one, and half of its rows differ from another in case only."""
    words = [f"{name}wards" for name in NAMES for _ in range(4)]
    chain = [" ".join(words[at : at + 30]) for at in range(20)]
    other = [" ".join([name] * 8) for name in NAMES]
    texts = [*other, *chain, *(text.upper() for text in chain)]
    splits = split_examples(made("a" * len(other) + "b" * 40, texts), 0.6, 0.2, seed=1)
    assert "texts that differ only by case, digits or punctuation are kept in one split" in splits.notes[0]
    for one, other_part in combinations(parts_of(splits), 2):
        assert not set(map(normalise, one.texts)) & set(map(normalise, other_part.texts))


def test_groups_that_are_unfair_anyway_do_not_part_nearly_equal_texts() -> None:
    """One group holds nine tenths of the rows, so no meaning of "one text" is fair: the widest is kept."""
    texts = [" ".join([name] * 8) for name in NAMES for _ in range(10)]
    texts = [text.upper() if at % 10 == 9 else text for at, text in enumerate(texts)]
    groups = ["big" if at < 0.9 * len(texts) else "" for at in range(len(texts))]
    labels = "".join("ab"[at // 10 % 2] for at in range(len(texts)))
    few = made(labels + "ab" * 10, [*texts, *(f"text {at}" for at in range(20))], [*groups, *[""] * 20])
    splits = split_examples(few, 0.6, 0.2, seed=1)
    assert splits.notes[0].endswith("texts that are nearly equal are kept in one split")


def test_validation_is_cut_by_the_same_rules_and_train_says_so() -> None:
    texts = [" ".join([name] * 8) for name in NAMES]
    cut = cut_validation(made("ab" * len(texts), [*texts, *map(str.upper, texts)]), 0.2, seed=1)
    train, validation = cut.train, cut.named()["validation"]
    assert not set(map(normalise, train.texts)) & set(map(normalise, validation.texts))
    assert cut.notes == (noted(0, len(texts), "texts that are nearly equal are kept in one split"),)


def test_cut_validation() -> None:
    cut = cut_validation(made("ab" * 50, groups=[str(at // 5) for at in range(100)]), 0.2, seed=1)
    train, validation = cut.train, cut.named()["validation"]
    assert (len(train), len(validation)) == (80, 20)
    assert not set(train.groups or []) & set(validation.groups or [])
    with pytest.raises(SettingsError, match=r"--validation-fraction is 1.5"):
        cut_validation(train, 1.5, 1)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (made("aaaa"), "a.csv has only one label, 'a'; a classifier needs examples of at least two labels"),
        (made(""), "a.csv has no examples"),
        (
            made("aabbb", [*"12333"]),
            "label 'a' of a.csv has 2 rows, too few for one in each of train, validation, test",
        ),
        (made("aabbc"), r"label 'c' of a.csv has 1 row, .* \(and 2 more labels are too rare\)"),
        (made("aaaabbb", [*"123455", "5"]), "label 'b' of a.csv has 3 rows but only 1 independent of each other"),
        (
            made("aaaabbb", groups=["", "", "", "", "u", "v", "u"]),
            "label 'b' of a.csv has 3 rows but only 2 independent",
        ),
        (made("aabbabab", groups=[*"ABABCCDD"]), None),
    ],
)
def test_what_cannot_be_split(examples: Examples, message: str | None) -> None:
    if message is None:
        assert len(split_examples(examples, 0.6, 0.2, 1).train) > 0
        return
    with pytest.raises(DataError, match=message):
        split_examples(examples, 0.6, 0.2, 1)


def test_labels_that_share_groups_cannot_be_split() -> None:
    """A, B, C must be apart for label a, so D joins C for label b, and then c has two splits only."""
    with pytest.raises(DataError, match=r"label '.' of a.csv could not be put in the .* split"):
        split_examples(made("abcabacbc", groups=[*"AAABBCCDD"]), 0.6, 0.2, 1)


def test_a_greedy_dead_end_is_left_again() -> None:
    """Placing the largest groups first alone (one attempt) finds no split here for any of these seeds."""
    examples = made("cbcaacbabbcaabaa", groups=[*"CCEAAECECDDEFFAC"])
    for seed in range(6):
        assert all(len(label_counts(part)) == 3 for part in parts_of(split_examples(examples, 0.6, 0.2, seed)))


@pytest.mark.parametrize("fractions", [(0.9, 0.1), (0.0, 0.5), (0.5, 0.0), (0.9, 0.3)])
def test_fractions_that_leave_nothing(fractions: tuple[float, float]) -> None:
    with pytest.raises(SettingsError, match=r"leave nothing for one of train, validation and test"):
        split_examples(made("ab" * 20), *fractions, seed=1)


def test_sms_splits(sms_file: Path) -> None:
    splits = split_examples(read_examples(sms_file), 0.7, 0.1, 123)
    assert splits.test is not None
    assert splits.validation is not None
    assert count_shared_texts(splits.train, splits.test) == count_shared_texts(splits.train, splits.validation) == 0
    assert [label_counts(part) for part in parts_of(splits)] == [
        {"ham": 3379, "spam": 523},
        {"ham": 483, "spam": 75},
        {"ham": 965, "spam": 149},
    ]


def test_undersample() -> None:
    examples = made("aabbbbbbcccc")
    thin = undersample(examples, seed=4)
    assert label_counts(thin) == {"a": 2, "b": 2, "c": 2}
    assert thin.texts == sorted(thin.texts, key=examples.texts.index)
    assert thin == undersample(examples, seed=4)
    assert len({tuple(undersample(examples, seed).texts) for seed in range(10)}) > 5
    with pytest.raises(DataError, match=r"only one label"):
        undersample(made("aa"), 1)


# Folders


TEXTS = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: not is_blank(text))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXTS, TEXTS, st.text(alphabet='a,"\n'), TEXTS), min_size=1, max_size=6))
def test_round_trip(tmp_path: Path, rows: list[tuple[str, str, str, str]]) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)]
    texts, labels, ids, groups = columns
    examples = Examples(texts, labels, ids, groups)
    write_splits(Splits(examples, examples, None), tmp_path)
    found = read_splits(tmp_path, replace(SPLIT_COLUMNS, id="id", group="group"))
    assert found.test is None
    for part in (found.train, found.validation):
        assert part is not None
        assert [part.texts, part.labels, part.ids, part.groups] == columns


@pytest.mark.parametrize("text", ["a\rb", "\r", "a\0b", '"', ",", "two\r\nlines", "😀", " edge ", "\ufeffmark"])
def test_hard_texts_survive(tmp_path: Path, text: str) -> None:
    examples = Examples([f"x{text}"], ["y"])
    write_splits(Splits(examples, None, None), tmp_path)
    assert read_splits(tmp_path).train.texts == [f"x{text}"]


def test_quoting_is_that_of_pandas(tmp_path: Path) -> None:
    texts = ["plain", 'a "quote"', "a, comma", "two\nlines", " space ", "it's"]
    write_splits(Splits(Examples(texts, ["x"] * 6), None, None), tmp_path)
    pd.DataFrame({"text": texts, "label": "x"}).to_csv(tmp_path / "pandas.csv", index=False, lineterminator="\n")
    assert (tmp_path / "train.csv").read_bytes() == (tmp_path / "pandas.csv").read_bytes()


def test_all_files_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.csv").write_text("what was there")
    write = folders._write_csv
    n_written = 0

    def full_disk(*args: object) -> None:
        nonlocal n_written
        n_written += 1
        if n_written == 3:
            raise OSError(28, "No space left on device")
        write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(folders, "_write_csv", full_disk)
    examples = made("ab")
    with pytest.raises(StorageError, match=r"the disk is full: could not write .*test.csv"):
        write_splits(Splits(examples, examples, examples), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["train.csv"]
    assert (tmp_path / "train.csv").read_text() == "what was there"


def test_read_splits_takes_every_format(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,x\nb,y\n")
    (tmp_path / "validation.tsv").write_text("text\tlabel\nc\tx\n")
    (tmp_path / "test.jsonl").write_text('{"text": "d", "label": "y"}\n')
    splits = read_splits(tmp_path)
    assert [part.texts for part in parts_of(splits)] == [["a", "b"], ["c"], ["d"]]
    assert len(splits.notes) == 2
    check_splits(splits)


def test_read_splits_without_train(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no train.csv, .* \(it is empty\)"):
        read_splits(tmp_path)
    (tmp_path / "messages.csv").write_text("text,label\na,x\n")
    with pytest.raises(DataError, match=r"has no train.csv, .* \(it holds 'messages.csv'\)"):
        read_splits(tmp_path)
    with pytest.raises(DataError, match=r"has no train.csv, .* there is no such folder"):
        read_splits(tmp_path / "nowhere")


def test_check_splits() -> None:
    train, other = made("abab"), Examples(["x", "y"], ["a", "c"], source="test.csv")
    with pytest.raises(
        DataError, match=r"row 2 of test.csv has label 'c', which is not one of 'a', 'b' in a.csv; fix the row"
    ):
        check_splits(Splits(train, None, other))
    with pytest.raises(DataError, match=r"row 1 of the validation split has label '0'"):
        check_splits(Splits(train, Examples(["x"], ["0"]), None))
    with pytest.raises(DataError, match=r"a.csv has only one label, 'a'"):
        check_splits(Splits(made("aa"), None, None))
    check_splits(Splits(train, made("a"), None))


def test_count_shared_texts() -> None:
    assert count_shared_texts(made("ab", ["x", "y"]), made("abc", ["y", "y", "z"])) == 2


def test_many_rare_labels_mean_another_mistake_than_a_few() -> None:
    several = Examples([f"t{at}" for at in range(12)], [f"joy|fear{at}" for at in range(10)] + ["joy", "fear"])
    with pytest.raises(
        DataError, match=r"several labels, separated by '\|', pass --multi-label \(--label-separator '\|'\)"
    ):
        split_examples(several, 0.7, 0.1, 1)
    distinct = Examples([f"t{at}" for at in range(12)], [f"row {at}" for at in range(12)])
    with pytest.raises(DataError, match=r"is it the label column \(--label\)\?"):
        split_examples(distinct, 0.7, 0.1, 1)
