"""Exports of annotation tools get columns called text and label, whatever the tool calls them.

    Label Studio  {"data": {"text": "hi"}, "annotations": [{"result": [{"value": {"choices": ["ham"]}}]}]}
    Prodigy       {"text": "hi", "label": "ham", "answer": "accept"}    {"text": "hi", "accept": ["ham"], …}
    spaCy         {"text": "hi", "cats": {"ham": 1.0, "spam": 0.0}}
    Doccano       {"text": "hi", "label": ["ham"]}                      read unchanged; lists of spans are an error

Rows that an annotator rejected, skipped or left undecided are left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lasttoken.core.errors import DataError
from lasttoken.data.tables.table import TEXT_NAMES, Row, Table

LIKELY = 0.5  # score from which on a category of spaCy is a label

Values = Mapping[str, object]


@dataclass(frozen=True)
class Tool:
    """How the rows of a tool become examples; `convert` returns a row's values, or the reason to leave the row out."""

    name: str
    columns: tuple[str, ...]  # added to the header
    convert: Callable[[Values], Values | str]


def converted(table: Table, ahead: Sequence[Row], asked: Iterable[str], labelled: bool) -> Table:
    """The table with columns for text and label, if its first rows come from an annotation tool; else unchanged.

    With `labelled=False` only the texts of Label Studio are converted, and every row is kept.

    Raises:
        DataError: labels that are spans of a text, as for named-entity recognition.
    """
    asked = set(asked)
    if not ahead or asked & {"annotations", "cats", "accept"} or (not labelled and asked & set(ahead[0].values)):
        return table
    values = ahead[0].values
    if labelled:
        _reject_spans(table.source, ahead)
    tool = _tool_of(values, labelled, ahead)
    if tool is None:
        return table
    header = list(dict.fromkeys([*tool.columns, *table.header]))
    note = f"{table.source} is read as an export of {tool.name}"
    late = table.late_notes

    def read(_: Sequence[str]) -> Iterator[Row]:
        left_out: Counter[str] = Counter()
        n_examples = 0
        for row in table.read(table.header):
            values = tool.convert(row.values)
            if not isinstance(values, str):
                n_examples += 1
                yield row._replace(values=values)
            elif labelled:
                left_out[values] += 1
            else:
                yield row
        sentences = [f"{table.source}: {n:,} rows are left out: {reason}" for reason, n in left_out.items()]
        late.extend(sentences)
        if sentences and not n_examples:
            raise DataError(f"{'; '.join(sentences)}; no row is left to learn from")

    return replace(table, header=header, read=read, notes=(*table.notes, note), is_converted=True)


def _tool_of(values: Values, labelled: bool, ahead: Sequence[Row]) -> Tool | None:
    """The tool that wrote the rows, by the keys of the first one; None for no known tool."""
    is_annotated = "annotations" in values or "completions" in values
    has_text = {name.strip().casefold() for name in values} & TEXT_NAMES
    if isinstance(values.get("data"), dict) and (is_annotated or not (labelled or has_text)):
        names = list(dict.fromkeys(key for row in ahead for key in _object(row.values.get("data"))))
        controls = sorted({name for row in ahead for name in _choices(row.values)}) if labelled else []
        labels = ["label"] if len(controls) < 2 else controls
        columns = (*names, *(labels if labelled else ()))
        return Tool("Label Studio", columns, lambda row: _label_studio(row, controls, labelled))
    if not labelled:
        return None
    if "answer" in values and ("_input_hash" in values or values.get("answer") in ("accept", "reject", "ignore")):
        return Tool("Prodigy", ("text", "label"), _prodigy)
    if isinstance(values.get("cats"), dict) and "label" not in values:
        return Tool("spaCy", ("text", "label"), _spacy)
    return None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _reject_spans(source: str, ahead: Sequence[Row]) -> None:
    """Reject rows whose labels are spans of a text.

    Raises:
        DataError: names the row and the column.
    """
    for row in ahead:
        for name in ("label", "labels", "entities", "spans"):
            value = row.values.get(name)
            first = value[0] if isinstance(value, list) and value else None
            is_triple = isinstance(first, list) and len(first) == 3 and all(isinstance(n, int) for n in first[:2])
            has_offsets = isinstance(first, dict) and {"start_offset", "end_offset"} <= first.keys()
            if (is_triple or has_offsets) and (name in ("label", "labels") or "label" not in row.values):
                raise DataError(
                    f"row {row.number} of {source} has spans in {name!r} (start, end, label), as for named entities; "
                    "a classifier needs labels of whole texts, so export the project as text classification"
                )


# Label Studio -----------------------------------------------------------------------------------------------------


def _choices(values: Values) -> dict[str, list[str]]:
    """The choices of a task by control, from its ground truth or else from all annotations that were not skipped.

    A control on which annotators disagree has no choice.
    """
    content = values.get("annotations", values.get("completions"))
    annotations = [item for item in content if isinstance(item, dict)] if isinstance(content, list) else []
    finished = [annotation for annotation in annotations if not annotation.get("was_cancelled")]
    ground_truth = [annotation for annotation in finished if annotation.get("ground_truth")]
    all_choices = [_choices_of(annotation) for annotation in ground_truth or finished]
    names = {name for choices in all_choices for name in choices}
    return {name: next(c[name] for c in all_choices if name in c) for name in names if _agree(all_choices, name)}


def _agree(all_choices: Sequence[dict[str, list[str]]], name: str) -> bool:
    """Whether all annotations with a choice of this control have the same choice."""
    return len({tuple(sorted(choices[name])) for choices in all_choices if name in choices}) == 1


def _choices_of(annotation: dict[str, Any]) -> dict[str, list[str]]:
    """The choices of one annotation by control."""
    by_control: dict[str, list[str]] = {}
    for result in annotation.get("result") or []:
        value = _object(_object(result).get("value"))
        if isinstance(choices := value.get("choices"), list):
            by_control.setdefault(str(result.get("from_name", "label")), []).extend(map(str, choices))
    return by_control


def _label_studio(values: Values, controls: Sequence[str], labelled: bool) -> Values | str:
    data = _object(values.get("data"))
    task = {name: value for name, value in values.items() if name not in data}
    if not labelled:
        return {**data, **task}
    choices = _choices(values)
    if not choices:
        return "they have no choice, were skipped, or annotators disagree about them"
    if len(controls) < 2:
        return {**data, "label": next(iter(choices.values())), **task}
    return {**data, **{name: choices.get(name) for name in controls}, **task}


# Prodigy and spaCy ------------------------------------------------------------------------------------------------


def _prodigy(values: Values) -> Values | str:
    answer = values.get("answer", "accept")
    if answer == "reject":
        return "their label was rejected, which does not say what the label is"
    if answer != "accept":
        return "they were ignored by the annotator"
    accepted = values.get("accept")
    return {**values, "label": accepted} if isinstance(accepted, list) and "options" in values else values


def _spacy(values: Values) -> Values | str:
    cats = values.get("cats")
    if not isinstance(cats, dict):
        return "they have no 'cats'"
    try:
        labels = [str(name) for name, score in cats.items() if float(score) >= LIKELY]
    except (TypeError, ValueError):
        return "their 'cats' are not numbers"
    return {**values, "label": labels}
