"""The log of an internal error: where it happened, without any of the user's data.

It contains the command and the names of its flags, versions, and the stack: exception types, files, lines, functions.
It contains no value of a flag, no text, no local variable, and no exception message, which may quote any of these.
"""

from __future__ import annotations

import errno
import os
import platform
import sys
import traceback
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from lasttoken.core.storage import cache_dir, make_dir


def write_crash_log(error: BaseException, arguments: Sequence[str], names: Collection[str]) -> Path:
    """Write the log, readable by the user only, and return its path.

    Args:
        arguments: the command line without the program.
        names: the commands and flags of the program; other words of the command line are not written.

    Raises:
        StorageError, OSError: it cannot be written.
    """
    folder = make_dir(cache_dir() / "logs", mode=0o700)
    log = folder / f"error-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
    content = "\n".join(_lines(error, arguments, names)) + "\n"
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
    return log


def _lines(error: BaseException, arguments: Sequence[str], names: Collection[str]) -> Iterator[str]:
    known = [word.partition("=")[0] for word in arguments]
    yield " ".join(["lasttoken", *(word for word in known if word in names)])
    yield f"lasttoken {version('lasttoken')}, Python {platform.python_version()}, {sys.platform}"
    for cause in reversed(list(_chain(error))):
        yield ""
        yield from "".join(traceback.format_tb(cause.__traceback__)).splitlines()
        yield _kind(cause)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, then its causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _kind(error: BaseException) -> str:
    """The type of an exception, with the operating system's error code if it has one.

    >>> _kind(KeyError("a text of the user")), _kind(PermissionError(13, "denied", "/home/ada/letters.csv"))
    ('KeyError', 'PermissionError (EACCES)')
    """
    code = errno.errorcode.get(error.errno or 0) if isinstance(error, OSError) else None
    name = type(error).__qualname__
    module = type(error).__module__
    full = name if module == "builtins" else f"{module}.{name}"
    return f"{full} ({code})" if code else full
