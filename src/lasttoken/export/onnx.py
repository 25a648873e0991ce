"""A classifier as one ONNX graph, and what is needed beside it to read texts as the classifier does.

    token_ids [B, T] int64, lengths [B] int64 ──► logits [B, K] (at the temperature), probs [B, K]

Texts stand in rows, filled up on the right with anything: no token beyond a text's length is seen. Every reading, with
or without the causal mask, is kept. The graph is written node by node, so that no exporter and no trace decides what is
in it; opset 20 has GPT-2's GELU as one node.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.backbone.gpt2.network import Block
from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.predict import Predictor
from lasttoken.core.documents import to_json
from lasttoken.core.errors import SettingsError
from lasttoken.core.storage import write_text
from lasttoken.export.hf import PROBES, Exported, checked, logits_of, new_export, quiet

OPSET, IR_VERSION = 20, 9
MOST_IN_ONE_FILE = 1_500_000_000  # bytes; protobuf ends at 2 GiB
FAR = np.float32(-1e9)  # what a token adds to a score that must not be seen
ONNX, QUANTIZED = "model.onnx", "model.int8.onnx"

README = """# {name}

A text classifier for ONNX Runtime, exported from lasttoken. `{model}` takes `token_ids` [B, T] and `lengths` [B], both
int64, and gives `logits` and `probs` [B, K] in the order of `labels` in `classifier.json`. Texts are filled up on the
right with anything; what stands beyond a text's length is not read.

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
    for one in tokenizer.encode_batch(texts, add_special_tokens=False):
        ids = one.ids or [facts["end_of_text_id"]]
        ids = ids[: facts["max_length"]] if facts["truncate"] == "tail" else ids[-facts["max_length"] :]
        if facts["pads"]:
            ids = ids + [facts["end_of_text_id"]] * (facts["max_length"] - len(ids))
        rows.append(ids)
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    token_ids = np.zeros((len(rows), lengths.max()), dtype=np.int64)
    for at, row in enumerate(rows):
        token_ids[at, : len(row)] = row
    return session.run(["probs"], {{"token_ids": token_ids, "lengths": lengths}})[0]

