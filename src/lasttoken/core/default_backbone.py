"""The backbone of a command that names none: the one in the package, or the one that the environment names.

--backbone  ──wins over──►  --config FILE  ──wins over──►  LASTTOKEN_BACKBONE  ──wins over──►  the bundled one
"""

from __future__ import annotations

import os

BUNDLED = "smollm2-135m-b16"  # the backbone that comes with the package
VARIABLE = "LASTTOKEN_BACKBONE"  # a name, hub id, folder or GGUF file, as --backbone takes it


def default_backbone() -> str:
    """The backbone that is used where none is named."""
    return os.environ.get(VARIABLE) or BUNDLED


def origin_of(name: str) -> str:
    """The end of a sentence about a backbone that cannot be loaded, if the environment names it; otherwise empty."""
    return f" ({VARIABLE} names this backbone)" if name and name == os.environ.get(VARIABLE) else ""
