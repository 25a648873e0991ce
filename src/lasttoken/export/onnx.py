"""A classifier as one ONNX graph, with the files that are needed to encode texts as the classifier does.

    token_ids [B, T] int64, lengths [B] int64 ──► logits [B, K] (at the temperature), probs [B, K]

Texts are rows, padded on the right with anything: no token beyond a text's length is attended to. Every pooling is
supported, with or without the causal mask. The decoder's own nodes come from its family (backbone/family.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.backbone.families import family_of
from lasttoken.backbone.onnx_graph import Graph
from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.predict import Predictor
from lasttoken.core.documents import to_json
from lasttoken.core.errors import SettingsError
from lasttoken.core.storage import write_text
from lasttoken.export.checking import PROBE_BATCHES, PROBES, largest_difference, logits_of, quiet
from lasttoken.export.folder import Exported, new_export
from lasttoken.export.gpt_part import load_gpt_part

MAX_IN_ONE_FILE = 1_500_000_000  # bytes; protobuf's limit is 2 GiB
PROBABILITIES: dict[str, tuple[str, dict[str, int]]] = {  # the operator, and its attributes
    "softmax": ("Softmax", {"axis": -1}),
    "sigmoid": ("Sigmoid", {}),
}
FAR = np.float32(-1e9)  # added to the attention scores of tokens that must not be seen
ONNX, QUANTIZED = "model.onnx", "model.int8.onnx"
SHORT_TEXTS = tuple(
    f"{start} {end}" for start in ("Win a prize", "See you", "Your account") for end in ("now", "at 6", "!")
)

README = """# {name}

A text classifier for ONNX Runtime, exported from lasttoken. `{model}` takes `token_ids` [B, T] and `lengths` [B], both
int64, and returns `logits` and `probs` [B, K] in the order of `labels` in `classifier.json`. Texts are padded on the
right with anything; tokens beyond a text's length are ignored.

