"""The n-gram model that a classifier may contain: TF-IDF of words or characters, and one linear map to its labels.

    texts ─► TF-IDF [N, F], sparse ─► · weights [F, K] + bias [K] ─► logits of the n-grams [N, K] ──┐
    token_ids ─► GPT ─► logits of the GPT [N, K] ─► / temperature ──────────────────────────────────┴─► weighted sum

    ngrams.json          how texts are cut into terms, and the F terms in the order of the weights
    ngrams.safetensors   idf [F], weights [F, K] in 16 bits, bias [K]

scikit-learn cuts texts into terms and counts them; nothing of it is pickled. The n-gram model reads the whole text,
also where the GPT reads its beginning only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Interval, MinLen
from numpy.typing import NDArray
from torch import Tensor

from lasttoken.backbone.weights import read_tensor_file, write_tensor_file
from lasttoken.core.documents import STRICT, OneOf, checked, load_json, to_json
from lasttoken.core.errors import BackboneError, RunError, short_repr
from lasttoken.core.storage import write_text
from lasttoken.evaluation.baselines import LinearBaseline, cut_texts
from lasttoken.evaluation.decision import MOST_PROBABLE, Decision
from lasttoken.evaluation.linear_models import LINKS, Link, logits_of_scores

FORMAT = 1
FILES = ("ngrams.json", "ngrams.safetensors")
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: JSON of texts may hold it, UTF-8 cannot
ADVICE = "copy the run again or train it again"

Kind = Literal["words", "characters"]
KINDS: tuple[Kind, ...] = ("words", "characters")


@dataclass(frozen=True)
class Blend:
    """How a classifier adds the logits of n-grams to those of its GPT; saved in its config."""

    __pydantic_config__ = STRICT

    kind: Annotated[str, OneOf(KINDS)]
    weight: Annotated[float, Interval(gt=0, lt=1)]  # of the n-grams; that of the GPT is 1 - weight
    gpt_temperature: Annotated[float, Interval(ge=1e-3, le=1e3)]  # the GPT's logits are divided by it
    gpt_decision: Decision = MOST_PROBABLE  # the decision rule of the GPT alone, for exports without the n-grams

    def combine(self, gpt: NDArray[np.float32], ngrams: NDArray[np.float32]) -> NDArray[np.float32]:
        """The weighted sum of logits [N, K].

        >>> Blend("words", 0.25, 2.0).combine(np.array([[4.0]], dtype="f4"), np.array([[-2.0]], dtype="f4")).tolist()
        [[1.0]]
        """
        scaled = gpt * np.float32((1 - self.weight) / self.gpt_temperature)
        return np.asarray(scaled + np.float32(self.weight) * ngrams, dtype=np.float32)

    def in_words(self) -> str:
        """What the classifier consists of.

        >>> Blend("characters", 0.3, 1.0).in_words()
        'GPT and character n-grams, weights 0.70 : 0.30'
        """
        return f"GPT and {self.kind.removesuffix('s')} n-grams, weights {1 - self.weight:.2f} : {self.weight:.2f}"


@dataclass(frozen=True)
class Terms:
    """How texts become terms: parameters of scikit-learn's TfidfVectorizer with its names, as ngrams.json has them."""

    __pydantic_config__ = STRICT

    analyzer: Annotated[str, OneOf(("word", "char_wb"))]
    ngram_range: tuple[Annotated[int, Ge(1)], Annotated[int, Ge(1)]]
    token_pattern: str
    lowercase: bool
    sublinear_tf: bool
    link: Annotated[str, OneOf(LINKS)]  # from scores to logits
    max_characters: Annotated[int, Ge(1)] | None  # of a text that are read; None: all
    vocabulary: Annotated[tuple[str, ...], MinLen(1)]  # [F]


