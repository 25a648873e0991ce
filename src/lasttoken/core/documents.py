"""Checked JSON and TOML: what is read is validated against a type before it is used, and what is written is valid JSON.

    config.json ──► load_json (bounded) ──► checked(ClassifierConfig, …) ──► a ClassifierConfig
                                                 └─► "config.json: temperature is 0.0; it must be greater than 0"

The type is a dataclass whose annotations declare the valid values of a field (`Annotated[float, Gt(0)]`,
`Annotated[str, OneOf(("head", "tail"))]`). pydantic validates in strict mode: "1" is not accepted for 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from lasttoken.core.errors import LastTokenError, RunError, short_repr

MAX_BYTES = 64_000_000  # of a JSON file; the largest published tokenizer.json has 35 MB
MAX_VALUES = 5_000_000  # in a JSON file, counted by commas, brackets and braces; Python needs up to 100 bytes for each

STRICT: Any = {
    "extra": "forbid",
    "allow_inf_nan": False,
}  # __pydantic_config__ of a dataclass: unknown fields and NaN are errors

T = TypeVar("T")


@dataclass(frozen=True)
class OneOf:
    """An annotation for a string with a fixed set of values: `Annotated[str, OneOf(("head", "tail"))]`."""

    choices: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.literal_schema(list(self.choices))


def to_json(content: Any, *, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> str:
    """Standard JSON, in UTF-8: NaN and infinity, which JSON does not have, become null.

    >>> to_json({"café": [1.5, float("nan")]})
    '{"café": [1.5, null]}'
    """
    try:
        return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=indent, default=default)
    except ValueError:
        finite = _without_nan(json.loads(json.dumps(content, default=default)))
        return json.dumps(finite, ensure_ascii=False, allow_nan=False, indent=indent)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return [_without_nan(item) for item in value] if isinstance(value, list) else value


def load_json(path: Path, error: type[LastTokenError] = RunError, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The object in a JSON file, read with bounded memory.

    Raises:
        FileNotFoundError: the file does not exist.
        error: the file cannot be read, is not JSON or not an object, or is too large.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
        if len(raw) > max_bytes or sum(map(raw.count, (b",", b"[", b"{"))) > MAX_VALUES:
            raise error(f"{path} is too large for a file of this name ({path.stat().st_size:,} bytes)")
        content = json.loads(raw.decode("utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as cause:
        raise error(f"{path} cannot be read as JSON: {cause}") from cause
    if not isinstance(content, dict):
        raise error(f"{path} contains a {type(content).__name__} instead of a JSON object; download or write it again")
    return content


def checked(
    kind: type[T], content: Any, where: object, error: type[LastTokenError] = RunError, advice: str = "was it changed?"
) -> T:
    """Validate `content` from a JSON or TOML file, and return it as a `kind`.

    Args:
        where: the file, for the message.
        advice: the end of the message.

    Raises:
        error: a field is missing, unknown or invalid; the message names the first one, its value and what is allowed.
    """
    from pydantic import ValidationError

    try:
        value: T = _adapter(kind).validate_json(  # type: ignore[arg-type]  # types are hashable
            json.dumps(content, default=str), strict=True
        )
        return value
    except (ValidationError, ValueError, RecursionError) as cause:
        raise error(f"{where}: {_first_fault(cause)}; {advice}") from cause


@cache
def _adapter(kind: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _first_fault(cause: Exception) -> str:
    """The first problem that pydantic reports, in words."""
    from pydantic import ValidationError

    faults = cause.errors(include_url=False) if isinstance(cause, ValidationError) else []
    if not faults:
        return str(cause)
    fault = faults[0]
    name = ".".join(map(str, fault["loc"]))
    if fault["type"] == "missing":
        return f"{name[:200]} is missing"
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{name[:200]} is not a field that this version knows"
    message = str(fault["msg"]).removeprefix("Value error, ").replace("Input should", "it must")[:300]
    return f"{name[:200]} is {short_repr(fault['input'])}; {message[:1].lower()}{message[1:]}" if name else message
