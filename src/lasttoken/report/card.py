"""The model card of a run: README.md with Hugging Face metadata, from the same facts as the page.

Text from users (labels, file names, notes) is escaped for Markdown and quoted for YAML. YAML values are written as
JSON, because every JSON string, number and list is also YAML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lasttoken.backbone.catalog import BACKBONES
from lasttoken.core.metric_registry import METRICS, metrics_at
from lasttoken.evaluation.tasks.choice import task_class
from lasttoken.report.choice import choice_table
from lasttoken.report.ngrams import ngram_table
from lasttoken.report.search import search_table

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
MARKDOWN = re.compile(r"([\\`*_\[\]|~$]|^[#+=-])")
MAX_LABELS = 50
USE = """```console
lasttoken predict RUN "a text"
```

```python
from lasttoken import TextClassifier

classifier = TextClassifier.load("RUN")
print(classifier.predict("a text")[0].label)
```"""


def render_card(facts: Mapping[str, Any]) -> str:
    """README.md as one string, from the facts of `render_report`. A section without facts is left out.

    Raises:
        KeyError: title or headline is absent.
    """
    parts = [_metadata(facts), f"# {escape(facts['title'])}", _use(facts), _limits(facts), _data(facts)]
    parts += [
        _metrics(facts),
        _ngrams(facts),
        _choice(facts),
        _search(facts),
        _calibration(facts),
        _decision(facts),
        _again(facts),
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    return text.encode("utf-8", "replace").decode("utf-8")  # JSON can hold a lone surrogate, UTF-8 cannot


def escape(text: object) -> str:
    """A text on one line, escaped for Markdown and HTML.

    >>> print(escape("a_b <script>"))
    a\\_b &lt;script&gt;
    """
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return MARKDOWN.sub(r"\\\1", line)


def _metadata(facts: Mapping[str, Any]) -> str:
    run = facts.get("run") or {}
    backbone = str(run.get("backbone") or "")
    fields: dict[str, Any] = {"library_name": "lasttoken", "pipeline_tag": "text-classification"}
    entry = BACKBONES.get(backbone)
    if HUB_ID.fullmatch(backbone) or (entry and entry.hub_id):
        fields["base_model"] = backbone
    fields["tags"] = ["text-classification", "lasttoken"]
    fields["model-index"] = [{"name": facts["title"], "results": [_result(facts)]}]
    return "\n".join(["---", *(f"{key}: {_yaml(value)}" for key, value in fields.items()), "---"])


def _yaml(value: Any) -> str:
    """JSON in ASCII with DEL escaped, which YAML 1.1 reads as the same value."""
    text = json.dumps(value).replace("\x7f", "\\u007f")
    return re.sub(r"\\ud[89ab]..\\ud[c-f]..", lambda pair: _wide(pair[0]), text)


def _wide(pair: str) -> str:
    """YAML has no surrogates: an escaped pair of them becomes one escape of eight digits."""
    sign = json.loads('"' + pair + '"')
    return f"\\U{ord(sign):08x}"


def _result(facts: Mapping[str, Any]) -> dict[str, Any]:
    split, metrics = facts["headline"]["split"], facts["headline"]["metrics"]
    data = str((facts.get("run") or {}).get("data") or facts["title"])
    return {
        "task": {"type": "text-classification"},
        "dataset": {"name": data, "type": "other", "split": split},
        "metrics": [
            {"type": metric.name, "name": metric.full_title, "value": metrics[metric.name]}
            for metric in metrics_at("card")
            if metrics.get(metric.name) is not None
        ],
    }


def _use(facts: Mapping[str, Any]) -> str:
    run = facts.get("run") or {}
    labels = facts["headline"]["metrics"].get("labels") or list(facts["headline"]["metrics"]["per_label"])
    named = ", ".join(escape(label) for label in labels[:MAX_LABELS])
    others = f" and {len(labels) - MAX_LABELS:,} more" if len(labels) > MAX_LABELS else ""
    origin = f" It was trained on {escape(run['data'])}" if run.get("data") else ""
    origin += f" from the backbone {escape(run['backbone'])}" if origin and run.get("backbone") else ""
    task = task_class(bool(facts.get("multi_label")))
    number = f"{task.labels_per_text} of {len(labels):,} labels"
    what = f"A text classifier that predicts {number} for each text: {named}{others}."
    return f"{what}{origin + '.' if origin else ''}\n\n{USE}"


def _limits(facts: Mapping[str, Any]) -> str:
    split = facts["headline"]["split"]
    lines = [
        "## Intended use and limits",
        f"Use it for texts like its training texts. The metrics below are from the {escape(split)} split and may not "
        "hold for other sources, periods or languages. Do not let it make decisions about people without human review.",
    ]
    return "\n\n".join([*lines, *_items(facts.get("warnings"))])


def _data(facts: Mapping[str, Any]) -> str:
    data, audit = facts.get("data") or {}, facts.get("audit") or {}
    rows = {name: sum(counts.values()) for name, counts in (data.get("counts") or {}).items()}
    lines = [f"{name}: {n:,} examples" for name, n in {**rows, **(data.get("rows") or {})}.items()]
    lines += [f"sha256 of {name}: {digest}" for name, digest in (data.get("hashes") or {}).items()]
    lines += [*(data.get("notes") or []), *(audit.get("sentences") or [])]
    return "\n\n".join(["## Data", *_items(lines)]) if lines else ""


def _metrics(facts: Mapping[str, Any]) -> str:
    split, metrics = facts["headline"]["split"], facts["headline"]["metrics"]
    columns = {"this classifier": metrics}
    columns |= {name: by[split] for name, by in (facts.get("baselines") or {}).items() if split in by}
    rows = [
        f"| {metric.full_title} | "
        + " | ".join(metric.formatted(values, percent=False) for values in columns.values())
        + " |"
        for metric in metrics_at("card")
        if metrics.get(metric.name) is not None
    ]
    head = "| Metric | " + " | ".join(escape(name) for name in columns) + " |"
    table = "\n".join([head, "|---" * (1 + len(columns)) + "|", *rows])
    verdict = [escape(sentence) for sentence in (facts.get("verdict") or {}).get("sentences") or []]
    about = f"Measured on {metrics['n']:,} {escape(split)} examples; 95 % intervals in parentheses."
    return "\n\n".join(["## Metrics", *([" ".join(verdict)] if verdict else []), about, table])


def _ngrams(facts: Mapping[str, Any]) -> str:
    table = ngram_table(facts.get("ngrams"))
    if table is None:
        return ""
    lines = [table.header, ("---",) * len(table.header), *table.rows]
    return "\n\n".join(["## n-grams", table.sentence, "\n".join(f"| {' | '.join(line)} |" for line in lines)])


def _choice(facts: Mapping[str, Any]) -> str:
    if not facts.get("choice"):
        return ""
    table = choice_table(facts["choice"])
    rows = [
        tuple(f"**{cell}**" for cell in row) if place == table.chosen else row for place, row in enumerate(table.rows)
    ]
    lines = [table.header, ("---",) * len(table.header), *rows]
    return "\n\n".join(["## Choice", table.sentence, "\n".join(f"| {' | '.join(line)} |" for line in lines)])


def _search(facts: Mapping[str, Any]) -> str:
    table = search_table(facts.get("search"))
    return "" if table is None else "\n\n".join(["## Search", " ".join(escape(each) for each in table.sentences)])


def _calibration(facts: Mapping[str, Any]) -> str:
    calibration = facts.get("calibration") or {}
    if not calibration:
        return ""
    lines = [
        f"Logits are divided by a temperature of {calibration['temperature']:.3g} before probabilities are computed."
    ]
    if calibration.get("before") and calibration.get("after"):
        before, after = (METRICS["ece"].formatted(calibration[when]) for when in ("before", "after"))
        lines.append(f"Expected calibration error on {escape(calibration['split'])}: {before} before, {after} after.")
    return "\n\n".join(["## Calibration", " ".join(lines)])


def _decision(facts: Mapping[str, Any]) -> str:
    decision = facts.get("decision")
    return f"## Decision rule\n\n{escape(decision['sentence'])}." if decision else ""


def _again(facts: Mapping[str, Any]) -> str:
    command = facts.get("command")
    if not command:
        return ""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", command)), default=0))
    return f"## Reproduce\n\n{fence}console\n{command}\n{fence}"


def _items(sentences: Sequence[str] | None) -> Iterator[str]:
    if sentences:
        yield "\n".join(f"- {escape(sentence)}" for sentence in sentences)
