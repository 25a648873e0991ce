"""Listening: the address, the port that is chosen, and what is done before the first request."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn

from lasttoken.core.errors import SettingsError
from lasttoken.serving.limits import Limits
from lasttoken.serving.listen import listen, within_file_limit


@pytest.fixture
def watch_run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Replace uvicorn's loop by a function that is given the sockets."""

    def replace(watch: Callable[..., Any]) -> None:
        monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: watch(self, sockets))

    return replace


@pytest.fixture(autouse=True)
def unfreeze_afterwards() -> Any:
    yield
    gc.unfreeze()


def test_the_chosen_port_is_reported_and_listened_on(watch_run: Any) -> None:
    said: list[str] = []
    ports: list[int] = []

    def run(_: uvicorn.Server, sockets: list[socket.socket]) -> None:
        ports.append(sockets[0].getsockname()[1])
        sockets[0].listen(1)
        with socket.create_connection(("127.0.0.1", ports[0]), timeout=5):
            pass

    watch_run(run)
    listen(None, "127.0.0.1", 0, 1, said.append, notices=["serving spam"])
    assert ports[0] > 0
    assert said[0] == "serving spam"
    assert f"http://127.0.0.1:{ports[0]}/" in said[1]


def test_libraries_and_models_are_exempt_from_garbage_collection(watch_run: Any) -> None:
    gc.unfreeze()
    kept = [[] for _ in range(1000)]  # type: ignore[var-annotated]
    frozen: list[int] = []
    watch_run(lambda *_: frozen.append(gc.get_freeze_count()))
    listen(None, "127.0.0.1", 0, 1, lambda _: None)
    assert frozen[0] > len(kept)


def test_uvicorn_is_configured_with_the_limits_and_without_logs_or_headers_of_its_own(watch_run: Any) -> None:
    configs: list[uvicorn.Config] = []
    watch_run(lambda server, _: configs.append(server.config))
    listen("app", "127.0.0.1", 0, 17, lambda _: None, Limits(header_s=3, connections=5))
    (config,) = configs
    assert config.app == "app"
    assert config.timeout_graceful_shutdown == 17
    assert (config.access_log, config.server_header, config.date_header, config.ws) == (False, False, False, "none")
    assert config.http.limits == Limits(header_s=3, connections=5)  # type: ignore[union-attr]


def test_an_address_in_use_is_rejected_by_host_and_port(watch_run: Any) -> None:
    watch_run(lambda *_: pytest.fail("it must not run"))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        port = other.getsockname()[1]
        said: list[str] = []
        with pytest.raises(SettingsError, match=f"127.0.0.1 port {port}") as caught:
            listen(None, "127.0.0.1", port, 1, said.append, notices=["serving spam"])
        assert "Errno" not in str(caught.value)
        assert said == []
    with pytest.raises(SettingsError, match=r"256\.0\.0\.1"):
        listen(None, "256.0.0.1", 0, 1, lambda _: None)


def test_there_are_fewer_connections_than_files_may_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource", reason="needs a system with limits of open files")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    assert within_file_limit(Limits(connections=10_000)).connections < 256
    assert within_file_limit(Limits(connections=10)).connections == 10
