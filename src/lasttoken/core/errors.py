"""Every error the project raises on purpose.

LastTokenError
├── UserError            an error that the user can correct, exit code 2; also a ValueError
│   ├── DataError        an invalid file or table of examples
│   ├── SettingsError    an invalid flag, --config file or argument
│   ├── BackboneError    a backbone, tokenizer or checkpoint that cannot be loaded
│   └── RunError         a run directory that is missing, unfinished, or in use
└── FailedError          a failure of the environment, exit code 1
    ├── StorageError     no permission, disk full
    ├── NetworkError     unreachable, too slow, or the download is not the published file
    ├── DeviceError      a device that computes wrong results
    ├── DivergedError    a loss that is not finite
    └── RankError        a process of a training on several has ended, or cannot be reached

The message of each is one sentence: what was found, where, and what to do. The command line prints it
and exits; Python code catches the class it cares about.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LastTokenError(Exception):
    """The base class of all errors that this package raises on purpose."""

    exit_code = 1


class UserError(LastTokenError, ValueError):
    """An error that the user can correct; the message says how. Also a ValueError, as scikit-learn's tools expect."""

    exit_code = 2


class DataError(UserError):
    """An invalid file or table of examples."""


class SettingsError(UserError):
    """An invalid flag, --config file or argument."""


class BackboneError(UserError):
    """A backbone, tokenizer or checkpoint that cannot be loaded."""


class RunError(UserError):
    """A run directory that is missing, unfinished, or in use by another process."""


class FailedError(LastTokenError):
    """A failure that no change of the input or the settings would have prevented."""


class StorageError(FailedError):
    """A file could not be written: no permission, or a full disk."""


class NetworkError(FailedError):
    """A server is unreachable or too slow, or the download is not the published file."""


class DeviceError(FailedError):
    """A device whose results differ from the CPU's."""


class DivergedError(FailedError):
    """The loss of a training is not finite."""


class RankError(FailedError):
    """A process of a training on several processes has ended, or cannot be reached."""


MAX_CHARACTERS = 80  # of a value in a message


def short_repr(value: object) -> str:
    """A value for an error message, cut to `MAX_CHARACTERS`.

    >>> short_repr("spam"), len(short_repr("x" * 10**6))
    ("'spam'", 81)
    """
    text = repr(value if not isinstance(value, str) else value[:MAX_CHARACTERS])
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"


MAX_WORDS = 12


def one_of(words: Iterable[str]) -> str:
    """Words for an error message, quoted; the first `MAX_WORDS` of many.

    >>> one_of(["ham", "spam"])
    "'ham', 'spam'"
    """
    listed = list(words)
    n_more = len(listed) - MAX_WORDS
    text = ", ".join(map(short_repr, listed[:MAX_WORDS]))
    return f"{text} and {n_more} more" if n_more > 0 else text


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint with the words that are spelled most similarly, or an empty string.

    >>> nearest("gpt2-smal", ["gpt2", "gpt2-small", "olmo2-1b"])
    "; did you mean 'gpt2-small', 'gpt2'?"
    >>> nearest("xyz", ["gpt2"])
    ''
    """
    close = get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"; did you mean {one_of(close)}?" if close else ""
