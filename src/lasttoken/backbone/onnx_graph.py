"""An ONNX graph, written node by node, so that no exporter and no trace decides what is in it.

A method of `Graph` takes and returns names of values. `onnx` is imported where it is used: it is an extra.
"""

from __future__ import annotations

from typing import Any

import numpy as np

OPSET, IR_VERSION = 20, 9  # from opset 20 on, GELU in its tanh form is one node


class Graph:
    """Nodes and weights, in the order in which they were added."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.n_bytes = 0  # of all weights
        self._n_values = 0

    def node(self, kind: str, *inputs: str, n_outputs: int = 1, **attributes: Any) -> str:
        """Add a node; returns its output, or the first of several (`name`, `name.1`, …)."""
        from onnx import helper

        self._n_values += 1
        name = f"{kind}_{self._n_values}"
        outputs = [name, *(f"{name}.{index}" for index in range(1, n_outputs))]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))
        return name

    def output(self, kind: str, value: str, name: str, **attributes: Any) -> None:
        """Add a node whose result is an output of the graph, under its own name."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, [value], [name], **attributes))

    def weight(self, value: Any) -> str:
        """Add a constant: a tensor, which becomes float32, or an array of NumPy."""
        from onnx import numpy_helper

        array = np.array(value.detach().float().cpu().numpy() if hasattr(value, "detach") else value, order="C")
        self._n_values += 1
        name = f"w_{self._n_values}"
        self.n_bytes += array.nbytes
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def integers(self, *values: int) -> str:
        """Add a constant list of int64."""
        return self.weight(np.array(values, dtype=np.int64))

    def linear(self, x: str, layer: Any) -> str:
        """x·Wᵀ + b of a torch.nn.Linear, [..., in] -> [..., out]."""
        y = self.node("MatMul", x, self.weight(layer.weight.t()))
        return y if layer.bias is None else self.node("Add", y, self.weight(layer.bias))

    def layer_norm(self, x: str, layer: Any) -> str:
        """A torch.nn.LayerNorm over the last axis."""
        return self.node(
            "LayerNormalization", x, self.weight(layer.weight), self.weight(layer.bias), axis=-1, epsilon=layer.eps
        )

    def model(self, inputs: dict[str, list[str]], outputs: dict[str, list[str | int]]) -> Any:
        """The whole model, with the shapes of its int64 inputs and float32 outputs; a name in a shape is any size."""
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            self.nodes,
            "lasttoken",
            [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            self.weights,
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="lasttoken"
        )
