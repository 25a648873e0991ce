"""Fetching by name from Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from lasttoken.core.errors import NetworkError, SettingsError
from lasttoken.core.progress import BAR_UNITS, Advance, Reporter
from lasttoken.runs import fetch as module
from lasttoken.runs.fetch import catalog, check_name, fetch


def test_names_of_both_catalogs_and_hub_ids_are_accepted() -> None:
    for name in (*catalog(), "owner/name"):
        check_name(name)
    with pytest.raises(SettingsError, match=r"'sms-span'.*'sms-spam'"):
        check_name("sms-span")


def test_offline_nothing_is_downloaded(own_cache: Path) -> None:
    with pytest.raises(NetworkError, match="sms-spam"):
        fetch("sms-spam", offline=True)


def test_a_download_moves_the_bar_to_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    units: list[int] = []

    class Bars(Reporter):
        def bar(self, what: str, total: int) -> object:  # type: ignore[override]
            from contextlib import nullcontext

            assert total == BAR_UNITS
            advance: Advance = lambda n, note: units.append(n)  # noqa: E731
            return nullcontext(advance)

    def download(name: str, *, offline: bool, progress: object) -> Path:
        for n_bytes in (10, 20, 5, 20):  # a retry starts over
            progress(n_bytes, 20)  # type: ignore[operator]
        return tmp_path

    monkeypatch.setattr(module, "fetch_dataset", download)
    assert fetch("sms-spam", reporter=Bars()) == tmp_path
    assert sum(units) == BAR_UNITS
