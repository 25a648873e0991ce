"""The characters of texts: their scripts, texts with hardly any letters, and characters that were decoded wrongly.

"cafÃ© â€™"  was "café ’" in UTF-8, read as cp1252: damage
"☎ 0800 :-)"  has no letters: not text
"Привет ok"  Cyrillic 75 %, Latin 25 %
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lasttoken.data.splitting.near_duplicates import chunks, code_points

LEAST_LETTERS = 1 / 3  # fraction of a text's characters, without spaces; with fewer, it is hardly text
N_CODES = 0x110000
LETTERS = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc"}  # with the marks that write vowels in many scripts
SCRIPTS = {"CJK": "Han", "IDEOGRAPHIC": "Han", "FULLWIDTH": "Latin", "MICRO": "Greek"}


# Damage -----------------------------------------------------------------------------------------------------------


def _read_wrongly(first: int, last: int) -> str:
    """The characters that bytes become when they are decoded as cp1252 or latin-1, for a character class."""
    raw = bytes(range(first, last + 1))
    return "".join(map(re.escape, dict.fromkeys(raw.decode("cp1252", "ignore") + raw.decode("latin-1"))))


_TRAIL = f"[{_read_wrongly(0x80, 0xBF)}]"
_TYPOGRAPHIC = "‚„…‘’“”–—‹›•«»"  # may follow a capital letter on purpose: "IRMÃ…"
DAMAGE = re.compile(
    "\ufffd"
    f"|[ÂÃ](?![{_TYPOGRAPHIC}]){_TRAIL}|Â[«»]"
    f"|Ã[{_TYPOGRAPHIC}](?=[a-z])"
    f"|â[€‚„\x80\x82\x84]{_TRAIL}"
    f"|ð[Ÿ\x9f]{_TRAIL}{{2}}"
    f"|(?:[à-ï]{_TRAIL}{{2}}){{2,}}"
    f"|(?:[Ä-ß]{_TRAIL}){{2,}}"
)


def damage_in(text: str) -> str | None:
    """The first characters of a text that were decoded wrongly, or None: U+FFFD, or UTF-8 read as cp1252 or latin-1.

    Only character sequences that are hardly ever written on purpose count, so some damage is missed.

    >>> damage_in("cafÃ©"), damage_in("itâ€™s"), damage_in("Ça, c'est voilà… IRMÃ”")
    ('Ã©', 'â€™', None)
    """
    match = None if text.isascii() else DAMAGE.search(text)
    return match[0] if match else None


# Letters and scripts ----------------------------------------------------------------------------------------------


def hardly_text(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Which texts have fewer than a third letters among their characters without spaces, (N,); blank ones are not."""
    is_letter, is_space, known = (np.zeros(N_CODES, np.bool_) for _ in range(3))
    is_hardly_text = np.zeros(len(texts), np.bool_)
    for start, end in chunks(texts):
        points, bounds = code_points(texts[start:end])
        for code in np.flatnonzero(np.bincount(points, minlength=1).astype(bool) & ~known[: points.max(initial=0) + 1]):
            known[code] = True
            is_letter[code] = unicodedata.category(chr(code)) in LETTERS
            is_space[code] = chr(code).isspace()
        n_letters, n_spaces = (
            np.diff(np.concatenate(([0], np.cumsum(table[points])))[bounds]) for table in (is_letter, is_space)
        )
        n_visible = np.diff(bounds) - n_spaces
        is_hardly_text[start:end] = (n_visible > 0) & (n_letters < LEAST_LETTERS * n_visible)
    return is_hardly_text


def script_shares(texts: Sequence[str]) -> dict[str, float]:
    """The fraction of each script among letters and emoji, largest first; scripts are named as their characters are."""
    counts = np.zeros(N_CODES, np.int64)
    for start, end in chunks(texts):
        chunk_counts = np.bincount(code_points(texts[start:end])[0])
        counts[: len(chunk_counts)] += chunk_counts
    by_script: Counter[str] = Counter()
    for code in np.flatnonzero(counts).tolist():
        if script := script_of(chr(code)):
            by_script[script] += int(counts[code])
    total = by_script.total()
    return {script: n / total for script, n in by_script.most_common()}


def script_of(character: str) -> str | None:
    """The script of a letter, "Emoji" for a pictograph, None for anything else.

    >>> [script_of(character) for character in "aж字😀7"]
    ['Latin', 'Cyrillic', 'Han', 'Emoji', None]
    """
    category = unicodedata.category(character)
    if category == "So" and ord(character) >= 0x2600:
        return "Emoji"
    if category not in ("Lu", "Ll", "Lt", "Lo"):
        return None
    word = unicodedata.name(character, "other").split(" ")[0].split("-")[0]
    return SCRIPTS.get(word, word.capitalize())
