"""The random weights of chapter 6's script: torch's own initialization of GPT-2, drawn in the order of its constructor.

    torch.manual_seed(seed) ─► wte, wpe ─► of each block: query, key, value, out ─► first and second layer of the MLP

`nn.Embedding` draws normal numbers, `nn.Linear` uniform ones; the norms draw nothing. Queries, keys and values are
three layers there and one here. The 50,257-way output is drawn last and thrown away: the new head follows after another
torch.manual_seed, so it does not depend on it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lasttoken.backbone.gpt2.network import GPT2Config

Tensors = dict[str, Tensor]


def draw_book_weights(config: GPT2Config, seed: int) -> Tensors:
    """The state dict of a GPT-2 as the script draws it; torch's global generator does not change."""
    width, inner = config.n_embd, config.n_inner or 4 * config.n_embd
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        state: Tensors = {
            "wte.weight": nn.Embedding(config.vocab_size, width).weight,
            "wpe.weight": nn.Embedding(config.n_positions, width).weight,
        }
        for block in (f"h.{layer}" for layer in range(config.n_layer)):
            query_key_value = [nn.Linear(width, width) for _ in range(3)]
            for kind in ("weight", "bias"):
                state[f"{block}.attn.c_attn.{kind}"] = torch.cat([getattr(each, kind) for each in query_key_value])
            state |= _named(f"{block}.attn.c_proj", nn.Linear(width, width))
            state |= _named(f"{block}.mlp.c_fc", nn.Linear(width, inner))
            state |= _named(f"{block}.mlp.c_proj", nn.Linear(inner, width))
            state |= _named(f"{block}.ln_1", nn.LayerNorm(width)) | _named(f"{block}.ln_2", nn.LayerNorm(width))
        state |= _named("ln_f", nn.LayerNorm(width))
        if not config.tied:
            state |= _named("lm_head", nn.Linear(width, config.vocab_size, bias=False))
    return {name: tensor.detach() for name, tensor in state.items()}


def _named(prefix: str, module: nn.Module) -> Tensors:
    return {f"{prefix}.{name}": parameter for name, parameter in module.named_parameters()}
