"""The options of a server: invalid values, origins, host names and the token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lasttoken.core.errors import SettingsError
from lasttoken.serving.limits import LOOPBACK, Limits
from lasttoken.serving.options import ServerOptions, check_installed, parse_origin, read_token

TOKEN = "a-token-of-more-than-sixteen-signs"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"max_queue": 0}, "--max-queue is 0"),
        ({"batch_tokens": 0}, "--batch-tokens is 0"),
        ({"port": 65536}, "--port is 65536"),
        ({"limits": Limits(texts=0)}, "--max-texts is 0"),
        ({"limits": Limits(deadline_s=float("inf"))}, "--deadline is inf"),
        ({"limits": Limits(deadline_s=0.0)}, "--deadline is 0.0"),
        ({"allow_origins": ("example.org",)}, "--allow-origin is 'example.org'"),
    ],
)
def test_invalid_options_are_rejected_by_flag_and_value(changes: dict[str, Any], named: str) -> None:
    ServerOptions().check()
    with pytest.raises(SettingsError, match=named):
        ServerOptions(**changes).check()


def test_host_names_are_checked_unless_the_server_is_open_to_the_network() -> None:
    assert ServerOptions().host_names == list(LOOPBACK)
    assert ServerOptions(host="0.0.0.0").host_names is None
    assert ServerOptions(host="0.0.0.0", allow_hosts=("gpu",)).host_names == [*LOOPBACK, "gpu"]
    assert ServerOptions(host="::1").is_local


@pytest.mark.parametrize(
    "url", ["example.org", "https://example.org/a", "https://u@example.org", "ftp://a", "http://a:b"]
)
def test_what_is_not_an_origin_is_rejected(url: str) -> None:
    with pytest.raises(SettingsError, match="--allow-origin"):
        parse_origin(url)


def test_origins_are_normalized_as_browsers_send_them() -> None:
    assert parse_origin("http://[::1]:80") == "http://[::1]"
    assert parse_origin("https://EXAMPLE.org:8443") == "https://example.org:8443"


def test_a_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LASTTOKEN_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("LASTTOKEN_TOKEN", TOKEN)
    assert read_token(None) == TOKEN
    (tmp_path / "token").write_text(f"{TOKEN[::-1]}\n", "utf-8")
    assert read_token(tmp_path / "token") == TOKEN[::-1], "the file wins"


@pytest.mark.parametrize("content", ["", "short", "with a space in its middle", "schlüssel-der-lang-genug-ist"])
def test_an_unsafe_token_is_rejected(content: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(content, "utf-8")
    with pytest.raises(SettingsError, match="--token-file"):
        read_token(tmp_path / "token")
    with pytest.raises(SettingsError, match="none"):
        read_token(tmp_path / "none")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setattr("lasttoken.serving.options.NEEDED", ("no_such_package",))
    with pytest.raises(SettingsError, match=r"no_such_package.*\[serve\]"):
        check_installed()
