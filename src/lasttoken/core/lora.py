"""The settings of LoRA: their words, what they imply, and which values contradict each other.

    --train-blocks lora ◄── implied by ── --lora-rank 8 --lora-alpha 16 --lora-blocks 4 --lora-matrices q,v

The mathematics is in backbone/low_rank.py, and what is trained in classifier/lora.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lasttoken.core.errors import SettingsError, nearest

LORA = "lora"  # of --train-blocks
ALL_LINEAR = "all-linear"
WORDS = ("q", "k", "v", "qkv", "o", "gate", "up", "down")  # for the matrices of a block; a family has some of them
SCALES = ("alpha/rank", "alpha")
DEFAULT_RANK = 8
LARGEST_ALPHA = 1_000_000  # a larger one makes weights infinite in float32
ALPHA_PER_RANK = 2  # of alpha where none is given, so that the scale alpha/rank does not depend on the rank
UNSET: dict[str, Any] = {  # the settings that mean LoRA where they have another value
    "lora_rank": None,
    "lora_alpha": None,
    "lora_blocks": "auto",
    "lora_matrices": ALL_LINEAR,
    "lora_scale": SCALES[0],
    "keep_adapter": False,
}


def implied_by_lora(given: Mapping[str, Any]) -> dict[str, Any]:
    """What settings of LoRA imply, if what is trained was not given.

    >>> implied_by_lora({"lora_rank": 4}), implied_by_lora({"lora_rank": 4, "train_blocks": "2"})
    ({'train_blocks': 'lora'}, {})
    """
    return {"train_blocks": LORA} if set_names(given) and "train_blocks" not in given else {}


def set_names(given: Mapping[str, Any]) -> list[str]:
    """The settings of LoRA that were given other values than their defaults."""
    return [name for name, unset in UNSET.items() if given.get(name, unset) not in (None, unset)]


def words_of(matrices: str) -> tuple[str, ...]:
    """The words of `--lora-matrices`; none: all-linear.

    >>> words_of("q, v"), words_of("all-linear")
    (('q', 'v'), ())

    Raises:
        SettingsError: an unknown word, or one that is repeated.
    """
    if matrices.strip() == ALL_LINEAR:
        return ()
    words = tuple(word.strip() for word in matrices.split(","))
    for word in words:
        if word not in WORDS:
            raise SettingsError(
                f"--lora-matrices is {matrices!r}, and {word!r} is not a matrix of a block; use {ALL_LINEAR}, or some "
                f"of {','.join(WORDS)}{nearest(word, (*WORDS, ALL_LINEAR))}"
            )
        if words.count(word) > 1:
            raise SettingsError(f"--lora-matrices is {matrices!r}, which names {word!r} twice; name each matrix once")
    return words


def check_lora(settings: Mapping[str, Any]) -> None:
    """Reject settings of LoRA that are invalid, or that contradict other settings.

    Raises:
        SettingsError: names the flags and their values.
    """
    method, blocks, names = settings["method"], settings["train_blocks"], set_names(settings)
    words_of(settings["lora_matrices"])
    lora_blocks = settings["lora_blocks"]
    if lora_blocks not in ("auto", "all") and not (lora_blocks.isdecimal() and int(lora_blocks) > 0):
        raise SettingsError(f"--lora-blocks is {lora_blocks!r}; use a number of blocks such as 4, all, or auto")
    flags = " and ".join(f"--{name.replace('_', '-')}" for name in names[:2])
    asks = f"{flags} ask{'s' if len(names) == 1 else ''} for LoRA"
    if method == "linear" and (names or blocks == LORA):
        raise SettingsError(
            f"--method linear trains the head only, and {asks if names else '--train-blocks lora asks for LoRA'}; "
            "leave one of them out, or use --method tail"
        )
    if names and blocks != LORA:
        raise SettingsError(
            f"--train-blocks is {blocks}, and {asks}; leave one of them out, or use --train-blocks lora"
        )
    if blocks == LORA and lora_blocks == "all" and settings["precision"] == "int8":
        raise SettingsError(
            "--precision int8 is for the frozen blocks, and --lora-blocks all leaves none; use fewer blocks"
        )
