"""The program `lasttoken`: its commands, and what becomes of errors.

exit 0    done
exit 1    failed: disk, network, or an error of ours (its traceback is in a log file)
exit 2    the user's mistake: one sentence, no traceback
"""

from __future__ import annotations

import sys
import traceback
from datetime import datetime
from importlib.metadata import version
from typing import Annotated

import typer
from rich.console import Console

from lasttoken.cli import training, using
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
using.add_commands(app)


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
        app()
    except LastTokenError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted; nothing was left half-written", 130)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; that is their right
        sys.exit(0)
    except Exception as error:
        _fail(_describe_bug(error), 1)


def _fail(sentence: str, code: int) -> None:
    Console(stderr=True).print(f"error: {sentence}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)


def _describe_bug(error: Exception) -> str:
    log = cache_dir() / "logs" / f"error-{datetime.now():%Y%m%d-%H%M%S}.log"
    try:
        write_text(log, f"{' '.join(sys.argv)}\n\n{traceback.format_exc()}")
        where = f"the traceback is in {log}"
    except (LastTokenError, OSError):
        where = "its traceback could not be written to a log file"
    return f"an error of ours, {type(error).__name__}: {error}; {where}, please report it"
