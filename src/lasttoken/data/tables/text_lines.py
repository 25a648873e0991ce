"""Files of one text a line: plain text, and fastText's lines that begin with labels.

txt        You won a prize
fasttext   __label__spam __label__urgent You won a prize
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from lasttoken.data.tables.format import Format, ReadRequest
from lasttoken.data.tables.lines import LongLine, long_fault, read_lines
from lasttoken.data.tables.table import BadRow, Row, Table, report_bad

FASTTEXT_LINE = re.compile(r"((?:__label__\S+\s+)*)(.*)", re.DOTALL)
FASTTEXT_LABEL = "__label__"


def is_fasttext(first_line: str) -> bool:
    """Whether a line begins with a fastText label."""
    return first_line.lstrip("\ufeff").startswith(FASTTEXT_LABEL)


def read_fasttext(request: ReadRequest, lines: Iterator[str] | None = None) -> Table:
    """The table of a fastText file: labels and text."""
    note = f"{request.source} is read as fastText: labels begin with {FASTTEXT_LABEL}, the rest of a line is the text"
    return _table(request, lines, ["label", "text"], _fasttext_values, (note,))


def read_text_lines(request: ReadRequest) -> Table:
    """The table of a file of one text a line."""
    return _table(request, None, ["text"], lambda text: {"text": text}, ())


def _table(
    request: ReadRequest,
    lines: Iterator[str] | None,
    header: list[str],
    values: Callable[[str], dict[str, object]],
    notes: tuple[str, ...],
) -> Table:
    if lines is None:
        lines = request.closing(read_lines(request.path, request.options, "\n", request.on_bad is not None))
    contents = lines

    def read(_: object) -> Iterator[Row]:
        number = 0
        for line, content in enumerate(contents, 1):
            if not content.strip():
                continue
            number += 1
            if isinstance(content, LongLine):
                report_bad(BadRow(number, line, long_fault(request.options)), request.source, request.on_bad)
                continue
            yield Row(number, line, values(content.rstrip("\r\n")))

    return Table(request.source, header, read, True, notes)


def _fasttext_values(line: str) -> dict[str, object]:
    """The labels without their prefix, and the text.

    >>> _fasttext_values("__label__spam You won"), _fasttext_values("__label__a __label__b x")
    ({'label': 'spam', 'text': 'You won'}, {'label': ['a', 'b'], 'text': 'x'})
    """
    match = FASTTEXT_LINE.fullmatch(line)
    prefixed, text = match.groups() if match else ("", line)
    labels = [label.removeprefix(FASTTEXT_LABEL) for label in prefixed.split()]
    return {"label": labels[0] if len(labels) == 1 else labels, "text": text}


FASTTEXT = Format(name="fasttext", title="fastText", read=read_fasttext)
TEXT_LINES = Format(name="txt", title="one text a line", read=read_text_lines)
