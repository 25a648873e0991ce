"""The ONNX graph of each family against the network itself, by onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rotary_miniatures import ROTARY_MINIATURES

from lasttoken.backbone.onnx_graph import Graph
from lasttoken.backbone.packing import Packing
from lasttoken.backbone.rotary.network import RotaryDecoder
from lasttoken.backbone.rotary.onnx import RotaryOnnx

onnxruntime = pytest.importorskip("onnxruntime")
LENGTH = 11


@torch.no_grad()
@pytest.mark.parametrize("model_type", sorted(ROTARY_MINIATURES))
def test_the_graph_computes_the_hidden_states_of_the_network(model_type: str) -> None:
    config = ROTARY_MINIATURES[model_type]
    decoder, generator = RotaryDecoder(config), torch.Generator().manual_seed(1)
    for parameter in decoder.parameters():
        mean = 0.5 if parameter.dim() == 1 else 0.0
        parameter.copy_(torch.empty(parameter.shape).normal_(mean, 0.2, generator=generator))
    token_ids = torch.randint(config.vocab_size, (2, LENGTH), generator=generator)
    graph = Graph()
    network = RotaryOnnx(graph, decoder)
    hidden = np.where(np.tri(LENGTH), 0, -1e9).astype(np.float32)[None, None]
    x = network.embed("token_ids", graph.weight(np.arange(LENGTH, dtype=np.int64)))
    x = network.final_norm(network.blocks(x, graph.weight(hidden)))
    graph.output("Identity", x, "hidden")
    model = graph.model({"token_ids": ["B", "T"]}, {"hidden": ["B", "T", config.n_embd]})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (ours,) = session.run(None, {"token_ids": token_ids.numpy()})
    expected = decoder(token_ids.flatten(), Packing([LENGTH, LENGTH])).view(2, LENGTH, -1)
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-4, rtol=0)
