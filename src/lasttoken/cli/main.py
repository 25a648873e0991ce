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
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer
from rich.text import Text

from lasttoken.cli import audit, cache, compare, explain, export, learning_curve, predict, serve, suspects, train
from lasttoken.cli.crashlog import write_crash_log
from lasttoken.cli.flags import Program, TextCommand
from lasttoken.core.errors import LastTokenError, SettingsError
from lasttoken.core.progress import SafeConsole, printable
from lasttoken.core.storage import CACHE_VARIABLE

app = Program(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Turn a pretrained GPT into a text classifier you can trust, in about a minute on a laptop.",
    epilog=f"{CACHE_VARIABLE} names the folder for features, downloads and error logs; lasttoken cache shows it.",
)
train.add_commands(app)
audit.add_commands(app)
predict.add_commands(app)
explain.add_commands(app)
suspects.add_commands(app)
compare.add_commands(app)
learning_curve.add_commands(app)
serve.add_commands(app)
export.add_commands(app)
cache.add_commands(app)

# The parent of BadParameter, raised for an unknown flag or command too; typer exports its children only.
UsageError = typer.BadParameter.__mro__[1]
COMPLETION = "_LASTTOKEN_COMPLETE"  # set by the shell's completion script
LAST_STREAM = 2  # stderr's number
QUIET_LIBRARIES = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}
# How often a thread of torch's looks for its partners before it sleeps. By default it spins for milliseconds at each
# barrier, which beside another program makes a step of training many times slower (benchmarks/2026-11-26-busy.md).
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
    """What stands before the command."""


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
        _fail("interrupted; nothing was left half-written", 130)
    except BrokenPipeError:
        _leave_stdout()  # whoever read our output has gone; that is their right
    except Exception as error:
        if isinstance(error, UsageError):
            _refuse_usage(error)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _leave_stdout()
            _fail(f"the disk is full: {error}; free some space and run again", 1)
        if isinstance(error, OSError) and error.errno == errno.EIO:
            _leave_stdout()
            _fail(f"a disk failed: {error}; check it, or use another, and run again", 1)
        _fail(_describe_bug(error), 1)


def _settle_streams() -> None:
    """Make stdin, stdout and stderr usable, or say that they are not.

    Python has None for a stream that the shell has closed; its number would go to the next file that is opened, and
    what a library prints would end up in that file.

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
            stream.reconfigure(errors="backslashreplace")  # a terminal without a character is no reason to fail
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")  # what files and other programs get does not depend on the locale


def _silence_libraries() -> None:
    """No library that a command loads may report its use to its makers. Said before any of them is imported."""
    for name, value in QUIET_LIBRARIES.items():
        os.environ.setdefault(name, value)


def _shorten_waits() -> None:
    """Set GOMP_SPINCOUNT, which torch's thread library reads when it is loaded; a user's own choice stays."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def _run() -> None:
    """Run the command. Not by `app()`, which answers Ctrl-C and a broken pipe itself, and says nothing."""
    command = typer.main.get_command(app)
    if COMPLETION in os.environ:
        command.main(prog_name="lasttoken")  # the shell asks what could come next
    with command.make_context("lasttoken", sys.argv[1:]) as context:
        context.command.invoke(context)


def _refuse_usage(error: Any) -> NoReturn:
    """A flag, a value or a command that is not known; without any argument at all, the help."""
    sentence = error.format_message().replace("Value error, ", "").rstrip(".")
    if not sys.argv[1:]:
        error.show()
        sys.exit(error.exit_code)
    command = error.ctx.command_path if error.ctx else "lasttoken"
    if isinstance(getattr(error.ctx, "command", None), TextCommand) and getattr(error, "option_name", None):
        sentence += "; if it is a text, put -- before it"
    _fail(f"{sentence[:1].lower()}{sentence[1:]}; see {command} --help", error.exit_code)


def _leave_stdout() -> None:
    """Write nothing more to stdout, not even what is still buffered, which would fail again at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(sentence: str, code: int) -> NoReturn:
    line = " ".join(sentence.splitlines())
    console = SafeConsole(stderr=True)
    with contextlib.suppress(OSError):  # stderr is gone too; the exit code says it
        console.print(Text.assemble(("error:", "bold red"), f" {printable(line)}"), soft_wrap=True)
    sys.exit(code)


def _describe_bug(error: Exception) -> str:
    try:
        where = f"the traceback is in {write_crash_log(error, sys.argv[1:], _names())}"
    except (LastTokenError, OSError):
        where = "its traceback could not be written to a log file"
    return f"an error of ours, {type(error).__name__}: {error}; {where}, please report it"


def _names() -> set[str]:
    """Every command and flag of the program."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    flags = {
        flag for command in commands.values() for item in command.params for flag in (*item.opts, *item.secondary_opts)
    }
    return {*commands, *(flag for flag in flags if flag.startswith("-"))}
