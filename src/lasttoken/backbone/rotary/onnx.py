"""The network with rotary positions as nodes of an ONNX graph.

Queries are [B, G, H/G, T, D], keys and values [B, G, 1, T, D], so that a head of keys serves its heads of queries by
broadcasting. Sines and cosines are computed from the positions inside the graph, once for each kind of block.
"""

from __future__ import annotations

import numpy as np

from lasttoken.backbone.onnx_graph import Graph
from lasttoken.backbone.rotary.attention import Attention
from lasttoken.backbone.rotary.network import MLP, NORMS, RotaryBlock, RotaryDecoder
from lasttoken.backbone.rotary.rope import Rotation, frequencies

HIDDEN = -1e9  # added to a score that is not to count


class RotaryOnnx:
    """See OnnxDecoder in family.py."""

    def __init__(self, graph: Graph, decoder: RotaryDecoder) -> None:
        self.graph, self.decoder, self.config = graph, decoder, decoder.config
        self.positions = ""
        self.tables: dict[Rotation, tuple[str, str]] = {}
        self.masks: dict[int, str] = {}  # by window

    def embed(self, token_ids: str, positions: str) -> str:
        """token_ids [B, T], positions [T] -> [B, T, C]."""
        graph = self.graph
        self.positions = graph.node("Cast", positions, to=1)  # float32
        x = graph.node("Gather", graph.weight(self.decoder.token_embedding), token_ids, axis=0)
        x = self._times(x, self.config.embedding_multiplier)
        return self._norm(x, "model.embed_norm") if self.config.embedding_norm else x

    def blocks(self, x: str, mask: str) -> str:
        """All blocks, [B, T, C] -> [B, T, C]."""
        mask = self.graph.node("Unsqueeze", mask, self.graph.integers(1))  # [B, 1, 1, T or 1, T]
        for layer, block in enumerate(self.decoder.blocks):
            assert isinstance(block, RotaryBlock)
            x = self._block(x, layer, block, mask)
        return x

    def final_norm(self, x: str) -> str:
        """[..., C] -> [..., C]."""
        return self._norm(x, "model.norm")

    def _block(self, x: str, layer: int, block: RotaryBlock, mask: str) -> str:
        prefix = f"{self.decoder.BLOCKS}.{layer}"
        has_norm = dict(block.named_children())
        before_attention, after_attention, before_mlp, after_mlp = (
            f"{prefix}.{name}" if name in has_norm else None for name in NORMS[self.config.norm_at]
        )
        y = self._attention(self._maybe_norm(x, before_attention), block.self_attn, mask)
        x = self._add(x, self._maybe_norm(y, after_attention))
        y = self._mlp(self._maybe_norm(x, before_mlp), block.mlp)
        return self._add(x, self._maybe_norm(y, after_mlp))

    def _attention(self, x: str, attention: Attention, mask: str) -> str:
        graph, n_groups = self.graph, attention.n_kv_heads
        q = self._heads(x, attention, "q", attention.n_head // n_groups)
        k, v = self._heads(x, attention, "k", 1), self._heads(x, attention, "v", 1)
        scores = graph.node("MatMul", self._times(q, attention.scale), graph.node("Transpose", k, perm=[0, 1, 2, 4, 3]))
        scores = graph.node("Add", scores, mask)
        if attention.window:
            scores = graph.node("Add", scores, self._window(attention.window))
        y = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), v)
        y = graph.node("Transpose", y, perm=[0, 3, 1, 2, 4])
        y = graph.node("Reshape", y, graph.integers(0, 0, attention.n_head * attention.head_dim))
        return graph.linear(y, attention.o_proj)

    def _heads(self, x: str, attention: Attention, name: str, n: int) -> str:
        """Queries, keys or values, [B, T, C] -> [B, G, n, T, D], with their norm and rotation."""
        graph, size = self.graph, attention.head_dim
        y = graph.linear(x, attention.get_submodule(f"{name}_proj"))
        norm = f"{name}_norm" if attention.qk_norm != "none" and name != "v" else None
        if norm and attention.qk_norm == "full":
            y = self._rms_or_layer(y, attention.get_submodule(norm))
        y = graph.node("Reshape", y, graph.integers(0, 0, attention.n_kv_heads, n, size))
        if norm and attention.qk_norm == "head":
            y = self._rms_or_layer(y, attention.get_submodule(norm))
        y = graph.node("Transpose", y, perm=[0, 2, 3, 1, 4])
        return y if name == "v" or attention.rotation is None else self._rotate(y, attention.rotation)

    def _rotate(self, x: str, rotation: Rotation) -> str:
        graph = self.graph
        if rotation not in self.tables:
            column = graph.node("Unsqueeze", self.positions, graph.integers(1))
            angles = graph.node("Mul", column, graph.weight(frequencies(rotation.rope, rotation.head_dim)))
            factor = rotation.rope.attention_factor
            cos, sin = (self._times(graph.node(kind, angles), factor) for kind in ("Cos", "Sin"))
            self.tables[rotation] = (cos, sin)  # each [T, D/2]
        cos, sin = self.tables[rotation]
        first = graph.node("Split", x, n_outputs=2, axis=-1, num_outputs=2)
        second = f"{first}.1"
        turned = (
            graph.node("Sub", graph.node("Mul", first, cos), graph.node("Mul", second, sin)),
            graph.node("Add", graph.node("Mul", second, cos), graph.node("Mul", first, sin)),
        )
        return graph.node("Concat", *turned, axis=-1)

    def _window(self, window: int) -> str:
        """What is added to scores so that no token sees further than the window, [T, T]."""
        graph = self.graph
        if window not in self.masks:
            rows, columns = (graph.node("Unsqueeze", self.positions, graph.integers(axis)) for axis in (1, 0))
            distance = graph.node("Abs", graph.node("Sub", rows, columns))
            is_far = graph.node("Cast", graph.node("GreaterOrEqual", distance, self._constant(window)), to=1)
            self.masks[window] = graph.node("Mul", is_far, self._constant(HIDDEN))
        return self.masks[window]

    def _mlp(self, x: str, mlp: MLP) -> str:
        graph = self.graph
        gate = graph.linear(x, mlp.gate_proj)
        if mlp.activation == "silu":
            gate = graph.node("Mul", gate, graph.node("Sigmoid", gate))
        else:
            gate = graph.node("Gelu", gate, approximate="tanh" if mlp.activation == "gelu_tanh" else "none")
        return graph.linear(graph.node("Mul", gate, graph.linear(x, mlp.up_proj)), mlp.down_proj)

    def _maybe_norm(self, x: str, name: str | None) -> str:
        return x if name is None else self._norm(x, name)

    def _norm(self, x: str, name: str) -> str:
        return self._rms_or_layer(x, self.decoder.get_submodule(name))

    def _rms_or_layer(self, x: str, norm: object) -> str:
        """A norm over the last axis."""
        graph, config = self.graph, self.config
        weight = getattr(norm, "weight").detach()  # noqa: B009
        if config.norm == "layer":
            return graph.node("LayerNormalization", x, graph.weight(weight), axis=-1, epsilon=config.norm_epsilon)
        mean = graph.node("ReduceMean", graph.node("Mul", x, x), graph.integers(-1), keepdims=1)
        length = graph.node("Sqrt", graph.node("Add", mean, self._constant(config.norm_epsilon)))
        scale = graph.weight(weight + 1 if config.norm_plus_one else weight)
        return graph.node("Mul", graph.node("Div", x, length), scale)

    def _add(self, x: str, y: str) -> str:
        return self.graph.node("Add", x, self._times(y, self.config.residual_multiplier))

    def _times(self, x: str, factor: float) -> str:
        return x if factor == 1 else self.graph.node("Mul", x, self._constant(factor))

    def _constant(self, value: float) -> str:
        return self.graph.weight(np.float32(value))
