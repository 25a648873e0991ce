"""GPT-2's network as nodes of an ONNX graph."""

from __future__ import annotations

import numpy as np

from lasttoken.backbone.gpt2.network import GPT2, GPT2Block
from lasttoken.backbone.onnx_graph import Graph


class GPT2Onnx:
    """See OnnxDecoder in family.py."""

    def __init__(self, graph: Graph, decoder: GPT2) -> None:
        self.graph, self.decoder = graph, decoder

    def embed(self, token_ids: str, positions: str) -> str:
        """token_ids [B, T], positions [T] -> [B, T, C]."""
        graph, decoder = self.graph, self.decoder
        tokens = graph.node("Gather", graph.weight(decoder.wte.weight), token_ids, axis=0)
        return graph.node("Add", tokens, graph.node("Gather", graph.weight(decoder.wpe.weight), positions, axis=0))

    def blocks(self, x: str, mask: str) -> str:
        """All blocks, [B, T, C] -> [B, T, C]."""
        for block in self.decoder.h:
            assert isinstance(block, GPT2Block)
            x = self._block(x, block, mask)
        return x

    def final_norm(self, x: str) -> str:
        """[..., C] -> [..., C]."""
        return self.graph.layer_norm(x, self.decoder.ln_f)

    def _block(self, x: str, block: GPT2Block, mask: str) -> str:
        graph, n_head, width = self.graph, self.decoder.config.n_head, self.decoder.config.n_embd
        qkv = graph.linear(graph.layer_norm(x, block.ln_1), block.attn.c_attn)
        heads = graph.node("Reshape", qkv, graph.integers(0, 0, 3, n_head, width // n_head))
        parts = graph.node(
            "Split", graph.node("Transpose", heads, perm=[2, 0, 3, 1, 4]), n_outputs=3, axis=0, num_outputs=3
        )
        first_axis = graph.integers(0)
        q, k, v = (graph.node("Squeeze", part, first_axis) for part in (parts, f"{parts}.1", f"{parts}.2"))
        scale = graph.weight(np.float32((width // n_head) ** -0.5))  # q, k, v are each [B, H, T, D]
        scores = graph.node("MatMul", graph.node("Mul", q, scale), graph.node("Transpose", k, perm=[0, 1, 3, 2]))
        attention = graph.node("Softmax", graph.node("Add", scores, mask), axis=-1)
        y = graph.node("Transpose", graph.node("MatMul", attention, v), perm=[0, 2, 1, 3])
        y = graph.node("Reshape", y, graph.integers(0, 0, width))
        x = graph.node("Add", x, graph.linear(y, block.attn.c_proj))
        inner = graph.node("Gelu", graph.linear(graph.layer_norm(x, block.ln_2), block.mlp.c_fc), approximate="tanh")
        return graph.node("Add", x, graph.linear(inner, block.mlp.c_proj))
