"""Tables of a few rows, written and read as examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from lasttoken.core.columns import UNNAMED, ColumnSpec
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.tables.options import ReadOptions

ROWS = [
    ('Our toaster, a "fine" one', "kitchen"),
    ("soil\nkept the frost out", "garden"), ("A copper pot, rusty", "kitchen"),
    ("The hedge trimmer snapped", "garden"), ("a pan; a spade | a tab", "kitchen"),
]  # fmt: skip


PLAIN = [(text.replace("\n", " ").replace('"', ""), label) for text, label in ROWS]


def read(path: Path, content: str | bytes, columns: ColumnSpec = UNNAMED, **options: Any) -> Examples:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_examples(path, columns, options=ReadOptions(**options))


def pairs(examples: Examples) -> list[tuple[str, str]]:
    return list(zip(examples.texts, examples.labels or [], strict=True))


def frame() -> pd.DataFrame:
    return pd.DataFrame(ROWS, columns=["text", "label"])
