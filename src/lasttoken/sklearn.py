"""The classifier as a scikit-learn estimator, for pipelines, searches and cross-validation.

    LastTokenClassifier(backbone="gpt2").fit(texts, y)      texts: a list, array or column of strings; y: any labels

`classes_` are sorted as scikit-learn sorts them, and the columns of `predict_proba` have their order. In a process the
trunk runs once for each text, however many folds and searches use it: features stay in memory (`SharedFeatures`).
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from lasttoken.classifier.checkpoint import FILES as CLASSIFIER_FILES
from lasttoken.classifier.checkpoint import load_classifier, save_classifier
from lasttoken.classifier.ngrams import FILES as NGRAM_FILES
from lasttoken.classifier.predict import Predictor
from lasttoken.core.config import Settings
from lasttoken.core.device import pick_device
from lasttoken.core.errors import DataError
from lasttoken.core.process import flush_denormals
from lasttoken.core.progress import Reporter
from lasttoken.core.resolve import resolve
from lasttoken.core.spelling import label_key
from lasttoken.data.files import Examples
from lasttoken.data.frames import from_lists
from lasttoken.data.splitting.cutting import cut_validation
from lasttoken.data.splitting.splits import Splits
from lasttoken.runs.calibration import calibrate
from lasttoken.runs.choice import plan_training
from lasttoken.runs.fitting import Fitted, choose_fitted, fit_beside, start_training
from lasttoken.runs.session import Session, open_device, open_session
from lasttoken.training.features import TrunkPass
from lasttoken.training.shared import SharedFeatures
from lasttoken.training.split_features import SplitFeatures, tail_logits

FEATURES = SharedFeatures()  # of this process
USUAL = Settings()  # the home of the defaults below


class LastTokenClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A fine-tuned GPT as a scikit-learn classifier of texts.

    Its parameters are settings of `lasttoken.core.config.Settings` with the same names and defaults; `random_state` is
    the setting `seed`, and `backbone=None` is the default backbone of the command line.
    `lasttoken.core.process.tune_cpu()` makes training faster on CPUs.

    Attributes:
        classes_: [K] the labels, sorted.
        ngrams_: the n-gram models that were tried, and the weight of the best; see metrics.json of a run.
        choice_: what was tried and chosen, where method, depth or read leave it open; see metrics.json of a run.
        n_trunk_texts_: the number of texts for which the last `fit` ran the trunk.
    """

    def __init__(
        self,
        backbone: str | None = None,
        *,
        method: str = USUAL.method,
        depth: str | int | None = USUAL.depth,
        train_blocks: str | int = USUAL.train_blocks,
        lora_rank: int | None = USUAL.lora_rank,
        lora_alpha: float | None = USUAL.lora_alpha,
        lora_blocks: str | int = USUAL.lora_blocks,
        lora_matrices: str = USUAL.lora_matrices,
        read: str = USUAL.read,
        prompt: str = USUAL.prompt,
        ngrams: str | None = USUAL.ngrams,
        causal_mask: bool = USUAL.causal_mask,
        max_length: int | None = USUAL.max_length,
        truncate: str = USUAL.truncate,
        epochs: int | None = USUAL.epochs,
        batch_size: int | None = USUAL.batch_size,
        learning_rate: float | None = USUAL.learning_rate,
        weight_decay: float = USUAL.weight_decay,
        balance: str = USUAL.balance,
        calibrate: bool = USUAL.calibrate,
        keep: str = USUAL.keep,
        validation_fraction: float = USUAL.validation_fraction,
        random_state: int | np.random.RandomState | None = USUAL.seed,
        device: str = USUAL.device,
        precision: str = USUAL.precision,
        offline: bool = False,
    ) -> None:
        self.backbone = backbone
        self.method = method
        self.depth = depth
        self.train_blocks = train_blocks
        self.lora_rank, self.lora_alpha = lora_rank, lora_alpha
        self.lora_blocks, self.lora_matrices = lora_blocks, lora_matrices
        self.read = read
        self.prompt = prompt
        self.ngrams = ngrams
        self.causal_mask = causal_mask
        self.max_length, self.truncate = max_length, truncate
        self.epochs, self.batch_size = epochs, batch_size
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.balance = balance
        self.calibrate = calibrate
        self.keep = keep
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.device, self.precision = device, precision
        self.offline = offline

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.no_validation = True
        tags.non_deterministic = self.random_state is None
        return tags

    # ------------------------------------------------------------------ training

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LastTokenClassifier:  # noqa: N803
        """Train on texts X [N] and labels y [N]; `sample_weight` [N] are the weights of the rows in the loss.

        `validation_fraction` of the rows become a validation split that shares no text with the others. If a label has
        too few rows for that, the last weights are kept, probabilities are not calibrated and n-grams are not added.
        With weights of the rows n-grams are not added either, because their model does not weight rows.

        Raises:
            ValueError: invalid texts, labels or weights, different lengths, or a single class.
            LastTokenError: see lasttoken.core.errors; `UserError` is a ValueError too.
        """
        texts = _texts(X)
        labels, weights = _labels(y, len(texts)), _weights(sample_weight, len(texts))
        self.classes_, ids = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y has one class, {self.classes_.tolist()}; a classifier needs examples of at least two classes"
            )
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(2**31 - 1)
        settings = self._settings(int(seed))
        if weights is not None:
            settings = replace(settings, ngrams="none")
        for sentence in warn_about_classes(self.classes_):
            warnings.warn(sentence, UserWarning, stacklevel=2)
        examples = _filled(texts, [str(label_id) for label_id in ids.tolist()])
        train, validation, settings = _with_validation(examples, settings)
        self._predictor = self._train(train, validation, settings, weights)
        return self

    def _settings(self, seed: int) -> Settings:
        names = {item for item in self.get_params(deep=False) if item not in ("random_state", "offline")}
        chosen = {name: getattr(self, name) for name in names}
        # A default is "not given", so that the method may imply another value, see core/method.py.
        given = {name: value for name, value in chosen.items() if name == "backbone" or value != getattr(USUAL, name)}
        return resolve("default", {**given, "seed": seed, "no_cache": True})

    @flush_denormals()
    def _train(
        self, train: Examples, validation: Examples, settings: Settings, weights: NDArray[np.float32] | None
    ) -> Predictor:
        device = open_device(settings, Reporter())
        splits = Splits(train, validation, None, validation_is_cut=True)
        plan = plan_training(splits, settings, device, offline=self.offline)
        session = open_session(splits, plan.main, device, offline=self.offline)
        features = self._features(session, weights)
        beside = fit_beside(plan, session, features, offline=self.offline) if plan.linear and plan.tail else None
        fitted = Fitted(session, features, start_training(plan, session, features).run(), None)
        if plan.candidates:
            fitted = choose_fitted(plan, fitted, beside, 0.0)
            self.choice_: dict[str, Any] = fitted.choice or {}
        prepared = fitted.session.prepared
        prepared.classifier.requires_grad_(False).eval().zero_grad(set_to_none=True)
        calibrated = calibrate(prepared, fitted.features, fitted.session.settings, fitted.outcome)
        prepared.classifier.merge()
        self.ngrams_: dict[str, Any] | None = calibrated.ngrams.record if calibrated.ngrams else None
        self._trunk: TrunkPass | None = fitted.session.trunk
        return prepared.predictor

    def _features(self, session: Session, weights: NDArray[np.float32] | None) -> dict[str, SplitFeatures]:
        """The features of the splits, those that this process knows not computed again."""
        prepared, trunk = session.prepared, session.trunk
        features: dict[str, SplitFeatures] = {}
        self.n_trunk_texts_ = 0
        for name, encoded in prepared.encoded.items():
            rows = [int(row) for row in prepared.splits.named()[name].ids or []]
            row_weights = None if weights is None else weights[rows]
            source = FEATURES.pool(trunk, encoded, name)
            self.n_trunk_texts_ += FEATURES.n_new
            features[name] = SplitFeatures(source, prepared.truth[name], row_weights)
        return features

    # ------------------------------------------------------------------ answers

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Probabilities [N, K] of texts X [N], columns in the order of `classes_`.

        Raises:
            NotFittedError: before `fit`.
            ValueError: X is not a column of strings.
        """
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Log-probabilities [N, K], columns in the order of `classes_`.

        Raises:
            NotFittedError, ValueError: see `predict_proba`.
        """
        if not hasattr(self, "classes_"):
            raise NotFittedError("this LastTokenClassifier is not fitted; call fit(texts, y) first")
        texts = _texts(X)
        config = self._predictor.classifier.config
        if not texts:
            return np.empty((0, len(self.classes_)))
        log_probs = np.asarray(config.task.log_probs(self._logits(texts), config.temperature), dtype=np.float64)
        # The classifier's labels are the indices of `classes_` as strings, in its own order.
        return log_probs[:, [config.labels.index(str(index)) for index in range(len(self.classes_))]]

    def _logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        encoded, classifier = self._predictor.encode(texts), self._predictor.classifier
        if self._trunk is None:
            return self._predictor.logits(encoded)
        source = FEATURES.pool(self._trunk, encoded, "texts")
        return classifier.blended(tail_logits(classifier, source, self._predictor.device), texts)

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The most probable class of each text, [N]."""
        log_probs = self.predict_log_proba(X)
        return np.asarray(self.classes_[log_probs.argmax(1)]) if len(log_probs) else self.classes_[:0]

    # ------------------------------------------------------------------ pickling

    def __getstate__(self) -> dict[str, Any]:
        """The parameters, and the classifier as the bytes of its files: no code and no torch module is pickled."""
        state = dict(super().__getstate__())
        predictor, _ = state.pop("_predictor", None), state.pop("_trunk", None)
        if predictor is not None:
            with tempfile.TemporaryDirectory(prefix="lasttoken-") as folder:
                save_classifier(Path(folder), predictor.classifier, predictor.tokenizer)
                names = (*CLASSIFIER_FILES, *(NGRAM_FILES if predictor.classifier.ngrams else ()))
                state["_files"] = {name: (Path(folder) / name).read_bytes() for name in names}
            state["_machine"] = (predictor.device.torch_device.type, predictor.device.precision)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        files, device = state.pop("_files", None), state.pop("_machine", None)
        super().__setstate__(state)
        if files is not None:
            with tempfile.TemporaryDirectory(prefix="lasttoken-") as folder:
                for name, content in files.items():
                    (Path(folder) / name).write_bytes(content)
                classifier, tokenizer = load_classifier(Path(folder))
                classifier.load_state_dict(
                    {name: tensor.clone() for name, tensor in classifier.state_dict().items()}, assign=True
                )
            self._predictor, self._trunk = Predictor(classifier, tokenizer, pick_device(*device)), None


def _texts(X: Any) -> list[str]:  # noqa: N803
    """Texts as a list.

    Raises:
        ValueError: not one column of strings.
    """
    shape = np.shape(X) if hasattr(X, "shape") else None
    if isinstance(X, str | bytes) or (shape is not None and len(shape) != 1):
        what = "one string" if isinstance(X, str | bytes) else f"of shape {shape}"
        raise ValueError(f"X is {what}; give a list, an array or a column of strings, one for each row")
    try:
        return from_lists(X).texts
    except DataError as error:
        raise DataError(f"X: {error}") from error


def _filled(texts: Sequence[str], labels: Sequence[str]) -> Examples:
    """Examples with the indices of the texts as ids.

    Raises:
        ValueError: a blank text; its index is named.
    """
    try:
        return from_lists(texts, labels, ids=range(len(texts)), strict=True)
    except DataError as error:
        raise ValueError(f"X: {error}".replace(", or leave --strict out", " or remove it and its label")) from error


def warn_about_classes(classes: NDArray[Any]) -> list[str]:
    """Sentences about classes that may be spellings of one label."""
    groups: dict[str, list[Any]] = {}
    for label in classes.tolist():
        groups.setdefault(label_key(str(label)).casefold(), []).append(label)
    return [
        f"y has the classes {' and '.join(map(ascii, group))}, which may be spellings of one label: they differ only "
        "by case, spaces, invisible characters or the way a number is written; they are used as different classes"
        for group in groups.values()
        if len(group) > 1
    ]


def _labels(y: Any, n: int) -> NDArray[Any]:
    """Labels [N] of any type that scikit-learn accepts; a column [N, 1] is raveled with a DataConversionWarning.

    Raises:
        ValueError: there is not one label for each text.
    """
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    values = y.tolist() if hasattr(y, "tolist") else y
    for index, label in enumerate(values if isinstance(values, list | tuple) else ()):
        if (
            label is None
            or type(label).__name__ in ("NAType", "NaTType")
            or (isinstance(label, float) and isnan(label))
        ):
            raise ValueError(f"y[{index}] is {label}: Input y contains NaN; give every text a label")
    labels = np.asarray(values)  # only after the check for NaN, which becomes a string beside other strings
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = column_or_1d(labels, warn=True)
    check_classification_targets(labels)
    if labels.ndim != 1 or len(labels) != n:
        raise ValueError(f"there are {n} texts, and y has the shape {labels.shape}; give one label for each text")
    return labels


def _weights(sample_weight: Any, n: int) -> NDArray[np.float32] | None:
    """Weights scaled to a mean of 1, so that their scale does not change the effect of the learning rate.

    Raises:
        ValueError: there is not one finite weight of at least 0 for each text, or all are 0.
    """
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.ndim == 0:
        weights = np.full(n, float(weights))
    if weights.shape != (n,) or not np.isfinite(weights).all() or weights.min() < 0 or not weights.any():
        raise ValueError(
            f"sample_weight has the shape {weights.shape}; give {n} finite numbers of at least 0, and not only zeros"
        )
    return np.asarray(weights / weights.mean(), dtype=np.float32)


def _with_validation(examples: Examples, settings: Settings) -> tuple[Examples, Examples, Settings]:
    """Train, validation, and the settings for them."""
    try:
        cut = cut_validation(examples, settings.validation_fraction, settings.seed, rare="reject")
    except DataError:  # too few rows of a label for two sides
        return examples, examples, replace(settings, keep="last", calibrate=False, ngrams="none")
    return cut.train, cut.named()["validation"], settings
