"""`lasttoken serve`: its flags become the options of a server; the rest is tested in tests/serving."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from miniature import run_cli

from lasttoken.cli.main import app
from lasttoken.serving.limits import Limits
from lasttoken.serving.options import ServerOptions


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Sequence[Path], ServerOptions]]:
    """The calls of `serve`, which is replaced."""
    calls: list[tuple[Sequence[Path], ServerOptions]] = []
    monkeypatch.setattr(
        "lasttoken.serving.service.serve", lambda runs, options, reporter: calls.append((runs, options))
    )
    monkeypatch.delenv("LASTTOKEN_TOKEN", raising=False)
    return calls


def test_without_flags_the_options_are_the_defaults(served: list[tuple[Sequence[Path], ServerOptions]]) -> None:
    assert run_cli("serve", "runs/spam").code == 0
    assert served == [([Path("runs/spam")], ServerOptions())]


def test_every_flag_reaches_the_options(
    served: list[tuple[Sequence[Path], ServerOptions]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASTTOKEN_TOKEN", "a-token-of-more-than-sixteen-signs")
    flags = "--host 0.0.0.0 --port 81 --allow-host a --allow-host b --allow-origin https://c.org --max-queue 3 "
    flags += "--max-texts 4 --max-characters 5 --max-body 6 --max-connections 7 --deadline 8 --batch-tokens 9 "
    flags += "--device cpu --precision float32"
    assert run_cli("serve", "r", *flags.split()).code == 0
    ((_, options),) = served
    assert options == ServerOptions(
        host="0.0.0.0",
        port=81,
        token="a-token-of-more-than-sixteen-signs",
        allow_hosts=("a", "b"),
        allow_origins=("https://c.org",),
        max_queue=3,
        batch_tokens=9,
        device="cpu",
        precision="float32",
        limits=Limits(texts=4, characters=5, body_bytes=6, connections=7, deadline_s=8.0),
    )


def test_the_defaults_of_the_flags_are_those_of_the_options() -> None:
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    defaults = {parameter.name: parameter.default for parameter in command.params}
    options = ServerOptions()
    assert (defaults["host"], defaults["port"], defaults["max_queue"]) == (
        options.host,
        options.port,
        options.max_queue,
    )
    assert defaults["max_body"] == options.limits.body_bytes
    assert defaults["max_texts"] == options.limits.texts
    assert defaults["max_characters"] == options.limits.characters
    assert defaults["max_connections"] == options.limits.connections
    assert defaults["deadline"] == options.limits.deadline_s
