"""The terminal: control characters of user data are escaped, colours are for terminals only, streams may be closed."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from miniature import run_cli, write_messages

MAIN = "from lasttoken.cli.main import main; main()"
HOSTILE = "\x1b]0;owned\x07\x1b[2J"  # sets the window's title, clears the screen
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX file descriptors or a pseudo-terminal")


def on_terminal(*arguments: str, **environment: str) -> str:
    """What a command prints on a pseudo-terminal, as it is sent."""
    import pty

    leader, follower = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    command = [sys.executable, "-c", MAIN, *arguments]
    shown = b""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=follower, stderr=follower, env={**clean, "TERM": "xterm", **environment}
    ) as process:
        os.close(follower)
        assert process.stdin is not None
        process.stdin.close()
        while True:
            try:
                piece = os.read(leader, 100_000)
            except OSError:  # Linux says so when nobody holds the other end
                break
            if not piece:
                break
            shown += piece
    os.close(leader)
    return shown.decode("utf-8")


def unstyled(shown: str) -> str:
    """The text without the styles that rich adds: SGR codes, and the cursor's visibility."""
    return re.sub(r"\x1b\[[\d;]*m|\x1b\[\?25[lh]", "", shown).replace("\r\n", "\n")


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Path:
    """A run whose labels would clear the screen, and look like markup."""
    folder = tmp_path_factory.mktemp("hostile")
    labels = [f"{HOSTILE}spam", "[bold]ham[/bold]"]
    texts = [f"text number {number} of {('prizes', 'meetings')[number % 2]}" for number in range(40)]
    data = write_messages(folder / "data.csv", texts, [labels[number % 2] for number in range(40)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASTTOKEN_CACHE", str(folder / "cache"))
        answer = run_cli("train", data, "--backbone", backbone, "--out", folder / "run", "--epochs", 1)
    assert answer.code == 0, answer.err
    assert not CONTROLS.search(answer.out + answer.err)
    return folder / "run"


COMMANDS: dict[str, Callable[[Path, Path], list[object]]] = {
    "predict": lambda run, csv: ["predict", run, f"a {HOSTILE} text \u202egnp.exe"],
    "predict --json": lambda run, csv: ["predict", run, f"a {HOSTILE}\x9b2J text \u202egnp.exe", "--json"],
    "evaluate": lambda run, csv: ["evaluate", run, csv],
    "info": lambda run, csv: ["info", run],
    "explain": lambda run, csv: ["explain", run, f"a {HOSTILE} text"],
    "audit": lambda run, csv: ["audit", csv],
    "split": lambda run, csv: ["split", csv, "--out", run.parent / "splits", "--overwrite"],
    "suspects": lambda run, csv: [
        "suspects",
        csv,
        "--out",
        run.parent / "s.csv",
        "--overwrite",
        "--epochs",
        1,
        "--folds",
        2,
    ],
    "compare": lambda run, csv: ["compare", run, run],
    "train --only-baselines": lambda run, csv: ["train", csv, "--only-baselines"],
    "no such run": lambda run, csv: ["predict", run.parent / HOSTILE, "text"],
    "no such column": lambda run, csv: ["train", csv, "--text", HOSTILE],
    "no such flag": lambda run, csv: ["train", csv, f"--{HOSTILE}"],
    "no such label": lambda run, csv: ["explain", run, "text", "--label", HOSTILE],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_sends_control_characters_of_user_data(name: str, hostile_run: Path, backbone: Path) -> None:
    words = COMMANDS[name](hostile_run, hostile_run.parent / "data.csv")
    if name == "suspects":
        words += ["--backbone", backbone]
    answer = run_cli(*words)
    assert answer.out + answer.err
    assert not CONTROLS.search(answer.out + answer.err)


def test_brackets_in_user_data_are_not_markup(hostile_run: Path) -> None:
    answer = run_cli("audit", hostile_run.parent / "data.csv")
    assert "[bold]ham[/bold]" in answer.out
    assert "[red]" in run_cli("predict", hostile_run, "[red]text[/red] :smile:").out


def test_escaped_characters_of_json_come_back(hostile_run: Path) -> None:
    text = f"a {HOSTILE}\x9b \u202e text"
    assert json.loads(run_cli("predict", hostile_run, text, "--json").out)["text"] == text


@posix
def test_rows_of_a_file_are_escaped_on_a_terminal_and_kept_in_a_pipe(hostile_run: Path) -> None:
    data = hostile_run.parent / "data.csv"
    shown = on_terminal("predict", str(hostile_run), "--input", str(data))
    assert not CONTROLS.search(unstyled(shown))
    piped = run_cli("predict", hostile_run, "--input", data).out
    assert {row["label"] for row in csv.DictReader(io.StringIO(piped))} == {f"{HOSTILE}spam", "[bold]ham[/bold]"}


# ------------------------------------------------------------------------------------------------- colours, widths


@posix
@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
    ids=["terminal", "NO_COLOR", "dumb", "NO_COLOR empty"],
)
def test_tables_have_colours_on_a_terminal_that_wants_them(
    environment: dict[str, str], coloured: bool, data: Path
) -> None:
    shown = on_terminal("audit", str(data), **environment)
    assert (re.search(r"\x1b\[[\d;]*3\d", shown) is not None) == coloured
    assert "rows" in shown


# ------------------------------------------------------------------------------------------------- streams, folders


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of sh, in which `lasttoken` is the program."""
    program = f"lasttoken() {{ {sys.executable} -c '{MAIN}' \"$@\"; }}; "
    return subprocess.run(
        ["sh", "-c", program + line], capture_output=True, env={**os.environ, **environment}, timeout=120
    )


@posix
def test_a_closed_stdin_is_reported(run_dir: Path) -> None:
    done = shell(f"lasttoken predict {run_dir} --input - <&-")
    assert done.returncode == 2
    assert b"stdin" in done.stderr
    assert b"Traceback" not in done.stderr
    assert shell(f"lasttoken predict {run_dir} text <&-").returncode == 0


@posix
def test_a_closed_stdout_is_reported(run_dir: Path) -> None:
    done = shell(f"lasttoken predict {run_dir} text >&-")
    assert done.returncode == 2
    assert b"stdout" in done.stderr
    assert shell(f"lasttoken predict {run_dir} text 2>&-").returncode == 0


@posix
def test_a_reader_that_closes_the_pipe_is_not_an_error(run_dir: Path) -> None:
    done = shell(f"lasttoken predict {run_dir} --input {run_dir}/splits/train.csv | head -n 1")
    assert done.returncode == 0
    assert done.stderr.count(b"\n") <= 3
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


@posix
def test_no_home_and_a_folder_that_cannot_be_written(run_dir: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        line = f"unset LASTTOKEN_CACHE XDG_CACHE_HOME; cd {tmp_path}; lasttoken predict {run_dir} text"
        assert shell(line, HOME="/nowhere/at/all").returncode == 0
    finally:
        tmp_path.chmod(0o700)


def test_a_blank_text_is_reported_as_empty(run_dir: Path) -> None:
    for text in ("", "   ", "\t\n", "\u3000"):
        assert "empty" in run_cli("predict", run_dir, text).err, repr(text)
    assert "empty" not in run_cli("predict", run_dir, "a").err


# ------------------------------------------------------------------------------------------------- flags


def test_the_version_has_a_short_flag() -> None:
    assert run_cli("-V").out == run_cli("--version").out != ""


def test_shells_can_complete_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda *_: ("bash", "/bin/bash"))  # the tests may have no shell
    script = run_cli("--show-completion", "bash")
    answers = subprocess.run(
        [sys.executable, "-c", MAIN],
        capture_output=True,
        env={**os.environ, "_LASTTOKEN_COMPLETE": "complete_bash", "COMP_WORDS": "lasttoken pre", "COMP_CWORD": "1"},
    )
    assert "_LASTTOKEN_COMPLETE" in script.out
    assert b"predict" in answers.stdout
