"""The listening socket: bound or rejected, and how its address is shown."""

from __future__ import annotations

import pytest

from lasttoken.core.errors import SettingsError
from lasttoken.serving.sockets import address_line, bind, start_listening


def test_an_address_is_bound_before_anyone_listens_and_shown_as_it_was_given() -> None:
    with bind("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        assert f"http://localhost:{port}/" in address_line("localhost", bound)
        with bind("127.0.0.1", port) as other:  # allowed while neither listens
            start_listening(bound, "127.0.0.1")
            with pytest.raises(SettingsError, match=f"port {port}"):
                start_listening(other, "127.0.0.1")
        with pytest.raises(SettingsError, match=f"port {port}"):
            bind("127.0.0.1", port)
    with pytest.raises(SettingsError, match="70000"):
        bind("127.0.0.1", 70_000)
