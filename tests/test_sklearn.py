"""LastTokenClassifier among scikit-learn's tools: its conventions, its validations, its pickles.

`check_estimator` runs what it has for estimators whose input is text; `NEED_NO_DATA` are others that feed none. Not
run, because they feed matrices of numbers or sparse ones: all of `check_classifiers_*`, `check_fit2d_*`,
`check_dtype_object`, `check_estimators_dtypes`, `check_estimators_nan_inf`, `check_n_features_in*`,
`check_f_contiguous_array_estimator` and their like; what they ask for is asked here of texts.
`check_sample_weight_equivalence_*` does not hold for a training by batches in a drawn order.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from miniature import POCKET, messages, random_gpt, write_backbone
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import DataConversionWarning, NotFittedError, SkipTestWarning
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

from lasttoken import sklearn as ours
from lasttoken.classifier.predict import Predictor
from lasttoken.core.config import Settings
from lasttoken.core.errors import BackboneError, DataError, RunError, SettingsError, StorageError
from lasttoken.sklearn import LastTokenClassifier
from lasttoken.training.shared import SharedFeatures

TEXTS, LABELS = messages(60)
NEED_NO_DATA = (
    "check_estimator_cloneable", "check_estimator_tags_renamed", "check_valid_tag_types", "check_estimator_repr",
    "check_no_attributes_set_in_init", "check_parameters_default_constructible", "check_get_params_invariance",
    "check_set_params", "check_mixin_order",
)  # fmt: skip


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_backbone(tmp_path_factory.mktemp("gpt"), random_gpt(n_positions=64)))


@pytest.fixture(autouse=True)
def own_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "FEATURES", SharedFeatures())


def make(backbone: str, **changes: Any) -> LastTokenClassifier:
    return LastTokenClassifier(
        backbone, **{"epochs": 3, "learning_rate": 1e-2, "device": "cpu", "offline": True, **changes}
    )


def upper(texts: Any) -> list[str]:
    return [text.upper() for text in texts]


def test_scikit_learn_s_own_run_of_checks(backbone: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        found = check_estimator(make(backbone), on_fail="raise")
    assert {one["status"] for one in found} == {"passed"}


@pytest.mark.parametrize("name", NEED_NO_DATA)
def test_scikit_learn_s_checks_that_need_no_matrix(name: str, backbone: str) -> None:
    getattr(estimator_checks, name)("LastTokenClassifier", make(backbone))


def test_parameters_are_kept_cloned_and_set(backbone: str) -> None:
    made = make(backbone, epochs=2)
    assert made.get_params()["epochs"] == 2
    other = clone(made).set_params(epochs=4)
    assert (other.epochs, made.epochs) == (4, 2)
    assert "epochs=2" in repr(made)
    assert not [name for name in vars(made) if name.endswith("_") or name.startswith("_")]


@pytest.mark.parametrize("kind", ["strings", "integers", "booleans", "floats"])
def test_classes_are_sorted_and_columns_follow_them(kind: str, backbone: str) -> None:
    names: dict[str, list[Any]] = {
        "strings": ["b 10", "b 9"], "integers": [30, -4], "booleans": [True, False], "floats": [2.0, 1.0],
    }  # fmt: skip
    y = [names[kind][label == "ham"] for label in LABELS]
    made = make(backbone).fit(TEXTS, y)
    assert made.classes_.tolist() == sorted(names[kind])
    probs = made.predict_proba(TEXTS)
    assert probs.shape == (60, 2)
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-6)
    assert (made.predict(TEXTS) == made.classes_[probs.argmax(1)]).all()
    assert made.predict(TEXTS).dtype == made.classes_.dtype
    assert made.score(TEXTS, y) == accuracy_score(y, made.predict(TEXTS)) > 0.9


def test_ten_classes_keep_their_order(backbone: str) -> None:
    y = [at % 12 for at in range(120)]
    texts = [f"{'ab'[at % 2] * (1 + at % 12)} number {at * 7919}" for at in range(120)]
    made = make(backbone, epochs=1).fit(texts, y)
    assert made.classes_.tolist() == list(range(12))
    predictor: Predictor = made._predictor
    one = predictor.predict(texts[:1])[0]
    np.testing.assert_allclose(made.predict_proba(texts[:1])[0], [one.probs[str(at)] for at in range(12)], atol=1e-5)


@pytest.mark.parametrize("form", [list, np.array, pd.Series, lambda texts: np.array(texts, dtype=object), tuple])
def test_every_column_of_texts_will_do(form: Any, backbone: str) -> None:
    made = make(backbone, epochs=1).fit(form(TEXTS), form(LABELS))
    np.testing.assert_allclose(made.predict_proba(form(TEXTS)), made.predict_proba(TEXTS), atol=1e-6)


def test_the_same_seed_gives_the_same_classifier(backbone: str) -> None:
    a, b = (make(backbone).fit(TEXTS, LABELS).predict_proba(TEXTS) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    c = make(backbone, random_state=np.random.RandomState(4)).fit(TEXTS, LABELS).predict_proba(TEXTS)
    assert not np.allclose(a, c)


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ("one text", ["a"], "X is one string"),
        (np.zeros((4, 2)), [0, 1, 0, 1], r"X is of shape \(4, 2\)"),
        ([1, 2], [0, 1], r"X: texts\[0\] is 1"),
        (["a", "b"], None, "requires y to be passed"),
        (["a", "b"], ["x"], "there are 2 texts, and y"),
        (["a", "b"], ["x", "x"], "y has one class"),
        (["a", "b"], [0.5, 1.2], "Unknown label type"),
        (["a", "b"], [[0, 1], [1, 0]], r"y has the shape \(2, 2\)"),
        ([], [], "X: texts is empty|Found array with 0|y has one class|0 sample|there are 0"),
    ],
)
def test_what_cannot_be_fitted_is_a_value_error(texts: Any, labels: Any, message: str, backbone: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(backbone).fit(texts, labels)


def test_before_fit_and_without_texts(backbone: str) -> None:
    with pytest.raises(NotFittedError):
        make(backbone).predict(TEXTS)
    made = make(backbone, epochs=1).fit(TEXTS, LABELS)
    assert made.predict([]).shape == (0,)
    assert made.predict_proba([]).shape == (0, 2)


def test_weights_of_one_change_nothing_and_weights_of_zero_silence_rows(backbone: str) -> None:
    plain = make(backbone).fit(TEXTS, LABELS)
    ones = make(backbone).fit(TEXTS, LABELS, sample_weight=np.full(60, 3.0))
    np.testing.assert_allclose(plain.predict_proba(TEXTS), ones.predict_proba(TEXTS), atol=1e-4)
    wrong = [label if at < 30 else {"spam": "ham", "ham": "spam"}[label] for at, label in enumerate(LABELS)]
    silenced = make(backbone, keep="last").fit(TEXTS, wrong, sample_weight=[1.0] * 30 + [0.0] * 30)
    assert silenced.score(TEXTS, LABELS) > 0.9
    for bad in ([1.0], np.full(60, -1.0), np.full(60, np.nan), np.zeros(60)):
        with pytest.raises(ValueError, match="sample_weight"):
            make(backbone).fit(TEXTS, LABELS, sample_weight=bad)


@pytest.mark.parametrize("method", ["linear", "auto"])
def test_method_and_depth_are_parameters(method: str, backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {"backbone": backbone, "method": method, "device": "cpu", "offline": True}
    made = LastTokenClassifier(**given).fit(TEXTS, LABELS)
    assert made.score(TEXTS, LABELS) > 0.9
    assert {each["depth"] for each in made.choice_["candidates"]} >= {1, 2}
    again = pickle.loads(pickle.dumps(made))
    np.testing.assert_allclose(again.predict_proba(TEXTS), made.predict_proba(TEXTS), atol=1e-5)
    assert LastTokenClassifier(**given).fit(["win a prize", "see you"], ["spam", "ham"]).predict(["win"]).shape == (1,)
    monkeypatch.setattr("lasttoken.training.held_out.FEW_ROWS", 2)
    assert LastTokenClassifier(**given, read="mean", depth=2).fit(TEXTS, LABELS).score(TEXTS, LABELS) > 0.9
    if method == "linear":
        with pytest.raises(ValueError, match="--epochs has no effect"):
            LastTokenClassifier(**given, epochs=2).fit(TEXTS, LABELS)


@pytest.mark.parametrize("blocks", [1, "all"])
def test_lora_is_trained_and_pickled(blocks: int | str, backbone: str) -> None:
    made = make(backbone, lora_rank=2, lora_alpha=3, lora_blocks=blocks, lora_matrices="qkv,up", epochs=1)
    made.fit(TEXTS, LABELS)
    lora = made._predictor.classifier.config.lora
    assert lora is not None
    assert (lora.rank, lora.alpha, lora.matrices) == (2, 3.0, ("qkv", "up"))
    assert lora.blocks == (made._predictor.classifier.decoder.config.n_layer if blocks == "all" else 1)
    again = pickle.loads(pickle.dumps(made))
    np.testing.assert_allclose(again.predict_proba(TEXTS), made.predict_proba(TEXTS), atol=1e-5)
    with pytest.raises(ValueError, match="--lora-rank asks for LoRA"):
        make(backbone, lora_rank=2, train_blocks=1).fit(TEXTS, LABELS)


def test_few_rows_are_enough(backbone: str) -> None:
    made = make(backbone, epochs=1).fit(["win a prize", "see you"], ["spam", "ham"])
    assert made.predict(["win"]).shape == (1,)


# Other tools ---------------------------------------------------------------------------------------------------------


def test_pipelines_and_validations_run_the_trunk_once_for_a_text(backbone: str) -> None:
    piped = make_pipeline(FunctionTransformer(upper), make(backbone))
    scores = cross_val_score(piped, TEXTS, LABELS, cv=3)
    assert scores.mean() > 0.9
    assert cross_val_predict(make(backbone), TEXTS, LABELS, cv=3, method="predict_proba").shape == (60, 2)
    again = make(backbone).fit(TEXTS, LABELS)
    assert again.n_trunk_texts_ == 0
    assert make(backbone).fit([*TEXTS, "something new"], [*LABELS, "ham"]).n_trunk_texts_ == 1
    assert make(backbone, train_blocks=1).fit(TEXTS, LABELS).n_trunk_texts_ == 60


def test_searches_and_calibration(backbone: str) -> None:
    search = GridSearchCV(make(backbone), {"epochs": [1, 3], "learning_rate": [1e-3, 1e-2]}, cv=2).fit(TEXTS, LABELS)
    assert search.best_score_ > 0.8
    assert search.best_estimator_.n_trunk_texts_ == 0
    calibrated = CalibratedClassifierCV(make(backbone), cv=2).fit(TEXTS, LABELS)
    assert calibrated.predict_proba(TEXTS).shape == (60, 2)


def test_features_stay_under_their_limit(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "FEATURES", SharedFeatures(limit_bytes=20_000))
    first = make(backbone).fit(TEXTS, LABELS)
    second = make(backbone).fit(TEXTS, LABELS)
    assert (first.n_trunk_texts_, second.n_trunk_texts_) == (60, 60)
    np.testing.assert_allclose(first.predict_proba(TEXTS), second.predict_proba(TEXTS), atol=1e-6)


# Pickles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", [pickle, joblib])
def test_a_pickle_holds_files_and_no_code_of_modules(tool: Any, backbone: str) -> None:
    made = make(backbone).fit(TEXTS, LABELS)
    buffer = io.BytesIO()
    tool.dump(made, buffer)
    names = {
        str(arg)
        for opcode, arg, _ in pickletools.genops(pickle.dumps(made))
        if opcode.name in ("SHORT_BINUNICODE", "GLOBAL")
    }
    assert not {
        name for name in names if name.startswith(("torch", "lasttoken.backbone", "lasttoken.classifier.predict"))
    }
    buffer.seek(0)
    found = tool.load(buffer)
    np.testing.assert_allclose(found.predict_proba(TEXTS), made.predict_proba(TEXTS), atol=1e-6)
    assert found.classes_.tolist() == made.classes_.tolist()
    assert pickle.loads(pickle.dumps(found)).predict(TEXTS).tolist() == made.predict(TEXTS).tolist()
    assert pickle.loads(pickle.dumps(make(backbone))).epochs == 3


def test_it_is_found_where_users_look(backbone: str, tmp_path: Path) -> None:
    from lasttoken.sklearn import LastTokenClassifier as Found

    assert Found().backbone is None
    assert Found()._settings(1).backbone == POCKET


# What scikit-learn expects ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [DataError, SettingsError, BackboneError, RunError], ids=lambda error: str(error.__name__)
)
def test_a_users_mistake_is_a_value_error(error: type[Exception]) -> None:
    assert issubclass(error, ValueError)
    assert not issubclass(StorageError, ValueError)


def test_fit_raises_value_errors() -> None:
    texts, labels = ["a b", "c d"] * 5, [0, 1] * 5
    for wrong, given in (({"epochs": 0}, texts), ({"backbone": "nope"}, texts), ({}, [*texts[:-1], ""])):
        with pytest.raises(ValueError, match=r"epochs|nope|index 9"):
            LastTokenClassifier(**wrong).fit(given, labels)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_missing_label_is_named(missing: Any) -> None:
    with pytest.raises(ValueError, match=r"y\[1\].*NaN"):
        LastTokenClassifier().fit(["a", "b", "c"], pd.Series(["x", missing, "y"], dtype=object))


def test_a_column_of_labels_is_raveled_with_a_warning(backbone: str) -> None:
    texts, labels = messages(20)
    with pytest.warns(DataConversionWarning):
        found = make(backbone, epochs=1).fit(texts, np.array(labels)[:, None])
    assert found.classes_.tolist() == ["ham", "spam"]


def test_the_defaults_are_those_of_the_settings() -> None:
    parameters = LastTokenClassifier().get_params()
    assert parameters.pop("random_state") == Settings().seed
    assert parameters.pop("offline") is False
    assert parameters.pop("backbone") is None, "the environment may name another default"
    assert parameters == {name: getattr(Settings(), name) for name in parameters}


def test_n_grams_are_added_and_pickled(backbone: str) -> None:
    texts, labels = messages(240)
    fitted = LastTokenClassifier(backbone, epochs=1, ngrams="auto", validation_fraction=0.25).fit(texts, labels)
    assert fitted.ngrams_ is not None
    assert fitted.ngrams_["kept"]
    content = pickle.dumps(fitted)
    names = {argument for _, argument, _ in pickletools.genops(content) if isinstance(argument, str)}
    assert not any("TfidfVectorizer" in name for name in names)
    expected = fitted.predict_proba(texts)
    np.testing.assert_allclose(pickle.loads(content).predict_proba(texts), expected, atol=1e-5)
    assert accuracy_score(labels, fitted.predict(texts)) > 0.95


def test_n_grams_need_validation_rows_and_rows_without_weights(backbone: str) -> None:
    classifier = LastTokenClassifier(backbone, epochs=1, ngrams="auto")
    assert classifier.fit(["a", "b", "c"], ["x", "y", "x"]).ngrams_ is None
    assert classifier.fit(TEXTS, LABELS, sample_weight=np.ones(len(TEXTS))).ngrams_ is None


def test_n_grams_can_be_left_out_of_the_default_method() -> None:
    assert LastTokenClassifier(method="linear")._settings(1).ngrams == "auto"
    assert not LastTokenClassifier(method="linear", ngrams="none")._settings(1).adds_ngrams
    assert not LastTokenClassifier(method="tail")._settings(1).adds_ngrams
