"""What a server is started with: its address, who may use it, and its limits."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from lasttoken.core.errors import SettingsError
from lasttoken.serving.limits import LOOPBACK, Limits

TOKEN_VARIABLE = "LASTTOKEN_TOKEN"
MIN_TOKEN_CHARACTERS = 16
NEEDED = ("fastapi", "uvicorn", "httptools", "prometheus_client")  # packages of the extra [serve]


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """The options of a server; `check` rejects invalid ones."""

    host: str = "127.0.0.1"
    port: int = 8000  # 0: any free port
    token: str | None = None  # that clients must send; None: anyone may use the server
    allow_hosts: tuple[str, ...] = ()  # more names by which clients may call the server
    allow_origins: tuple[str, ...] = ()  # of web pages that may read answers; "*": every page
    max_queue: int = 2048  # texts that may wait
    batch_tokens: int | None = None  # tokens computed together; None: by the device
    device: str = "auto"
    precision: str = "auto"
    workers: int = 1  # processes that share the port
    limits: Limits = field(default_factory=Limits)

    def check(self) -> None:
        """Reject invalid options.

        Raises:
            SettingsError: names the flag of `lasttoken serve`, and the value.
        """
        counts = {"--max-queue": self.max_queue, "--max-texts": self.limits.texts}
        counts |= {"--max-characters": self.limits.characters, "--max-body": self.limits.body_bytes}
        counts |= {"--max-connections": self.limits.connections, "--workers": self.workers}
        counts |= {"--batch-tokens": self.batch_tokens} if self.batch_tokens is not None else {}
        for flag, value in counts.items():
            if value < 1:
                raise SettingsError(f"{flag} is {value}; it must be at least 1")
        if self.workers > 1 and sys.platform == "win32":
            raise SettingsError(f"--workers is {self.workers}; on Windows a server has one process, so leave it out")
        if not 0 <= self.port < 2**16:
            raise SettingsError(f"--port is {self.port}; it must be between 0 and 65535")
        if not 0 < self.limits.deadline_s < math.inf:
            raise SettingsError(f"--deadline is {self.limits.deadline_s}; it must be above 0 and finite")
        for url in self.allow_origins:
            parse_origin(url)

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach the server."""
        return self.host in [name.strip("[]") for name in LOOPBACK]

    @property
    def host_names(self) -> list[str] | None:
        """The names that a request's Host header may contain; None: any."""
        return [*LOOPBACK, *self.allow_hosts] if self.is_local or self.allow_hosts else None


def parse_origin(url: str) -> str:
    """An origin as browsers send it: scheme and host in lower case, and the port unless it is the scheme's default.

    >>> parse_origin("HTTPS://Example.org:443/"), parse_origin("http://example.org:8080"), parse_origin("*")
    ('https://example.org', 'http://example.org:8080', '*')

    Raises:
        SettingsError: not an origin.
    """
    if url == "*":
        return url
    try:
        parts = urlsplit(url)
        port, usual_port = parts.port, {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        usual_port = None
    if (
        usual_port is None
        or not parts.hostname
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
        or "@" in url
    ):
        raise SettingsError(f"--allow-origin is {url!r}; give scheme and host alone, such as https://example.org")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if port in (None, usual_port) else f":{port}")


def names_of(runs: Sequence[Path]) -> list[str]:
    """The names by which a server knows runs: those of their folders.

    Raises:
        SettingsError: two folders have the same name.
    """
    names = [run.resolve().name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(
                f"two of the runs are called {name!r}; a server distinguishes runs by their names, so rename one"
            )
    return names


def read_token(file: Path | None) -> str | None:
    """The token from a file, or from LASTTOKEN_TOKEN; None if neither is given.

    It cannot be given as a flag, because every user of the machine can read the flags of a process.

    Raises:
        SettingsError: a file that cannot be read, or a token that is too short to be safe.
    """
    try:
        token = file.read_text("utf-8").strip() if file else os.environ.get(TOKEN_VARIABLE, "").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--token-file {file} cannot be read ({error})") from error
    if not token and file is None:
        return None
    if len(token) < MIN_TOKEN_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        where = f"--token-file {file}" if file else TOKEN_VARIABLE
        raise SettingsError(
            f"{where} does not hold a token of at least {MIN_TOKEN_CHARACTERS} printable ASCII characters without "
            "spaces; make one with python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return token


def check_installed() -> None:
    """Check that the packages of the extra [serve] are there.

    Raises:
        SettingsError: names the first one that is missing.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"serve needs {missing[0]} from the extra [serve]; run pip install '.[serve]' in lasttoken's folder"
        )