probs = classify(["a text"])
print(dict(zip(facts["labels"], probs[0].tolist())))
```
{more}"""
INT8 = """
`model.int8.onnx` computes its products in 8 bits, with one scale for all numbers of a batch (ONNX Runtime's dynamic
quantization): what a text is batched with may change its answer a little. Of {n} texts one by one, {flips} got another
label than in float32; their probabilities differ by {largest:.3f} at most.
"""


@dataclass(frozen=True)
class Int8:
    """What 8 bits changed, of n texts each by itself."""

    n: int
    flips: int
    largest: float  # of probabilities


def export_onnx(run: Path, out: Path, int8: bool = False) -> tuple[Exported, Int8 | None]:
    """Write a run's classifier as ONNX, compare its logits with ONNX Runtime's, and perhaps add an int8 variant.

    Raises:
        SettingsError: onnx or onnxruntime is not installed, or the folder is there.
        RunError: not a finished run.
        FailedError: ONNX Runtime computes other logits.
    """
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise SettingsError(f"export --to onnx needs {missing[0]}; pip install '.[onnx]' in lasttoken's folder")
    predictor = Predictor.load(run, "cpu", "float32")
    if predictor.classifier.config.int8_trunk:
        raise SettingsError(
            "the classifier was trained on a trunk in 8 bits of its own, which ONNX has no node for; train without "
            "--precision int8, and pass it here"
        )
    found = None
    with new_export(out) as folder:
        save_graph(predictor.classifier, folder / ONNX)
        session = open_session(folder / ONNX)
        expected = logits_of(predictor, PROBES)
        difference = checked(run_session(session, predictor, PROBES)[0], expected, "ONNX Runtime")
        if int8:
            found = _quantize(folder, session, predictor)
        _write_beside(folder, predictor, run, found)
    return Exported(out, (), difference), found


def _write_beside(folder: Path, predictor: Predictor, run: Path, int8: Int8 | None) -> None:
    config = predictor.classifier.config
    facts = {
        "labels": list(config.labels),
        "multi_label": config.multi_label,
        "thresholds": {config.labels[at]: least for at, least in config.decision.thresholds},
        "abstain_below": config.decision.abstain_below,
        "max_length": config.max_length,
        "truncate": config.truncate,
        "pads": config.pads,
        "end_of_text_id": config.end_of_text_id,
    }
    write_text(folder / "classifier.json", to_json(facts, indent=1) + "\n")
    write_text(folder / "tokenizer.json", predictor.tokenizer.to_json())
    more = INT8.format(**vars(int8)) if int8 else ""
    write_text(folder / "README.md", README.format(name=run.resolve().name, model=ONNX, more=more))


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
        [run_session(one, predictor, (text,))[1] for one in (session, quantized)] for text in (*PROBES, *MORE_PROBES)
    ]
    flips = sum(int(a.argmax() != b.argmax()) for a, b in pairs)
    return Int8(len(pairs), flips, max(float(np.abs(a - b).max()) for a, b in pairs))


MORE_PROBES = tuple(
    f"{start} {end}" for start in ("Win a prize", "See you", "Your account") for end in ("now", "at 6", "!")
)


def open_session(path: Path) -> Any:
    """ONNX Runtime on the CPU."""
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


# The graph ----------------------------------------------------------------------------------------------------------


def save_graph(classifier: Classifier, path: Path) -> None:
    """Write the graph; weights beyond what one file can hold go beside it, to `<name>.data`."""
    import onnx

    graph = _Graph()
    graph.classifier(classifier)
    model = graph.model(len(classifier.config.labels))
    if graph.n_bytes < MOST_IN_ONE_FILE:
        onnx.checker.check_model(model)
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=graph.n_bytes >= MOST_IN_ONE_FILE,
        location=f"{path.name}.data",
    )


class _Graph:
    """Nodes and weights, as they are added. A method takes and gives names of values."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.n_bytes = 0
        self._n_values = 0

    def node(self, kind: str, *inputs: str, n_outputs: int = 1, **attributes: Any) -> str:
        """A node with one output, or the first of several (`name`, `name.1`, …)."""
        from onnx import helper

        self._n_values += 1
        name = f"{kind}_{self._n_values}"
        outputs = [name, *(f"{name}.{at}" for at in range(1, n_outputs))]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))
        return name

    def weight(self, value: Any) -> str:
        """A constant."""
        from onnx import numpy_helper

        array = np.array(value.detach().float().cpu().numpy() if hasattr(value, "detach") else value, order="C")
        self._n_values += 1
        name = f"w_{self._n_values}"
        self.n_bytes += array.nbytes
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def integers(self, *values: int) -> str:
        """A constant list of int64."""
        return self.weight(np.array(values, dtype=np.int64))

    def classifier(self, classifier: Classifier) -> None:
        """Everything, from token_ids and lengths to logits and probs."""
        gpt, config = classifier.decoder, classifier.config
        longest = self.node("Gather", self.node("Shape", "token_ids"), self.weight(np.int64(1)), axis=0)
        positions = self.node("Range", self.weight(np.int64(0)), longest, self.weight(np.int64(1)))
        tokens = self.node("Gather", self.weight(gpt.wte.weight), "token_ids", axis=0)
        x = self.node("Add", tokens, self.node("Gather", self.weight(gpt.wpe.weight), positions, axis=0))
        seen = self.node("Less", positions, self.node("Unsqueeze", "lengths", self.integers(1)))  # [B, T]
        hidden = self._mask(seen, positions, config.causal_mask)
        for block in gpt.blocks:
            x = self.block(x, block, gpt.config.n_head, hidden)
        x = self.norm(self._read(x, seen, config.read) if config.read != "mean" else x, gpt.ln_f)
        if config.read == "mean":
            x = self._mean(x, seen)
        logits = self.node(
            "Add", self.node("MatMul", x, self.weight(classifier.head.weight.t())), self.weight(classifier.head.bias)
        )
        scaled = self.node("Div", logits, self.weight(np.float32(config.temperature)))
        self._output("Identity", scaled, "logits")
        if config.multi_label:
            self._output("Sigmoid", scaled, "probs")
        else:
            self._output("Softmax", scaled, "probs", axis=-1)

    def _output(self, kind: str, value: str, name: str, **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, [value], [name], **attributes))

    def _mask(self, seen: str, positions: str, causal: bool) -> str:
        """What is added to scores [B, 1, T or 1, T]: nothing for tokens that are seen, much below 0 for the others."""
        visible = self.node("Unsqueeze", seen, self.integers(1, 2))
        if causal:
            before = self.node("LessOrEqual", positions, self.node("Unsqueeze", positions, self.integers(1)))
            visible = self.node("And", visible, before)
        return self.node("Where", visible, self.weight(np.float32(0)), self.weight(FAR))

    def block(self, x: str, block: Block, n_head: int, hidden: str) -> str:
        """[B, T, C] -> [B, T, C]."""
        width = block.ln_1.weight.shape[0]
        qkv = self.linear(self.norm(x, block.ln_1), block.attn.c_attn)
        heads = self.node("Reshape", qkv, self.integers(0, 0, 3, n_head, width // n_head))
        q = self.node("Split", self.node("Transpose", heads, perm=[2, 0, 3, 1, 4]), n_outputs=3, axis=0, num_outputs=3)
        first = self.integers(0)
        q, k, v = (self.node("Squeeze", one, first) for one in (q, f"{q}.1", f"{q}.2"))  # each [B, H, T, D]
        scale = self.weight(np.float32((width // n_head) ** -0.5))
        scores = self.node("MatMul", self.node("Mul", q, scale), self.node("Transpose", k, perm=[0, 1, 3, 2]))
        shares = self.node("Softmax", self.node("Add", scores, hidden), axis=-1)
        y = self.node("Transpose", self.node("MatMul", shares, v), perm=[0, 2, 1, 3])
        y = self.node("Reshape", y, self.integers(0, 0, width))
        x = self.node("Add", x, self.linear(y, block.attn.c_proj))
        inner = self.node("Gelu", self.linear(self.norm(x, block.ln_2), block.mlp.c_fc), approximate="tanh")
        return self.node("Add", x, self.linear(inner, block.mlp.c_proj))

    def norm(self, x: str, layer: Any) -> str:
        """LayerNorm over the last axis."""
        return self.node(
            "LayerNormalization", x, self.weight(layer.weight), self.weight(layer.bias), axis=-1, epsilon=layer.eps
        )

    def linear(self, x: str, layer: Any) -> str:
        """x·Wᵀ + b."""
        return self.node("Add", self.node("MatMul", x, self.weight(layer.weight.t())), self.weight(layer.bias))

    def _read(self, x: str, seen: str, read: str) -> str:
        """[B, T, C] -> [B, C]: the first token, or the last one of each text."""
        if read == "first":
            return self.node("Gather", x, self.weight(np.int64(0)), axis=1)
        last = self.node("Sub", "lengths", self.integers(1))
        return self.node("GatherND", x, self.node("Unsqueeze", last, self.integers(1)), batch_dims=1)

    def _mean(self, x: str, seen: str) -> str:
        from onnx import TensorProto

        share = self.node("Cast", seen, to=TensorProto.FLOAT)
        summed = self.node(
            "ReduceSum",
            self.node("Mul", x, self.node("Unsqueeze", share, self.integers(2))),
            self.integers(1),
            keepdims=0,
        )
        return self.node("Div", summed, self.node("ReduceSum", share, self.integers(1), keepdims=1))

    def model(self, n_labels: int) -> Any:
        """The whole model."""
        from onnx import TensorProto, helper

        ids = helper.make_tensor_value_info("token_ids", TensorProto.INT64, ["texts", "tokens"])
        lengths = helper.make_tensor_value_info("lengths", TensorProto.INT64, ["texts"])
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["texts", n_labels]) for name in ("logits", "probs")
        ]
        graph = helper.make_graph(self.nodes, "lasttoken", [ids, lengths], outputs, self.weights)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="lasttoken"
        )
