"""The program `lasttoken`: its commands, and how errors become messages and exit codes.

exit 0    success
exit 1    failure: disk, network, or an internal error (its traceback is in a log file)
exit 2    a user error: one sentence, no traceback
exit 130  Ctrl-C, before there was anything to keep
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer
from rich.text import Text

from lasttoken.cli.ask import ask
from lasttoken.cli.audit import audit
from lasttoken.cli.cache import cache
from lasttoken.cli.compare import compare
from lasttoken.cli.crashlog import write_crash_log
from lasttoken.cli.demo import demo
from lasttoken.cli.evaluate import evaluate
from lasttoken.cli.explain import explain
from lasttoken.cli.export import export
from lasttoken.cli.fetch import fetch
from lasttoken.cli.flags import Program, TextCommand
from lasttoken.cli.generate import generate
from lasttoken.cli.import_ import import_
from lasttoken.cli.info import info
from lasttoken.cli.learning_curve import learning_curve
from lasttoken.cli.predict import predict
from lasttoken.cli.push import push
from lasttoken.cli.search import search
from lasttoken.cli.serve import serve
from lasttoken.cli.split import split
from lasttoken.cli.study import study
from lasttoken.cli.suspects import suspects
from lasttoken.cli.train import train
from lasttoken.cli.verify import verify
from lasttoken.core.errors import LastTokenError, SettingsError, short_repr
from lasttoken.core.progress import SafeConsole, printable
from lasttoken.core.ranks import check_command, is_silent
from lasttoken.core.storage import CACHE_VARIABLE

app = Program(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Turn a pretrained GPT into a text classifier you can trust, in about a minute on a laptop.",
    epilog=f"{CACHE_VARIABLE} names the folder for features, downloads and error logs; lasttoken cache shows it.",
)
COMMANDS = (
    demo, fetch, split, train, search, audit, predict, evaluate, info, generate, ask, explain, suspects, compare,
    study, learning_curve, serve, export, push, import_, verify, cache,
)  # fmt: skip  # in the order of the help
TAKE_TEXTS = (predict, generate, explain)  # as arguments, which may begin with a dash
for command in COMMANDS:
    app.command(command.__name__.rstrip("_").replace("_", "-"), cls=TextCommand if command in TAKE_TEXTS else None)(
        command
    )

# The parent class of BadParameter, raised for unknown flags and commands too; typer exports only its children.
UsageError = typer.BadParameter.__mro__[1]
NUMBERS = {"int": "a whole number", "float": "a number"}  # by the first word of pydantic's error types
COMPLETION = "_LASTTOKEN_COMPLETE"  # set by the shell's completion script
LAST_STREAM = 2  # file descriptor of stderr
QUIET_LIBRARIES = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}
# How often a waiting thread of torch polls before it sleeps. By default it spins for milliseconds at each barrier,
# which makes a training step many times slower when another program is running (benchmarks/2026-11-26-busy.md).
SPIN_COUNT = "1000"


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"lasttoken {version('lasttoken')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Flags before the command."""


def main() -> None:
    """Run the command line and exit."""
    try:
        _settle_streams()
        _silence_libraries()
        _shorten_waits()
        _run()
        sys.stdout.flush()
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except LastTokenError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        _leave_stdout()  # the reader of the output has closed the pipe, which is not an error
    except Exception as error:
        if isinstance(error, UsageError):
            _reject_usage(error)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _leave_stdout()
            _fail(f"the disk is full: {error}; free some space and run again", 1)
        if isinstance(error, OSError) and error.errno == errno.EIO:
            _leave_stdout()
            _fail(f"input/output error: {error}; check the disk, or use another one, and run again", 1)
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            _fail(f"the file name {short_repr(str(error.filename))} is too long; use a shorter one", 1)
        _fail(_describe_bug(error), 1)


