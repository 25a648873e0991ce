"""The settings of a run from all places that can name one: flags, a --config file, and the run that is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lasttoken.classifier.run_dir import RunDir, read_settings
from lasttoken.core.config import Settings
from lasttoken.core.errors import RunError, SettingsError
from lasttoken.core.resolve import resolve_layers


def run_settings(
    flags: Mapping[str, Any], config: Mapping[str, Any] | None = None, *, resumed: Path | None = None
) -> Settings:
    """The settings of a run; flags win over --config, which wins over the settings of the run that is resumed.

    Raises:
        SettingsError: an unknown setting, or an invalid value.
        RunError: the run.toml in `resumed` cannot be read, or holds a setting that this version does not know.
    """
    has_record = resumed is not None and (resumed / "run.toml").is_file()
    recorded = recorded_settings(RunDir(resumed)) if resumed is not None and has_record else {}
    return resolve_layers(recorded, config or {}, flags)


def recorded_settings(run_dir: RunDir) -> dict[str, Any]:
    """The settings in a run's run.toml, checked.

    Raises:
        RunError: not readable, or a setting or value that this version does not know.
    """
    recorded = read_settings(run_dir)
    try:
        resolve_layers(recorded)
    except SettingsError as error:
        raise RunError(f"{run_dir.path / 'run.toml'} was changed, or written by another version: {error}") from error
    return recorded
