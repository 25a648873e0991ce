"""Exports of annotation tools: what each calls text and label becomes columns of these names.

    Label Studio  {"data": {"text": "hi"}, "annotations": [{"result": [{"value": {"choices": ["ham"]}}]}]}
    Prodigy       {"text": "hi", "label": "ham", "answer": "accept"}    {"text": "hi", "accept": ["ham"], …}
    spaCy         {"text": "hi", "cats": {"ham": 1.0, "spam": 0.0}}
    Doccano       {"text": "hi", "label": ["ham"]}                      read as it is; lists of spans are refused

What an annotator rejected, skipped or did not decide is not an example; such rows are left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lasttoken.core.errors import DataError
from lasttoken.data.tables import TEXT_NAMES, Row, Table

LIKELY = 0.5  # from which on a category of spaCy's counts as given

Values = Mapping[str, object]


@dataclass(frozen=True)
class Tool:
    """How the rows of a tool become examples. `convert`: its values, or why it is not an example."""

    name: str
    columns: tuple[str, ...]  # that it adds
    convert: Callable[[Values], Values | str]


def converted(table: Table, ahead: Sequence[Row], asked: Iterable[str], labelled: bool) -> Table:
    """The table with the tool's own names as columns, if its first rows are an annotation tool's.

    With `labelled=False` only Label Studio's texts are taken out, and every row stays.

    Raises:
        DataError: labels that are spans of a text, as for named entities.
    """
    asked = set(asked)
    if not ahead or asked & {"annotations", "cats", "accept"} or (not labelled and asked & set(ahead[0].values)):
        return table
    values = ahead[0].values
    if labelled:
        _refuse_spans(table.source, ahead)
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
            made = tool.convert(row.values)
            if not isinstance(made, str):
                n_examples += 1
                yield replace_values(row, made)
            elif labelled:
                left_out[made] += 1
            else:
                yield row
        sentences = [f"{table.source}: {n:,} rows are left out: {reason}" for reason, n in left_out.items()]
        late.extend(sentences)
        if sentences and not n_examples:
            raise DataError(f"{'; '.join(sentences)}; that is all rows, so there is no example to learn from")

    return replace(table, header=header, read=read, notes=(*table.notes, note))


def replace_values(row: Row, values: Values) -> Row:
    """The row with other values."""
    return Row(row.number, row.line, values)


def _tool_of(values: Values, labelled: bool, ahead: Sequence[Row]) -> Tool | None:
    annotated = "annotations" in values or "completions" in values
    own_text = {name.strip().casefold() for name in values} & TEXT_NAMES
    if isinstance(values.get("data"), dict) and (annotated or not (labelled or own_text)):
        names = list(dict.fromkeys(key for row in ahead for key in _object(row.values.get("data"))))
        controls = sorted({name for row in ahead for name in _choices(row.values)}) if labelled else []
        labels = ["label"] if len(controls) < 2 else controls
        taken = (*names, *(labels if labelled else ()))
        return Tool("Label Studio", taken, lambda row: _label_studio(row, controls, labelled))
    if not labelled:
        return None
    if "answer" in values and ("_input_hash" in values or values.get("answer") in ("accept", "reject", "ignore")):
        return Tool("Prodigy", ("text", "label"), _prodigy)
    if isinstance(values.get("cats"), dict) and "label" not in values:
        return Tool("spaCy", ("text", "label"), _spacy)
    return None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _refuse_spans(source: str, ahead: Sequence[Row]) -> None:
    for row in ahead:
        for name in ("label", "labels", "entities", "spans"):
            value = row.values.get(name)
            first = value[0] if isinstance(value, list) and value else None
            of_numbers = isinstance(first, list) and len(first) == 3 and all(isinstance(n, int) for n in first[:2])
            of_names = isinstance(first, dict) and {"start_offset", "end_offset"} <= first.keys()
            if (of_numbers or of_names) and (name in ("label", "labels") or "label" not in row.values):
                raise DataError(
                    f"row {row.number} of {source} has spans in {name!r} (start, end, label), as for named entities; "
                    "a classifier needs labels of whole texts, so export the project as a text classification"
                )


# Label Studio -----------------------------------------------------------------------------------------------------


def _choices(values: Values) -> dict[str, list[str]]:
    """The choices of a task by control, of its ground truth or else of all annotations that were not skipped.

    A control whose annotators differ has no choice.
    """
    annotations = values.get("annotations", values.get("completions"))
    kept = [one for one in annotations if isinstance(one, dict)] if isinstance(annotations, list) else []
    kept = [one for one in kept if not one.get("was_cancelled")]
    kept = [one for one in kept if one.get("ground_truth")] or kept
    made = [_choices_of(one) for one in kept]
    names = {name for choices in made for name in choices}
    return {name: next(c[name] for c in made if name in c) for name in names if _agree(made, name)}


def _agree(made: Sequence[dict[str, list[str]]], name: str) -> bool:
    return len({tuple(sorted(choices[name])) for choices in made if name in choices}) == 1


def _choices_of(annotation: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for result in annotation.get("result") or []:
        value = _object(_object(result).get("value"))
        if isinstance(choices := value.get("choices"), list):
            found.setdefault(str(result.get("from_name", "label")), []).extend(map(str, choices))
    return found


def _label_studio(values: Values, controls: Sequence[str], labelled: bool) -> Values | str:
    data = _object(values.get("data"))
    rest = {name: value for name, value in values.items() if name not in data}
    if not labelled:
        return {**data, **rest}
    choices = _choices(values)
    if not choices:
        return "they have no choice, were skipped, or their annotators differ"
    if len(controls) < 2:
        return {**data, "label": next(iter(choices.values())), **rest}
    return {**data, **{name: choices.get(name) for name in controls}, **rest}


# Prodigy and spaCy ------------------------------------------------------------------------------------------------


def _prodigy(values: Values) -> Values | str:
    answer = values.get("answer", "accept")
    if answer == "reject":
        return "their label was rejected, which says what a text is not"
    if answer != "accept":
        return "they were ignored by the annotator"
    accepted = values.get("accept")
    return {**values, "label": accepted} if isinstance(accepted, list) and "options" in values else values


def _spacy(values: Values) -> Values | str:
    cats = values.get("cats")
    if not isinstance(cats, dict):
        return "they have no 'cats'"
    try:
        given = [str(name) for name, score in cats.items() if float(score) >= LIKELY]
    except (TypeError, ValueError):
        return "their 'cats' are not numbers"
    return {**values, "label": given}
