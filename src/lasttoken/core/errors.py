"""Every error the project raises on purpose.

LastTokenError
├── UserError            the user's mistake, exit code 2; also a ValueError
│   ├── DataError        a file, or a table of examples, that cannot be used
│   ├── SettingsError    a flag, a --config file or an argument that cannot be used
│   ├── BackboneError    a backbone, tokenizer or checkpoint that cannot be loaded
│   └── RunError         a run directory that is not what the command needs
└── FailedError          it failed: not the user's mistake, exit code 1
    ├── StorageError     no permission, disk full
    ├── NetworkError     unreachable, too slow, or what arrived is not what was published
    ├── DeviceError      a device that computes nonsense
    └── DivergedError    a loss that is not finite

The message of each is one sentence: what was found, where, and what to do. The command line prints it
and exits; Python code catches the class it cares about.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LastTokenError(Exception):
    """The root of the tree above."""

    exit_code = 1


class UserError(LastTokenError, ValueError):
    """The user's mistake: one sentence that says what to change. A ValueError too, as scikit-learn's tools expect."""

    exit_code = 2


class DataError(UserError):
    """A file, or a table of examples, that cannot be used."""


class SettingsError(UserError):
    """A flag, a --config file or an argument that cannot be used."""


class BackboneError(UserError):
    """A backbone, tokenizer or checkpoint that cannot be loaded."""


class RunError(UserError):
    """A run directory that is not what the command needs."""


class FailedError(LastTokenError):
    """It failed, and not by the user's mistake."""


class StorageError(FailedError):
    """No permission to write, or a full disk."""


class NetworkError(FailedError):
    """Unreachable, too slow, or what arrived is not what was published."""


class DeviceError(FailedError):
    """A device that computes something else than the CPU does."""


class DivergedError(FailedError):
    """A loss that is not finite."""


LONGEST_SHOWN = 80  # characters of a value in a sentence


def shown(value: object) -> str:
    """A value as an error message shows it, however long it is.

    >>> shown("spam"), len(shown("x" * 10**6))
    ("'spam'", 81)
    """
    text = repr(value if not isinstance(value, str) else value[:LONGEST_SHOWN])
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def one_of(words: Iterable[str]) -> str:
    """Words as an error message lists them.

    >>> one_of(["ham", "spam"])
    "'ham', 'spam'"
    """
    known = list(words)
    rest = len(known) - 12
    text = ", ".join(map(shown, known[:12]))
    return f"{text} and {rest} more" if rest > 0 else text


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names what the user may have meant, or nothing.

    >>> nearest("gpt2-smal", ["gpt2", "gpt2-small", "pocket"])
    "; did you mean 'gpt2-small', 'gpt2'?"
    >>> nearest("xyz", ["pocket"])
    ''
    """
    close = get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"; did you mean {one_of(close)}?" if close else ""
