"""Which spellings are the same label, and which texts are blank.

    "kitchen"  "kitchen "  "\\u200bkitchen"  "ｋｉｔｃｈｅｎ"    one label: they look the same
    "1"  "1.0"  "+1"                                       one label: the same integer; but "01" and "1e0" are codes
    "True"  "true"  "TRUE"                                 one label: the same truth value
    "US"  "us"                                             two labels, which differ only by case
    "3.1"  "3.10"                                          two labels: they may be versions

Spellings are compared by a key: invisible characters are removed, Unicode is normalized to NFKC, and every run of
spaces becomes one space. U+200C and U+200D stay inside words of scripts that need them and inside emoji.

Sources: Unicode Standard Annex #15 (normalization forms); the default ignorable code points of Unicode's
DerivedCoreProperties.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

SELECTORS = "\ufe0e\ufe0f"  # select text or emoji presentation of the preceding character
ALWAYS_INVISIBLE = (
    "\u00ad\u034f\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064"
    "\u2066\u2067\u2068\u2069\ufeff"
)  # soft hyphen, zero-width space, direction marks, word joiner, byte order mark
REMOVED = dict.fromkeys(map(ord, ALWAYS_INVISIBLE + SELECTORS))
AT_ENDS = r"\s\x00-\x1f\x7f-\x9f\u115f\u1160\u180e\u200c\u200d\u2800\u3164\uffa0"  # and controls, joiners, fillers
ENDS = re.compile(f"^[{AT_ENDS}]+|[{AT_ENDS}]+$")
WRITTEN_ENDS = re.compile(f"^[{AT_ENDS}{ALWAYS_INVISIBLE}{SELECTORS}]+|[{AT_ENDS}{ALWAYS_INVISIBLE}]+$")
NEED_JOINERS = r"\u0590-\u1dff\u2100-\u2bff\ua8e0-\uaaff\ufb1d-\ufdff\ufe70-\ufefc\U00010000-\U0010ffff"
STRAY_JOINERS = re.compile(f"(?<![{NEED_JOINERS}])[\u200c\u200d]+")  # after Latin letters, digits, spaces, Han
INTEGER = re.compile(r"([+\-\u2212]?)(0|[1-9][0-9]*)(?:\.0+)?")
DECIMAL = re.compile(r"[+\-\u2212]?[0-9]+(?:\.[0-9]+)?")
TRUTH_VALUES = ("true", "false")


def label_key(label: str) -> str:
    """The key of a label: equal for all spellings of one label, different for different labels.

    >>> label_key(" caf\\u0065\\u0301"), label_key("1.0"), label_key("TRUE"), label_key("US")
    ('café', '1', 'true', 'US')
    """
    if label.isascii() and label.isalpha():
        key = label
    else:
        key = unicodedata.normalize("NFKC", STRAY_JOINERS.sub("", label.translate(REMOVED)))
        key = " ".join(ENDS.sub("", key).split())
    if number := INTEGER.fullmatch(key):
        sign, digits = number.groups()
        return f"-{digits}" if sign in ("-", "\u2212") and digits != "0" else digits
    return key.casefold() if key.casefold() in TRUTH_VALUES else key


def tidy(label: str) -> str:
    """A label without spaces and invisible characters at its ends; the rest is unchanged.

    >>> tidy("\\u200b spam "), tidy("my\\xa0kitchen")
    ('spam', 'my\\xa0kitchen')
    """
    return WRITTEN_ENDS.sub("", label)


def is_blank(text: str) -> bool:
    """Whether a text has no visible character.

    >>> is_blank(" \\u200b\\n"), is_blank(" . ")
    (True, False)
    """
    stripped = text.strip()
    return not stripped or (not stripped[0].isalnum() and not tidy(stripped.translate(REMOVED)))


def match_label(label: str, labels: Sequence[str]) -> str | None:
    """The label in `labels` that `label` is a spelling of; None if there is none, or several without an exact match."""
    if label in labels:
        return label
    key = label_key(label)
    matches = [known for known in labels if label_key(known) == key]
    return matches[0] if len(matches) == 1 else None


def nearly_same(label: str, labels: Iterable[str]) -> list[str]:
    """The labels in `labels` that differ from `label` only by case, or are the same number.

    >>> nearly_same("Spam", ["ham", "spam"]), nearly_same("4.50", ["4.5", "5"])
    (['spam'], ['4.5'])
    """
    key = _loose_key(label)
    return [known for known in labels if known != label and _loose_key(known) == key]


def _loose_key(label: str) -> str | float:
    """As `label_key`, but without case, and the value of a number; "007" is not a number."""
    key = label_key(label).casefold()
    return float(key.replace("\u2212", "-")) if DECIMAL.fullmatch(key) and not re.match(r"\D?0\d", key) else key


def visible(label: str) -> str:
    """A label for a message, quoted; invisible characters and unusual spellings are escaped.

    >>> visible("caf\\u0065\\u0301"), visible("spam\\u200b"), visible("café")
    ("'cafe\\\\u0301'", "'spam\\\\u200b'", "'café'")
    """
    if label != unicodedata.normalize("NFC", label) or any(ord(character) in REMOVED for character in label):
        return ascii(label)
    return repr(label)


def near_spellings(counts: Mapping[str, int]) -> list[dict[str, int]]:
    """Groups of different labels that differ only by case or are the same number, each with its number of rows."""
    groups: dict[object, dict[str, int]] = {}
    for label, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        groups.setdefault(_loose_key(label), {})[label] = n
    return [group for group in groups.values() if len({label_key(label) for label in group}) > 1]
