"""Duplicates among texts: equal, equal except for case, spaces, digits and punctuation, or nearly equal.

    "Win £1,000 now!"  ┐ normalised: "win 0 0 now"
    "WIN £9,000  now"  ┘
           │ distinct normalised texts, cut into shingles of 5 characters
           ▼
    80 minimum hash values ─► 16 bands of 5 ─► pairs that agree in a band ─► Jaccard similarity ─► components

Normalised texts are compared only from 20 characters on: "message 1" and "message 2" are different messages, and two
short texts that differ in a letter may mean opposite things. Shorter texts are duplicates only when they are equal.

Sources: Broder 1997, On the resemblance and containment of documents; Leskovec, Rajaraman and Ullman, Mining of
Massive Datasets, chapter 3. Candidate pairs depend on random hash functions with a fixed seed; whether a pair is a
duplicate does not, because its similarity is computed exactly.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]
Hashes = NDArray[np.uint32]

THRESHOLD = 0.8  # Jaccard similarity of shingles from which on texts are nearly equal
ENOUGH_CHARACTERS = 20  # in a normalised text, for comparisons other than equality
SHINGLE = 5  # characters
N_BANDS, BAND_ROWS = 16, 5  # finds a pair of similarity 0.8 with 1 - (1 - 0.8^5)^16 = 99.8 %
N_BEFORE = 3  # preceding members of a bucket that each is compared with, beside its first: linear in the rows
LEAST_AGREEMENT = 0.65  # fraction of equal hash values to compute the similarity; 1 of 2,500 pairs of 0.8 has less
CHUNK_CHARACTERS = 1 << 18  # hashed at a time, so that the arrays stay in the processor's cache
DIGITS = re.compile(r"0+")
DROPPED = {"P", "Z", "C", "Sm", "Sc", "Sk"}  # Unicode categories that normalising makes a space


@dataclass(frozen=True)
class Duplicates:
    """For each of N rows its first duplicate, (N,), by three kinds, each wider than the one before."""

    exact: Indices
    normalised: Indices
    near: Indices

    def by_kind(self) -> dict[str, Indices]:
        """The three kinds, the strictest first."""
        return {"exact": self.exact, "normalised": self.normalised, "near": self.near}


class _Plain(dict[int, str]):
    """The normalised form of each character, computed once for each."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        dropped = category in DROPPED or category[0] in DROPPED
        self[code] = " " if dropped else "0" if category == "Nd" else character
        return self[code]


_PLAIN = _Plain()


def normalise(text: str) -> str:
    """A text in lower case without punctuation, with 0 for each number and single spaces; unchanged if nothing is left.

    >>> normalise("WIN  £1000, now!!"), normalise(" :-) ")
    ('win 0 now', ':-)')
    """
    plain = " ".join(text.casefold().translate(_PLAIN).split())
    return DIGITS.sub("0", plain) or " ".join(text.split())


def jaccard_similarity(text: str, other: str) -> float:
    """Jaccard similarity of two normalised texts' shingles, 0 to 1.

    >>> jaccard_similarity("abcdef", "abcdefgh")
    0.5
    """
    ours, theirs = _shingles(text), _shingles(other)
    n_shared = len(ours & theirs)
    return n_shared / max(len(ours) + len(theirs) - n_shared, 1)


def find_duplicates(texts: Sequence[str]) -> Duplicates:
    """Find duplicates among N texts: seconds for 1,000,000 of 100 characters, minutes if most follow one template.

    Near duplicates are transitive: a text that is nearly equal to one member of a component belongs to the component,
    though it may be less similar to other members.
    """
    exact = _first_of(texts)
    rows = np.flatnonzero(exact == np.arange(len(texts)))  # each distinct text once
    keys = [normalise(texts[row]) for row in rows.tolist()]
    enough = np.fromiter((len(key) >= ENOUGH_CHARACTERS for key in keys), np.bool_, len(keys))
    rows = rows[enough]
    keys = [key for key, is_enough in zip(keys, enough.tolist(), strict=True) if is_enough]
    first = _first_of(keys)
    normalised = np.arange(len(texts))
    normalised[rows] = rows[first]
    distinct = np.flatnonzero(first == np.arange(len(keys)))
    near = np.arange(len(texts))
    near[rows[distinct]] = rows[distinct][_near([keys[index] for index in distinct.tolist()])]
    normalised = normalised[exact]
    return Duplicates(exact, normalised, near[normalised])


def _first_of(texts: Sequence[str]) -> Indices:
    seen: dict[str, int] = {}
    return np.fromiter((seen.setdefault(text, row) for row, text in enumerate(texts)), np.intp, len(texts))


# Nearly equal -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _shingles(text: str) -> set[str]:
    return {text[start : start + SHINGLE] for start in range(max(len(text) - SHINGLE + 1, 1))}