```python
import json
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

facts = json.loads(Path("classifier.json").read_text("utf-8"))
tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.encode_special_tokens = True  # <|endoftext|> in a text is text
session = onnxruntime.InferenceSession("{model}")

def classify(texts):
    rows = []
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        n_around = len(facts["prefix_ids"]) + len(facts["suffix_ids"])
        room = facts["max_length"] - n_around  # for the text's own tokens
        ids = encoding.ids[:room] if facts["truncate"] == "tail" else encoding.ids[-room:]
        ids = facts["prefix_ids"] + ids + facts["suffix_ids"] or [facts["end_of_text_id"]]
        if facts["pads"]:
            ids = ids + [facts["end_of_text_id"]] * (facts["max_length"] - len(ids))
        rows.append(ids)
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    token_ids = np.zeros((len(rows), lengths.max()), dtype=np.int64)
    for index, row in enumerate(rows):
        token_ids[index, : len(row)] = row
    return session.run(["probs"], {{"token_ids": token_ids, "lengths": lengths}})[0]

probs = classify(["a text"])
print(dict(zip(facts["labels"], probs[0].tolist())))
```
{int8}"""
INT8 = """
`model.int8.onnx` does its matrix multiplications in 8 bits, with one scale for all numbers of a batch (ONNX Runtime's
dynamic quantization), so a prediction depends a little on the batch. Of {n} texts, each in a batch of its own, {flips}
got another label than in float32; their probabilities differ by at most {largest:.3f}.
"""


@dataclass(frozen=True)
class Int8:
    """What 8 bits change in the predictions for n texts, each in a batch of its own."""

    n: int
    flips: int  # texts that get another label
    largest: float  # difference of probabilities


def export_onnx(run: Path, out: Path, int8: bool = False, without_ngrams: bool = False) -> tuple[Exported, Int8 | None]:
    """Write a run's classifier as ONNX, compare ONNX Runtime's logits with ours, and add an int8 variant if asked for.

    Raises:
        SettingsError: onnx or onnxruntime is not installed, `out` exists, or the classifier cannot be exported; see
            also `load_gpt_part`.
        RunError: `run` is not a finished run.
        FailedError: ONNX Runtime computes other logits.
    """
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise SettingsError(f"export --to onnx needs {missing[0]}; pip install '.[onnx]' in lasttoken's folder")
    predictor = load_gpt_part(run, without_ngrams)
    if predictor.classifier.config.int8_trunk:
        raise SettingsError(
            "the classifier was trained with --precision int8, which scales each token by itself, and ONNX has no node "
            "for that; train without it, and give --precision int8 to the export"
        )
    int8_effect = None
    with new_export(out) as folder:
        save_graph(predictor.classifier, folder / ONNX)
        session = open_session(folder / ONNX)
        expected = logits_of(predictor, PROBES)
        logits = np.concatenate([run_session(session, predictor, batch)[0] for batch in PROBE_BATCHES])
        difference = largest_difference(logits, expected, "ONNX Runtime")
        if int8:
            int8_effect = _quantize(folder, session, predictor)
        _write_other_files(folder, predictor, run, int8_effect)
    return Exported(out, (), difference), int8_effect


def _write_other_files(folder: Path, predictor: Predictor, run: Path, int8: Int8 | None) -> None:
    config = predictor.classifier.config
    facts = {
        "labels": list(config.labels),
        "multi_label": config.task.multi_label,
        "thresholds": {config.labels[label_id]: threshold for label_id, threshold in config.decision.thresholds},
        "abstain_below": config.decision.abstain_below,
        "max_length": config.max_length,
        "truncate": config.truncate,
        "pads": config.pads,
        "end_of_text_id": config.end_of_text_id,
        "prefix_ids": list(config.prefix_ids),
        "suffix_ids": list(config.suffix_ids),
    }
    write_text(folder / "classifier.json", to_json(facts, indent=1) + "\n")
    write_text(folder / "tokenizer.json", predictor.tokenizer.to_json())
    section = INT8.format(**vars(int8)) if int8 else ""
    write_text(folder / "README.md", README.format(name=run.resolve().name, model=ONNX, int8=section))


def _quantize(folder: Path, session: Any, predictor: Predictor) -> Int8:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(
            folder / ONNX,
            folder / QUANTIZED,
            op_types_to_quantize=["MatMul"],
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
    quantized = open_session(folder / QUANTIZED)
    pairs = [
        [run_session(variant, predictor, (text,))[1] for variant in (session, quantized)]
        for text in (*PROBES, *SHORT_TEXTS)
    ]
    flips = sum(int(a.argmax() != b.argmax()) for a, b in pairs)
    return Int8(len(pairs), flips, max(float(np.abs(a - b).max()) for a, b in pairs))


def open_session(path: Path) -> Any:
    """A session of ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_session(
    session: Any, predictor: Predictor, texts: tuple[str, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits and probabilities [N, K] of a batch of texts."""
    encoded = predictor.encode(texts)
    token_ids = np.zeros((len(encoded), encoded.longest), dtype=np.int64)
    for row, length in enumerate(encoded.lengths.tolist()):
        token_ids[row, :length] = encoded.ids_of([row])
    logits, probs = session.run(["logits", "probs"], {"token_ids": token_ids, "lengths": encoded.lengths})
    return logits, probs


def save_graph(classifier: Classifier, path: Path) -> None:
    """Write the graph; weights that are too large for one file go to `<name>.data` beside it."""
    import onnx

    graph = Graph()
    classifier_nodes(graph, classifier)
    n_labels = len(classifier.config.labels)
    model = graph.model(
        {"token_ids": ["texts", "tokens"], "lengths": ["texts"]},
        {"logits": ["texts", n_labels], "probs": ["texts", n_labels]},
    )
    if graph.n_bytes < MAX_IN_ONE_FILE:
        onnx.checker.check_model(model)
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=graph.n_bytes >= MAX_IN_ONE_FILE,
        location=f"{path.name}.data",
    )


def classifier_nodes(graph: Graph, classifier: Classifier) -> None:
    """Add everything from token_ids and lengths to logits and probs.

    Raises:
        SettingsError: the backbone's family cannot be exported to ONNX.
    """
    config, family = classifier.config, family_of(classifier.decoder.config)
    if family.onnx is None:
        raise SettingsError(f"there is no ONNX export for {family.title} yet; serve the run with lasttoken serve")
    decoder = family.onnx(graph, classifier.decoder)
    longest = graph.node("Gather", graph.node("Shape", "token_ids"), graph.weight(np.int64(1)), axis=0)
    positions = graph.node("Range", graph.weight(np.int64(0)), longest, graph.weight(np.int64(1)))
    x = decoder.embed("token_ids", positions)
    visible = graph.node("Less", positions, graph.node("Unsqueeze", "lengths", graph.integers(1)))  # [B, T]
    x = decoder.blocks(x, _mask(graph, visible, positions, config.causal_mask))
    if config.read in ("mean", "last+mean", "padded-mean"):
        hidden = decoder.final_norm(x)
        x = _mean(graph, hidden, _own(graph, visible, positions, config.not_averaged))
        if config.read == "last+mean":
            x = graph.node("Concat", _token(graph, hidden, "last"), x, axis=1)
    else:
        x = decoder.final_norm(_token(graph, x, config.read))
    logits = graph.linear(x, classifier.head)
    scaled = graph.node("Div", logits, graph.weight(np.float32(config.temperature)))
    graph.output("Identity", scaled, "logits")
    operator, attributes = PROBABILITIES[config.task.probability_function]
    graph.output(operator, scaled, "probs", **attributes)


def _mask(graph: Graph, visible: str, positions: str, causal: bool) -> str:
    """What is added to attention scores, [B, 1, T or 1, T]: 0 for visible tokens, far below 0 for the others."""
    visible = graph.node("Unsqueeze", visible, graph.integers(1, 2))
    if causal:
        before = graph.node("LessOrEqual", positions, graph.node("Unsqueeze", positions, graph.integers(1)))
        visible = graph.node("And", visible, before)
    return graph.node("Where", visible, graph.weight(np.float32(0)), graph.weight(FAR))


def _token(graph: Graph, x: str, read: str) -> str:
    """[B, T, C] -> [B, C]: the first token, or the last one of each text."""
    if read == "first":
        return graph.node("Gather", x, graph.weight(np.int64(0)), axis=1)
    last = graph.node("Sub", "lengths", graph.integers(1))
    return graph.node("GatherND", x, graph.node("Unsqueeze", last, graph.integers(1)), batch_dims=1)


def _own(graph: Graph, visible: str, positions: str, around: tuple[int, int]) -> str:
    """The visible tokens [B, T] that are not `around` their text, or all of them where there are no others."""
    if not any(around):
        return visible
    lengths = graph.node("Unsqueeze", "lengths", graph.integers(1))  # [B, 1]
    end = graph.node("Sub", lengths, graph.integers(around[1]))
    behind = graph.node("GreaterOrEqual", positions, graph.integers(around[0]))
    own = graph.node("And", behind, graph.node("Less", positions, end))
    is_empty = graph.node("LessOrEqual", lengths, graph.integers(sum(around)))
    return graph.node("Or", own, graph.node("And", is_empty, visible))


def _mean(graph: Graph, x: str, counted: str) -> str:
    """[B, T, C] -> [B, C]: the mean over the tokens that count."""
    from onnx import TensorProto

    weight = graph.node("Cast", counted, to=TensorProto.FLOAT)
    weighted = graph.node("Mul", x, graph.node("Unsqueeze", weight, graph.integers(2)))
    summed = graph.node("ReduceSum", weighted, graph.integers(1), keepdims=0)
    return graph.node("Div", summed, graph.node("ReduceSum", weight, graph.integers(1), keepdims=1))
