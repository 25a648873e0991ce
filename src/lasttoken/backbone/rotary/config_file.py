"""Values of a config.json, checked as they are read, so that an error names the field and what was found in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lasttoken.core.errors import BackboneError, one_of, short_repr

MAX_SIZE = 2**31 - 1


class ConfigFile:
    """The content of a config.json, or of an object in it. A field that is null counts as absent."""

    def __init__(self, content: Mapping[str, Any], path: Path, inside: str = "") -> None:
        self.content, self.path, self.inside = content, path, inside

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.content.get(name) is not None

    def size(self, name: str, default: int | None = None) -> int:
        """A positive integer; without a default the field is needed.

        Raises:
            BackboneError: it is missing, or something else.
        """
        value = self._value(name, default)
        if type(value) is not int or not 1 <= value <= MAX_SIZE:
            raise self.fault(name, "it must be a positive integer")
        return value

    def number(self, name: str, default: float | None = None, *, least: float = 0.0) -> float:
        """A finite number above `least`; without a default the field is needed.

        Raises:
            BackboneError: it is missing, or something else.
        """
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least < value < 1e30:
            raise self.fault(name, f"it must be a number above {least:g}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false.

        Raises:
            BackboneError: something else.
        """
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self.fault(name, "it must be true or false")
        return value

    def choice(self, name: str, choices: Mapping[str, Any], default: str) -> Any:
        """The value that belongs to one of these words.

        Raises:
            BackboneError: another word.
        """
        value = self._value(name, default)
        if not isinstance(value, str) or value not in choices:
            raise self.fault(name, f"only {one_of(choices)} can be computed")
        return choices[value]

    def items(self, name: str, n: int) -> list[Any]:
        """A list of n values, one for each block.

        Raises:
            BackboneError: something else.
        """
        value = self.content.get(name)
        if not isinstance(value, list) or len(value) != n:
            raise self.fault(name, f"it must be a list of {n} values, one for each block")
        return value

    def inner(self, name: str) -> ConfigFile | None:
        """The object in a field; None if it is absent.

        Raises:
            BackboneError: something else.
        """
        value = self.content.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.fault(name, "it must be an object")
        return ConfigFile(value, self.path, f"{self.inside}{name}.")

    def must_be(self, name: str, value: object, *, why: str) -> None:
        """Reject any other value than the one that is computed here.

        Raises:
            BackboneError: names the field and says why.
        """
        if self.content.get(name, value) != value:
            raise self.fault(name, why)

    def fault(self, name: str, advice: str) -> BackboneError:
        """The error for a field."""
        return BackboneError(f"{self.path} has {self.inside}{name} = {short_repr(self.content.get(name))}; {advice}")

    def _value(self, name: str, default: Any) -> Any:
        value = self.content.get(name)
        if value is None and default is None:
            raise BackboneError(f"{self.path} lacks {self.inside}{name}, which the network needs; fetch the file again")
        return default if value is None else value
