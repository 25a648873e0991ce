"""What a finished job has to report: rows that were rejected, empty or cut."""

from __future__ import annotations

from collections.abc import Iterator

from lasttoken.bulk.job import JobResult, Source, n_undecodable
from lasttoken.bulk.parts import REJECTS, Counts
from lasttoken.bulk.work import Summary
from lasttoken.core.errors import DataError
from lasttoken.data.tables.encodings import advised_encoding


def part_sentences(summary: Summary) -> Iterator[str]:
    """The same about a finished folder of parts.

    Raises:
        DataError: no row could be classified.
    """
    counts, url = summary.counts, summary.store.url
    if counts.n_rejected:
        yield f"{counts.n_rejected:,} rows could not be read; they and the reasons are in {url}, part-*{REJECTS}"
        if not counts.n_rows:
            raise DataError(f"no row could be classified; the reasons are in {url}, part-*{REJECTS}")
    yield from _about_empty(counts)
    cut = f", {counts.n_cut:,} of them cut" if counts.n_cut else ""
    parts = "1 part" if summary.n_parts == 1 else f"{summary.n_parts:,} parts"
    yield f"{counts.n_rows:,} rows classified{cut}, in {parts}"


def sentences(result: JobResult, source: Source) -> Iterator[str]:
    """One sentence for each kind of row that a reader of the output should know about, and the number of all rows.

    Raises:
        DataError: no row could be classified; raised after the sentences about the rejected rows.
    """
    counts, encoding = result.counts, source.options.encoding
    if result.rejects:
        yield f"{counts.n_rejected:,} rows could not be read; they and the reasons are in {result.rejects}"
        if n := n_undecodable(result.rejects, encoding):
            advice = advised_encoding(source.path, encoding)
            hint = f": name the file's encoding with --encoding, such as {advice}" if advice else ""
            yield f"{n:,} of them contain bytes that are not {encoding}{hint}"
        if not counts.n_rows:
            raise DataError(f"no row of {source.path} could be classified; the reasons are in {result.rejects}")
    yield from _about_empty(counts)
    cut = f", {counts.n_cut:,} of them cut to {result.max_length} tokens" if counts.n_cut else ""
    yield f"{counts.n_rows:,} rows classified{cut}"


def _about_empty(counts: Counts) -> Iterator[str]:
    if counts.n_empty:
        yield f"{counts.n_empty:,} rows have an empty text; their prediction reflects only the prior"