def _near(texts: Sequence[str]) -> Indices:
    """The first member of each text's component, (M,), for M distinct normalised texts of enough characters."""
    signatures = _signatures(texts)
    parent = list(range(len(texts)))
    for band in range(N_BANDS):
        lefts, rights = _candidates(signatures[:, band * BAND_ROWS : (band + 1) * BAND_ROWS])
        promising = _agreement(signatures, lefts, rights) >= LEAST_AGREEMENT
        for left, right in zip(lefts[promising].tolist(), rights[promising].tolist(), strict=True):
            a, b = root(parent, left), root(parent, right)
            if a != b and _are_near(texts[left], texts[right]):
                parent[max(a, b)] = min(a, b)
    return np.fromiter((root(parent, index) for index in range(len(texts))), np.intp, len(texts))


def _are_near(text: str, other: str) -> bool:
    return jaccard_similarity(text, other) >= THRESHOLD


def root(parent: list[int], node: int) -> int:
    """The root of a node in a disjoint-set forest, with path halving."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


def _signatures(texts: Sequence[str]) -> NDArray[np.uint16]:
    """MinHash signatures: the low 16 bits of the minimum hash values, (M, bands * rows)."""
    rng = np.random.default_rng(1997)
    factors = rng.integers(0, 1 << 31, N_BANDS * BAND_ROWS, np.uint32) * np.uint32(2) + np.uint32(1)
    signatures = np.empty((len(texts), len(factors)), np.uint16)
    for start, end in chunks(texts):
        hashes, offsets = _shingle_hashes(texts[start:end])
        for column, factor in enumerate(factors):
            mixed = hashes * factor
            mixed ^= mixed >> np.uint32(15)
            mixed *= factor
            signatures[start:end, column] = np.minimum.reduceat(mixed, offsets).astype(np.uint16)
    return signatures


def chunks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Ranges of texts, each of about CHUNK_CHARACTERS."""
    start = n_characters = 0
    for end, text in enumerate(texts, 1):
        n_characters += len(text)
        if n_characters >= CHUNK_CHARACTERS or end == len(texts):
            yield start, end
            start, n_characters = end, 0


def code_points(texts: Sequence[str]) -> tuple[NDArray[np.uint32], Indices]:
    """The code points of n texts end to end, and where each text starts and the last one ends, (n + 1,)."""
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    return points, np.concatenate(([0], np.cumsum([len(text) for text in texts]))).astype(np.intp)


def _shingle_hashes(texts: Sequence[str]) -> tuple[Hashes, Indices]:
    """A hash of every shingle of every text, end to end, and where each text's hashes start; every text has one."""
    points, bounds = code_points(texts)
    hashes = np.zeros(len(points) - SHINGLE + 1, np.uint32)
    for offset in range(SHINGLE):
        hashes = (hashes ^ points[offset : offset + len(hashes)]) * np.uint32(0x9E3779B1)
        hashes ^= hashes >> np.uint32(15)
    whole = np.ones(len(points), np.bool_)
    for back in range(1, SHINGLE):
        whole[bounds[1:] - back] = False  # shingles that would extend into the next text
    n_each = np.diff(bounds) - SHINGLE + 1
    return hashes[whole[: len(hashes)]], np.concatenate(([0], np.cumsum(n_each)[:-1])).astype(np.intp)


def _candidates(band: NDArray[np.uint16]) -> tuple[Indices, Indices]:
    """Pairs of texts that agree in a band: each with the few before it in its bucket and with the bucket's first."""
    keys = np.zeros(len(band), np.uint64)
    for column in band.T:
        keys = (keys ^ column) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    is_first = np.concatenate(([True], ordered[1:] != ordered[:-1]))[: len(ordered)]
    first = np.maximum.accumulate(np.where(is_first, np.arange(len(ordered)), 0))
    place = np.arange(len(ordered)) - first  # in the bucket
    near = [np.flatnonzero(place >= back) for back in range(1, N_BEFORE + 1)]
    far = np.flatnonzero(place > N_BEFORE)
    lefts = np.concatenate([*near, far])
    rights = np.concatenate([*(members - back for back, members in enumerate(near, 1)), first[far]])
    by_place = np.argsort(lefts, kind="stable")  # neighbours one after the other, so that shingles are still cached
    return order[lefts[by_place]], order[rights[by_place]]


def _agreement(signatures: NDArray[np.uint16], lefts: Indices, rights: Indices) -> NDArray[np.float32]:
    """The fraction of equal hash values of the two texts of each pair."""
    agreement = np.empty(len(lefts), np.float32)
    for start in range(0, len(lefts), 1 << 16):
        part = slice(start, start + (1 << 16))
        agreement[part] = (signatures[lefts[part]] == signatures[rights[part]]).mean(axis=1)
    return agreement
