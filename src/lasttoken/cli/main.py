"""The program `lasttoken`: its commands, and what becomes of errors.

exit 0    done
exit 1    failed: disk, network, or an error of ours (its traceback is in a log file)
exit 2    the user's mistake: one sentence, no traceback
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import traceback
from datetime import datetime
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from lasttoken.cli import audit, comparing, explaining, exporting, learning, serving, suspecting, training, using
from lasttoken.errors import LastTokenError
from lasttoken.storage import cache_dir, write_text

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Turn a pretrained GPT into a text classifier you can trust, in about a minute on a laptop.",
)
training.add_commands(app)
audit.add_commands(app)
using.add_commands(app)
explaining.add_commands(app)
suspecting.add_commands(app)
comparing.add_commands(app)
learning.add_commands(app)
serving.add_commands(app)
exporting.add_commands(app)

# The parent of BadParameter, raised for an unknown flag or command too; typer exports its children only.
UsageError = typer.BadParameter.__mro__[1]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"lasttoken {version('lasttoken')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """What stands before the command."""


def main() -> None:
    """Run the command line and exit."""
    try:
        _run()
        sys.stdout.flush()
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except LastTokenError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted; nothing was left half-written", 130)
    except BrokenPipeError:
        _leave_stdout()  # whoever read our output has gone; that is their right
    except Exception as error:
        if isinstance(error, UsageError):
            _refuse_usage(error)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _leave_stdout()
            _fail(f"the disk is full: {error}; free some space and run again", 1)
        _fail(_describe_bug(error), 1)


def _run() -> None:
    """Run the command. Not by `app()`, which answers Ctrl-C and a broken pipe itself, and says nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without a character is no reason to fail
    with typer.main.get_command(app).make_context("lasttoken", sys.argv[1:]) as context:
        context.command.invoke(context)


def _refuse_usage(error: Any) -> NoReturn:
    """A flag, a value or a command that is not known; without any argument at all, the help."""
    sentence = error.format_message().replace("Value error, ", "").rstrip(".")
    if not sys.argv[1:]:
        error.show()
        sys.exit(error.exit_code)
    command = error.ctx.command_path if error.ctx else "lasttoken"
    _fail(f"{sentence[:1].lower()}{sentence[1:]}; see {command} --help", error.exit_code)


def _leave_stdout() -> None:
    """Write nothing more to stdout, not even what is still buffered, which would fail again at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(sentence: str, code: int) -> NoReturn:
    line = " ".join(f"error: {sentence}".splitlines())
    Console(stderr=True).print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
    sys.exit(code)


def _describe_bug(error: Exception) -> str:
    log = cache_dir() / "logs" / f"error-{datetime.now():%Y%m%d-%H%M%S}.log"
    try:
        write_text(log, f"{' '.join(sys.argv)}\n\n{traceback.format_exc()}")
        where = f"the traceback is in {log}"
    except (LastTokenError, OSError):
        where = "its traceback could not be written to a log file"
    return f"an error of ours, {type(error).__name__}: {error}; {where}, please report it"