class NgramModel:
    """A fitted n-gram model. It is never changed, so threads may share it."""

    def __init__(
        self,
        terms: Terms,
        idf: NDArray[np.float32],
        weights: NDArray[np.float16],
        bias: NDArray[np.float32],
    ) -> None:
        """Make a model of the inverse document frequencies [F], weights [F, K] and bias [K]."""
        self.terms, self.idf, self.weights, self.bias = terms, idf, weights, bias
        self._weights = weights.astype(np.float32)
        self._vectorizer = self._make_vectorizer()

    @classmethod
    def of(cls, baseline: LinearBaseline, shift: NDArray[np.float32] | float = 0.0) -> NgramModel:
        """The model of a fitted baseline; `shift` [K] is added to its scores, see training/balance.py.

        Weights are rounded to 16 bits here, so that a saved model computes the logits that were calibrated. Terms that
        no file in UTF-8 can hold are left out.
        """
        vectorizer = baseline.vectorizer
        found = vectorizer.get_feature_names_out().tolist()
        weights, bias, link = baseline.model.to_weights(len(found))
        places = [place for place, term in enumerate(found) if not SURROGATE.search(term)]
        vocabulary = tuple(found[place] for place in places)
        terms = Terms(
            vectorizer.analyzer,
            tuple(vectorizer.ngram_range),
            vectorizer.token_pattern,
            vectorizer.lowercase,
            vectorizer.sublinear_tf,
            link,
            baseline.max_characters,
            vocabulary,
        )
        idf = np.asarray(vectorizer.idf_, dtype=np.float32)[places]
        return cls(terms, idf, weights[places].astype(np.float16), np.asarray(bias + shift, dtype=np.float32))

    def _make_vectorizer(self) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        terms = self.terms
        vectorizer = TfidfVectorizer(
            analyzer=terms.analyzer,
            ngram_range=terms.ngram_range,
            token_pattern=terms.token_pattern,
            lowercase=terms.lowercase,
            sublinear_tf=terms.sublinear_tf,
            vocabulary={term: place for place, term in enumerate(terms.vocabulary)},
            dtype=np.float32,
        )
        vectorizer.idf_ = self.idf
        vectorizer.build_analyzer()  # an invalid pattern is an error now
        return vectorizer

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits [N, K] of N texts; a text's logits do not depend on the others."""
        if not len(texts):
            return np.empty((0, len(self.bias)), dtype=np.float32)
        features = self._vectorizer.transform(cut_texts(texts, self.terms.max_characters))
        scores = np.asarray(features.astype(np.float32) @ self._weights + self.bias, dtype=np.float32)
        link: Link = self.terms.link  # type: ignore[assignment]  # checked by its annotation
        return logits_of_scores(scores, link)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The content of ngrams.safetensors."""
        arrays = {"idf": self.idf, "weights": self.weights, "bias": self.bias}
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def save_ngrams(folder: Path, model: NgramModel | None) -> None:
    """Write the two files, or remove them if there is no model; each is whole or absent.

    Raises:
        StorageError: no permission, or a full disk.
    """
    if model is None:
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        return
    write_tensor_file(folder / FILES[1], model.tensors)
    write_text(folder / FILES[0], to_json({"format": FORMAT, **asdict(model.terms)}) + "\n")


def load_ngrams(folder: Path, n_labels: int) -> NgramModel:
    """Load what `save_ngrams` wrote.

    Raises:
        RunError: a file is missing, its format is newer, or the two do not fit each other or the labels.
        BackboneError: the tensors are corrupt.
    """
    for name in FILES:
        if not (folder / name).is_file():
            raise RunError(f"{folder} holds no {name}, and its classifier contains n-grams; {ADVICE}")
    path = folder / FILES[0]
    content = load_json(path)
    if content.pop("format", None) != FORMAT:
        raise RunError(
            f"{path} does not have format {FORMAT}, which this version reads; was it written by a newer one?"
        )
    terms = checked(Terms, content, path, advice=ADVICE)
    if terms.ngram_range[0] > terms.ngram_range[1] or len(set(terms.vocabulary)) < len(terms.vocabulary):
        raise RunError(f"{path}: ngram_range is {terms.ngram_range}, or a term is listed twice; {ADVICE}")
    tensors = read_tensor_file(folder / FILES[1])
    shapes = {"idf": (len(terms.vocabulary),), "weights": (len(terms.vocabulary), n_labels), "bias": (n_labels,)}
    for name, shape in shapes.items():
        tensor = tensors.get(name)
        if tensor is None or tuple(tensor.shape) != shape or not tensor.is_floating_point():
            has = short_repr(None if tensor is None else tuple(tensor.shape))
            raise BackboneError(
                f"{folder / FILES[1]}: tensor {name} has the shape {has}, and {FILES[0]} and the labels need {shape}; "
                f"{ADVICE}"
            )
    try:
        return NgramModel(
            terms,
            tensors["idf"].float().numpy().copy(),
            tensors["weights"].half().numpy().copy(),
            tensors["bias"].float().numpy().copy(),
        )
    except (ValueError, re.error) as error:  # a pattern that is not a regular expression, for instance
        raise RunError(f"{path} is not valid: {error}; {ADVICE}") from error
