"""How it starts: quick, quiet, and without what it does not need yet. In processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lasttoken

HEAVY = (
    "numpy",
    "torch",
    "sklearn",
    "matplotlib",
    "pyarrow",
    "requests",
    "huggingface_hub",
    "safetensors",
    "tokenizers",
    "pandas",
    "optuna",
)
MAIN = "from lasttoken.cli.main import main; main()"


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run Python code; `environment` is added to this process's."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, check=False, env={**os.environ, **environment}
    )


def imported_by(code: str) -> set[str]:
    """The heavy packages in sys.modules after the code, which may end with SystemExit."""
    probe = (
        f"import json, sys\ntry:\n    exec({code!r})\nexcept SystemExit:\n    pass\n"
        f"print('\\n' + json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = python(probe)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["predict", "--help"], ["--version"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    assert imported_by(f"import sys; sys.argv[1:] = {arguments!r}; {MAIN}") == set()


def test_import_lasttoken_imports_nothing_heavy_and_does_nothing() -> None:
    assert imported_by("import lasttoken; dir(lasttoken)") == set()
    done = python("import lasttoken")
    assert (done.stdout, done.stderr) == (b"", b"")


def test_the_public_names_are_what_they_say() -> None:
    assert lasttoken.__all__ == ["LastTokenError", "Prediction", "TextClassifier"]
    assert dir(lasttoken) == lasttoken.__all__
    for name in lasttoken.__all__:
        assert getattr(lasttoken, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Classifier'"):
        _ = lasttoken.Classifier


def test_help_names_every_command_and_exits_with_0() -> None:
    done = python(MAIN, "--help")
    assert done.returncode == 0
    assert done.stderr == b""
    commands = [
        line.split()[0] for line in done.stdout.decode().split("Commands:")[1].split("\n\n")[0].splitlines()[1:]
    ]
    assert commands == [
        "demo",
        "fetch",
        "split",
        "train",
        "search",
        "audit",
        "predict",
        "evaluate",
        "info",
        "generate",
        "ask",
        "explain",
        "suspects",
        "compare",
        "study",
        "learning-curve",
        "serve",
        "export",
        "push",
        "import",
        "verify",
        "cache",
    ]


def test_no_arguments_is_a_usage_error_that_shows_the_help() -> None:
    done = python(MAIN)
    assert done.returncode == 2
    assert b"Commands:" in done.stdout + done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.slow
def test_output_that_is_not_for_a_terminal_has_no_escape_codes(run_dir: Path, data: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    command = ["train", str(data), "--config", str(run_dir / "run.toml"), "--epochs", "1", "--out", out]
    done = python(MAIN, *command, NO_COLOR="1", TERM="xterm-256color")
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"\r" not in done.stdout + done.stderr, "no progress bar"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_no_color_is_respected_on_a_terminal(run_dir: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm-256color"}
    command = [sys.executable, "-c", MAIN, "evaluate", str(run_dir), str(run_dir / "splits/test.csv")]
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment) as process:
        assert process.wait(120) == 0
        os.close(follower)
        shown = os.read(leader, 100_000)
    os.close(leader)
    assert b"accuracy" in shown
    assert b"\x1b[3" not in shown, "colours are SGR codes 30 to 37 and 38"


def test_a_character_that_the_terminal_cannot_show_is_replaced(run_dir: Path) -> None:
    done = python(MAIN, "predict", str(run_dir), "héllo 🎉", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "héllo 🎉".encode() in done.stdout, "what is not for a terminal is UTF-8"
    done = python(MAIN, "predict", str(run_dir), "héllo 🎉", "--json", PYTHONIOENCODING="cp1252")
    assert json.loads(done.stdout.decode("utf-8"))["text"] == "héllo 🎉"


def test_the_program_is_named_as_the_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lasttoken.cli.demo import _program

    program = tmp_path / ".venv" / "bin" / "lasttoken"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(Path(".venv/bin/lasttoken"))])
    monkeypatch.setenv("PATH", "/usr/bin")
    assert _program() == str(Path(".venv/bin/lasttoken"))
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert _program() == str(Path(".venv/bin/lasttoken"))
    monkeypatch.setenv("PATH", str(program.parent))
    assert _program() == "lasttoken"


def test_the_installation_says_what_it_does_before_it_is_silent() -> None:
    makefile = (Path(__file__).resolve().parents[2] / "Makefile").read_text("utf-8")
    recipe = makefile.split(".venv/installed:")[1].split("\n\n")[0]
    said, installed = recipe.index("@echo"), recipe.index("--editable")
    assert said < installed
    assert "GB" in recipe[said:installed]
    assert "minutes" in recipe[said:installed]
    assert "$(PIP_SHOWN)" in recipe[:installed], "pip shows its progress"


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
    ids=["default", "own count", "own policy"],
)
def test_threads_that_wait_soon_sleep(chosen: dict[str, str], expected: str | None) -> None:
    """The setting has to be there before torch is loaded; a user's own choice wins."""
    code = (
        "import os, sys; sys.argv = ['lasttoken', '--version']; from lasttoken.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    )
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    found = subprocess.run([sys.executable, "-c", code], env=kept | chosen, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == f"{expected} False"
