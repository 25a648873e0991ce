"""Nodes of an ONNX graph, run by ONNX Runtime and compared with torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lasttoken.backbone.onnx_graph import Graph

onnxruntime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install '.[onnx]'")


def run(graph: Graph, outputs: dict[str, list[str | int]], **inputs: Any) -> list[np.ndarray]:
    model = graph.model({name: ["rows"] for name in inputs}, outputs)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results: list[np.ndarray] = session.run(list(outputs), {name: np.array(value) for name, value in inputs.items()})
    return results


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_and_a_norm_are_torchs(bias: bool) -> None:
    torch.manual_seed(0)
    table, layer, norm = nn.Embedding(9, 6), nn.Linear(6, 4, bias=bias), nn.LayerNorm(6, eps=0.1)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    graph = Graph()
    x = graph.node("Gather", graph.weight(table.weight), "ids", axis=0)
    graph.output("Identity", graph.linear(graph.layer_norm(x, norm), layer), "y")
    (y,) = run(graph, {"y": ["rows", 4]}, ids=[3, 1, 8])
    with torch.no_grad():
        expected = layer(norm(table(torch.tensor([3, 1, 8]))))
    np.testing.assert_allclose(y, expected.numpy(), atol=1e-5)


def test_a_node_with_several_outputs_names_each() -> None:
    graph = Graph()
    parts = graph.node("Split", "ids", n_outputs=2, axis=0, num_outputs=2)
    for number, part in enumerate((parts, f"{parts}.1")):
        graph.output("Cast", part, f"part{number}", to=1)
    first, second = run(graph, {"part0": ["half"], "part1": ["half"]}, ids=[5, 6, 7, 8])
    assert (first.tolist(), second.tolist()) == ([5, 6], [7, 8])


def test_the_bytes_of_all_weights_are_counted() -> None:
    graph = Graph()
    graph.weight(torch.zeros(3, 5, dtype=torch.float64))  # becomes float32
    graph.integers(1, 2)
    assert graph.n_bytes == 3 * 5 * 4 + 2 * 8