def _settle_streams() -> None:
    """Make stdin, stdout and stderr usable.

    Python has None for a stream that the shell has closed. Its file descriptor would go to the next file that is
    opened, and what a library prints would end up in that file.

    Raises:
        SettingsError: stdout is closed.
    """
    with contextlib.suppress(OSError):
        while (opened := os.open(os.devnull, os.O_RDWR)) <= LAST_STREAM:
            pass
        os.close(opened)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open as long as the program
    if sys.stdout is None:
        raise SettingsError("stdout is closed, so there is nowhere to print to; send it to a file or to /dev/null")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a character that the terminal cannot show is not an error
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")  # files and pipes get UTF-8 in every locale


def _silence_libraries() -> None:
    """Turn the telemetry of libraries off, before any of them is imported."""
    for name, value in QUIET_LIBRARIES.items():
        os.environ.setdefault(name, value)


def _shorten_waits() -> None:
    """Set GOMP_SPINCOUNT, which torch's thread library reads when it is loaded, unless the user has set it."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def _run() -> None:
    """Run the command. `app()` is not used, because it handles Ctrl-C and a broken pipe without a message."""
    command = typer.main.get_command(app)
    if COMPLETION in os.environ:
        command.main(prog_name="lasttoken")  # the shell asks for completions
    with command.make_context("lasttoken", sys.argv[1:]) as context:
        check_command(next((word for word in sys.argv[1:] if not word.startswith("-")), None))
        context.command.invoke(context)


def _reject_usage(error: Any) -> NoReturn:
    """Report an unknown flag, value or command; without any argument, show the help."""
    if not sys.argv[1:]:
        error.show()
        sys.exit(error.exit_code)
    command = error.ctx.command_path if error.ctx else "lasttoken"
    sentence, advice = _usage_in_words(error), f"see {command} --help"
    if isinstance(getattr(error.ctx, "command", None), TextCommand) and getattr(error, "option_name", None):
        advice = f"if it is a text, put -- before it; {advice}"
    is_question = sentence.endswith("?")
    advice = f" {advice[0].upper()}{advice[1:]}" if is_question else f"; {advice}"
    _fail(sentence + advice, error.exit_code)


def _usage_in_words(error: Any) -> str:
    """What is wrong with the arguments: an unknown flag or command, a value that is not a number, or anything else."""
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    if getattr(error, "option_name", None) and hasattr(error, "possibilities"):
        return f"there is no option {error.option_name}{_closest(error.option_name, error.possibilities or ())}"
    if unknown := re.match(r"No such command '(.*?)'", message, re.DOTALL):
        commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
        return f"there is no command {short_repr(unknown[1])}{_closest(unknown[1], commands)}"
    faults = error.__cause__.errors() if hasattr(error.__cause__, "errors") else []
    kind = str(faults[0]["type"]).partition("_")[0] if faults else ""
    if kind in NUMBERS and getattr(error, "param", None):
        return f"{error.param.opts[0]} is {short_repr(faults[0]['input'])}; it must be {NUMBERS[kind]}"
    return f"{message[:1].lower()}{message[1:]}"


def _closest(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _leave_stdout() -> None:
    """Discard everything written to stdout from now on, also what is still buffered, which would fail again at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(sentence: str, code: int) -> NoReturn:
    if is_silent():
        sys.exit(0)  # rank 0 has the same error and reports it; torchrun would end it if this process failed first
    line = " ".join(sentence.splitlines())
    console = SafeConsole(stderr=True)
    with contextlib.suppress(OSError):  # stderr is closed too; the exit code remains
        console.print(Text.assemble(("error:", "bold red"), f" {printable(line)}"), soft_wrap=True)
    sys.exit(code)


def _describe_bug(error: Exception) -> str:
    try:
        where = f"the traceback is in {write_crash_log(error, sys.argv[1:], _names())}"
    except (LastTokenError, OSError):
        where = "its traceback could not be written to a log file"
    return f"internal error, {type(error).__name__}: {error}; {where}; please report it"


def _names() -> set[str]:
    """The names of all commands and flags."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    flags = {
        flag for command in commands.values() for item in command.params for flag in (*item.opts, *item.secondary_opts)
    }
    return {*commands, *(flag for flag in flags if flag.startswith("-"))}
