"""Examples with one letter for each label, for tests of splitting."""

from __future__ import annotations

from lasttoken.data.files import Examples
from lasttoken.data.splitting.splits import Splits


def made(labels: str, texts: list[str] | None = None, groups: list[str] | None = None) -> Examples:
    """One example for each letter, its label; every text different unless given."""
    return Examples(texts or [f"text {at}" for at in range(len(labels))], list(labels), groups=groups, source="a.csv")


NAMES = ["anna", "boris", "clara", "dmitri", "elena", "felix", "gerda", "hector", "irina", "jonas"]
NAMES += ["katya", "lukas", "maria", "nestor", "olga", "pablo", "quentin", "rosa", "stefan", "tamara"]


def parts_of(splits: Splits) -> list[Examples]:
    return list(splits.named().values())
