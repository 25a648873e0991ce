"""TextClassifier: train on whatever holds texts, ask it, measure it, save it, load it anywhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from miniature import messages, random_gpt, write_backbone, write_messages

from lasttoken import LastTokenError, Prediction, TextClassifier
from lasttoken.core.errors import BackboneError, DataError, RunError, SettingsError
from lasttoken.core.progress import Reporter

TEXTS, LABELS = messages(60)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_backbone(tmp_path_factory.mktemp("gpt"), random_gpt(n_positions=64)))


def train(gpt: str, texts: Any = TEXTS, labels: Any = LABELS, **settings: Any) -> TextClassifier:
    """One quick epoch, nothing kept on disk."""
    return TextClassifier.train(
        texts, labels, **{"backbone": gpt, "epochs": 1, "no_cache": True, "learning_rate": 1e-2, **settings}
    )


@pytest.fixture(scope="module")
def trained(backbone: str) -> TextClassifier:
    """Trained for three epochs; do not change it."""
    return train(backbone, epochs=3)


def same_weights(one: TextClassifier, other: TextClassifier) -> bool:
    return bool(np.array_equal(one.predict_proba(TEXTS), other.predict_proba(TEXTS)))


# Training ---------------------------------------------------------------------------------------------------------


def test_lists_frames_and_files_of_the_same_rows_train_the_same_classifier(backbone: str, tmp_path: Path) -> None:
    frame = pandas.DataFrame({"text": TEXTS, "label": LABELS})
    path = write_messages(tmp_path / "a.csv", TEXTS, LABELS)
    expected = train(backbone)
    for given in (frame, path, str(path)):
        assert same_weights(train(backbone, given, None), expected)


def test_columns_of_a_frame_are_named_by_settings(backbone: str) -> None:
    frame = pandas.DataFrame({"n": range(60), "kind": LABELS, "head": ["Win"] * 60, "body": TEXTS})
    found = train(backbone, frame, None, text=["head", "body"], label="kind", id="n")
    expected = train(backbone, [f"Win\n\n{text}" for text in TEXTS])
    assert np.array_equal(found.predict_proba(TEXTS), expected.predict_proba(TEXTS))


def test_a_file_is_scored_from_python(backbone: str, tmp_path: Path) -> None:
    texts, labels = messages(60)
    clf = TextClassifier.train(texts, labels, backbone=backbone, epochs=1, offline=True)
    data = write_messages(tmp_path / "in.csv", texts, labels)
    found = clf.predict_file(data, tmp_path / "out.csv", text=["text"])
    assert (found.counts.n_rows, found.resumed_at, found.rejects) == (60, 0, None)
    assert (tmp_path / "out.csv").read_text().splitlines()[0].startswith("text,label,predicted_label")


@pytest.mark.parametrize("kind", ["int", "numpy", "series"])
def test_integer_labels_become_strings_in_natural_order(kind: str, backbone: str) -> None:
    numbers = [10 if label == "spam" else 2 for label in LABELS]
    given = {"int": numbers, "numpy": np.array(numbers), "series": pandas.Series(numbers)}[kind]
    found = train(backbone, TEXTS, given)
    assert found.labels == ("2", "10")
    assert found.predict(TEXTS[0])[0].probs.keys() == {"2", "10"}


def test_given_splits_are_used_as_given_in_every_form(backbone: str, tmp_path: Path) -> None:
    parts = {"train": slice(0, 40), "validation": slice(40, 50), "test": slice(50, 60)}
    forms: dict[str, Any] = {
        name: {
            "tuple": (TEXTS[part], LABELS[part]),
            "frame": pandas.DataFrame({"message": TEXTS[part], "category": LABELS[part]}),
            "path": write_messages(tmp_path / f"{name}.csv", TEXTS[part], LABELS[part]),
        }
        for name, part in parts.items()
    }
    found = {}
    for form in ("tuple", "frame", "path"):
        given = {name: forms[name][form] for name in ("validation", "test")}
        first = forms["train"][form] if form == "tuple" else (forms["train"][form], None)
        found[form] = train(backbone, *first, **given)
        assert found[form].metrics["examples"] == {"train": 40, "validation": 10, "test": 10}
    assert found["tuple"].metrics["splits"] == found["frame"].metrics["splits"] == found["path"].metrics["splits"]
    mixed = train(backbone, *forms["train"]["tuple"], validation=forms["validation"]["path"])
    assert mixed.metrics["examples"] == {"train": 40, "validation": 10}


def test_the_book_balances_lists_too(backbone: str) -> None:
    found = train(backbone, [*TEXTS, "one more"], [*LABELS, "ham"], recipe="book", batch_size=4)
    assert found.metrics["examples"] == {"train": 42, "validation": 6, "test": 12}


def test_training_is_silent_unless_it_is_given_a_talk(backbone: str, capsys: pytest.CaptureFixture[str]) -> None:
    class Remembers(Reporter):
        def __init__(self) -> None:
            self.said: list[str] = []

        def say(self, sentence: str) -> None:
            self.said.append(sentence)

    train(backbone)
    assert capsys.readouterr() == ("", "")
    reporter = Remembers()
    train(backbone, reporter=reporter)
    assert any("epoch 1.00" in sentence for sentence in reporter.said)
    assert capsys.readouterr() == ("", "")


def test_without_out_nothing_is_left_but_features(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(backbone).run_dir is None
    assert list(tmp_path.iterdir()) == []


def test_out_leaves_a_run_that_load_reads(backbone: str, tmp_path: Path) -> None:
    found = train(backbone, out=tmp_path / "run")
    assert found.run_dir == tmp_path / "run"
    assert json.loads((tmp_path / "run/metrics.json").read_text("utf-8")) == found.metrics
    loaded = TextClassifier.load(str(tmp_path / "run"))
    assert same_weights(loaded, found)
    assert loaded.metrics == found.metrics
    with pytest.raises(RunError, match="holds a finished run"):
        train(backbone, out=tmp_path / "run")
    train(backbone, out=tmp_path / "run", overwrite=True, seed=3)
    assert not same_weights(TextClassifier.load(tmp_path / "run"), found)


# Asking -----------------------------------------------------------------------------------------------------------


def test_predict_takes_one_text_or_many(trained: TextClassifier) -> None:
    (one,) = trained.predict(TEXTS[0])
    many = trained.predict(TEXTS[:3])
    assert isinstance(one, Prediction)
    assert [found.label for found in many] == LABELS[:3]
    assert one.label == many[0].label
    assert one.probs == pytest.approx(many[0].probs, abs=1e-5)
    assert one.label is not None
    assert one.score == max(one.probs.values()) == one.probs[one.label]
    assert list(one.probs) == list(trained.labels) == ["ham", "spam"]
    assert trained.predict(tuple(TEXTS[:3])) == many
    assert trained.predict([]) == []


def test_predict_takes_a_frame_and_a_series(trained: TextClassifier) -> None:
    frame = pandas.DataFrame({"message": TEXTS[:5], "category": LABELS[:5]})
    expected = trained.predict(TEXTS[:5])
    assert trained.predict(frame) == expected
    assert trained.predict(frame["message"]) == expected


def test_predict_proba_has_a_column_for_each_label(trained: TextClassifier) -> None:
    found = trained.predict_proba(TEXTS)
    assert found.shape == (60, 2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    assert [trained.labels[at] for at in found.argmax(1)] == [one.label for one in trained.predict(TEXTS)]
    assert trained.predict_proba([]).shape == (0, 2)


def test_strange_texts_are_answered(trained: TextClassifier) -> None:
    found = trained.predict(["", "<|endoftext|>", "a\x00b", "مرحبا", "w" * 100_000])
    assert [one.truncated for one in found] == [False, False, False, False, True]
    assert found[1].n_tokens > 1
    assert found[4].n_tokens == 64


def test_evaluate_measures_lists_frames_and_label_ids(trained: TextClassifier) -> None:
    expected = trained.evaluate(TEXTS, LABELS)
    assert expected["n"] == 60
    assert expected["accuracy"] == np.mean([one.label for one in trained.predict(TEXTS)] == np.array(LABELS))
    assert trained.evaluate(pandas.DataFrame({"text": TEXTS, "label": LABELS})) == expected
    assert trained.evaluate(TEXTS, [trained.labels.index(label) for label in LABELS]) == expected
    frame = pandas.DataFrame({"a": TEXTS, "b": LABELS, "c": TEXTS})
    assert trained.evaluate(frame, text=["a"], label="b") == expected


# Saving and loading -----------------------------------------------------------------------------------------------


def test_what_is_saved_loads_equal_even_moved_and_without_the_backbone(tmp_path: Path) -> None:
    folder = write_backbone(tmp_path / "gpt", random_gpt(n_positions=64))
    found = train(str(folder))
    found.save(tmp_path / "saved")
    shutil.rmtree(folder)
    (tmp_path / "saved").rename(tmp_path / "moved")
    loaded = TextClassifier.load(tmp_path / "moved")
    assert same_weights(loaded, found)
    assert (loaded.labels, loaded.metrics) == (found.labels, found.metrics)
    assert loaded.run_dir == tmp_path / "moved"
    loaded.save(tmp_path / "again")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "metrics.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "moved" / name).read_bytes()


def test_save_rejects_a_folder_with_something_to_lose(trained: TextClassifier, tmp_path: Path) -> None:
    trained.save(tmp_path / "saved")
    with pytest.raises(RunError, match="holds a finished run"):
        trained.save(tmp_path / "saved")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_bytes(b"meow")
    with pytest.raises(RunError, match=r"cat\.jpg"):
        trained.save(tmp_path / "photos")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_load_rejects_what_is_no_finished_run(trained: TextClassifier, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run directory"):
        TextClassifier.load(tmp_path / "nowhere")
    with pytest.raises(RunError, match="is not a run directory"):
        TextClassifier.load(tmp_path)
    trained.save(tmp_path / "half")
    (tmp_path / "half/metrics.json").unlink()
    with pytest.raises(RunError, match="not finished"):
        TextClassifier.load(tmp_path / "half")


def test_load_rejects_torn_weights(trained: TextClassifier, tmp_path: Path) -> None:
    trained.save(tmp_path / "torn")
    weights = tmp_path / "torn/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(BackboneError, match="safetensors"):
        TextClassifier.load(tmp_path / "torn")


@pytest.mark.parametrize("choice", [{"device": "gpu"}, {"precision": "fp16"}])
def test_load_rejects_a_machine_that_is_none(choice: dict[str, Any], trained: TextClassifier, tmp_path: Path) -> None:
    trained.save(tmp_path / "run")
    with pytest.raises(SettingsError, match="use one of 'auto'"):
        TextClassifier.load(tmp_path / "run", **choice)


# Bad arguments ----------------------------------------------------------------------------------------------------

FRAME = pandas.DataFrame({"text": TEXTS, "label": LABELS})


@pytest.mark.parametrize(
    ("texts", "labels", "settings", "match"),
    [
        (TEXTS, None, {}, "texts but no labels; give a list of labels beside them"),
        (TEXTS, LABELS[:-1], {}, "60 texts and 59 labels"),
        (TEXTS, ["ham"] * 60, {}, "only one label, 'ham'"),
        (TEXTS, [*LABELS[:-1], None], {}, r"labels\[59\] is None"),
        (TEXTS, [*LABELS[:-1], float("nan")], {}, r"labels\[59\] is nan, of type float"),
        ([*TEXTS[:-1], 7], LABELS, {}, r"texts\[59\] is 7, of type int"),
        ([*TEXTS[:-1], " "], LABELS, {"strict": True}, r"index 59 has ' ' as its text"),
        ([], [], {}, "texts is empty"),
        (FRAME, LABELS, {}, "labels were given beside a table"),
        (FRAME, None, {"label": "kind"}, "the table has no column 'kind'; it has 'text', 'label'"),
        ("a.csv", LABELS, {}, "labels were given beside the path a.csv"),
        ("none.csv", None, {}, "there is no file none.csv"),
        (TEXTS, LABELS, {"epocs": 3}, "no setting 'epocs'; did you mean 'epochs'"),
        (TEXTS, LABELS, {"epochs": 0}, "--epochs is 0"),
        (TEXTS, LABELS, {"recipe": "bok"}, "--recipe is 'bok'"),
        (TEXTS, LABELS, {"validation": TEXTS[:9]}, "texts but no labels"),
        (TEXTS, LABELS, {"validation": (TEXTS[:9],)}, r"a split is a tuple of 1; give \(texts, labels\)"),
        (TEXTS, LABELS, {"test": (["a"], ["eggs"])}, "label 'eggs', which is not one of 'ham', 'spam'"),
        (TEXTS, LABELS, {"test": "none.csv"}, "there is no file none.csv"),
        (TEXTS, LABELS, {"device": "gpu"}, "--device is 'gpu'"),
        (TEXTS, LABELS, {"backbone": "gpt-2"}, "no backbone 'gpt-2'"),
    ],
)
def test_train_rejects(
    texts: Any, labels: Any, settings: dict[str, Any], match: str, backbone: str, tmp_path: Path
) -> None:
    with pytest.raises(LastTokenError, match=match) as caught:
        train(backbone, texts, labels, out=tmp_path / "run", **settings)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("texts", "match"), [([1], r"texts\[0\] is 1"), (["a", None], r"texts\[1\] is None")])
def test_predict_rejects_what_is_no_text(texts: Any, match: str, trained: TextClassifier) -> None:
    with pytest.raises(DataError, match=match):
        trained.predict(texts)


def test_evaluate_rejects_missing_and_unknown_labels(trained: TextClassifier) -> None:
    with pytest.raises(DataError, match="texts but no labels"):
        trained.evaluate(TEXTS)
    with pytest.raises(DataError, match=r"row 2 of the lists given has label 'eggs'.* 'ham', 'spam'"):
        trained.evaluate(["a", "b"], ["ham", "eggs"])


def test_a_classifier_with_n_grams_is_saved_and_loaded(backbone: str, tmp_path: Path) -> None:
    texts, labels = messages(240)
    trained = train(backbone, texts, labels, ngrams="words")
    assert trained.metrics["ngrams"]["kept"]
    trained.save(tmp_path / "saved")
    np.testing.assert_array_equal(
        TextClassifier.load(tmp_path / "saved").predict_proba(texts), trained.predict_proba(texts)
    )
    (tmp_path / "saved" / "ngrams.json").unlink()
    with pytest.raises(RunError, match=r"ngrams\.json"):
        TextClassifier.load(tmp_path / "saved")
