"""A plain rewrite of the experiment script of chapter 6, in torch alone: the truth that the book's recipe is held to.

    options of a row ─► ScriptGPT, its head, what of it trains ─► loaders ─► the script's loop ─► losses, evaluations

It is written in words of our own, the way the script works: each projection is a layer, every text is padded to one
length, all positions get logits, and all random numbers come from torch's global generator. Parameters become float64
once they are drawn. `eval_every` and the learning rate are arguments, because a miniature has few steps.
"""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

SEED, EVALUATED_BATCHES = 123, 5
FIRST, LAST, FLEXIBLE = "first", "last", "flexible"
Example = tuple[Tensor, int]


def parse_options(words: str) -> argparse.Namespace:
    """The script's 14 options."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_size", default="gpt2-small (124M)")
    parser.add_argument("--weights", choices=("pretrained", "random"), default="pretrained")
    layers = ("all", "last_block", "last_two_blocks", "last_layer", "lora", "lora_alternative")
    parser.add_argument("--trainable_layers", choices=layers, default="last_block")
    parser.add_argument("--trainable_token_pos", choices=(FIRST, LAST, FLEXIBLE), default=LAST)
    parser.add_argument("--average_embeddings", action="store_true")
    parser.add_argument("--context_length", default="longest_training_example")
    parser.add_argument("--lora_rank", type=int, default=8)
    parser.add_argument("--lora_alpha", type=int, default=8)
    parser.add_argument("--no_padding", action="store_true")
    parser.add_argument("--num_epochs", type=int, default=5)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--accumulation_steps", type=int, default=1)
    parser.add_argument("--disable_causal_mask", action="store_true")
    parser.add_argument("--ignore_index", type=int, default=-100)  # parsed, and then not used
    return parser.parse_args(shlex.split(words))


@dataclass(frozen=True)
class Shape:
    """The sizes of a GPT-2."""

    vocab_size: int
    n_positions: int
    width: int
    n_layer: int
    n_head: int


class ScriptBlock(nn.Module):
    """A transformer block with a layer for each projection."""

    def __init__(self, shape: Shape, causal: bool) -> None:
        super().__init__()
        self.n_head, self.causal, width = shape.n_head, causal, shape.width
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, C]."""
        x = x + self.out(self.attend(self.norm_1(x)))
        return x + self.narrow(F.gelu(self.widen(self.norm_2(x)), approximate="tanh"))  # type: ignore[no-any-return]

    def attend(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, C]."""
        n_texts, length, width = x.shape
        split = (n_texts, length, self.n_head, width // self.n_head)
        q, k, v = (layer(x).view(split).transpose(1, 2) for layer in (self.query, self.key, self.value))
        scores = q @ k.transpose(2, 3) / math.sqrt(split[-1])
        if self.causal:
            scores = scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -math.inf)
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(n_texts, length, width)  # type: ignore[no-any-return]


class ScriptGPT(nn.Module):
    """The script's GPT-2, whose output layer becomes the head."""

    def __init__(self, shape: Shape, causal: bool) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape.vocab_size, shape.width)
        self.positions = nn.Embedding(shape.n_positions, shape.width)
        self.blocks = nn.Sequential(*[ScriptBlock(shape, causal) for _ in range(shape.n_layer)])
        self.norm = nn.LayerNorm(shape.width)
        self.output: nn.Module = nn.Linear(shape.width, shape.vocab_size, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """[B, T] -> logits [B, T, K]."""
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        return self.output(self.norm(self.blocks(x)))  # type: ignore[no-any-return]

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of GPT-2's state dict, in which queries, keys and values are one matrix."""
        own = {
            "tokens.weight": state["wte.weight"],
            "positions.weight": state["wpe.weight"],
            "norm.weight": state["ln_f.weight"],
            "norm.bias": state["ln_f.bias"],
            "output.weight": state["wte.weight"],
        }
        names = {"attn.c_proj": "out", "mlp.c_fc": "widen", "mlp.c_proj": "narrow", "ln_1": "norm_1", "ln_2": "norm_2"}
        for at in range(len(self.blocks)):
            for kind in ("weight", "bias"):
                parts = state[f"h.{at}.attn.c_attn.{kind}"].chunk(3)
                own |= {f"blocks.{at}.{name}.{kind}": part for name, part in zip(("query", "key", "value"), parts)}  # noqa: B905
                own |= {f"blocks.{at}.{ours}.{kind}": state[f"h.{at}.{name}.{kind}"] for name, ours in names.items()}
        self.load_state_dict(own)


class WithLora(nn.Module):
    """A linear layer beside an update of low rank, scaled by alpha itself."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.linear, self.alpha = linear, alpha
        self.a = nn.Parameter(torch.empty(linear.in_features, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        self.b = nn.Parameter(torch.zeros(rank, linear.out_features))

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return self.linear(x) + self.alpha * (x @ self.a @ self.b)  # type: ignore[no-any-return]


def wrap_linear_layers(module: nn.Module, rank: int, alpha: float) -> None:
    """Give every linear layer inside a module an update."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, WithLora(child, rank, alpha))
        else:
            wrap_linear_layers(child, rank, alpha)


def build_model(options: argparse.Namespace, shape: Shape, pretrained: Mapping[str, Tensor]) -> ScriptGPT:
    """The model of a row before its training; only what trains requires gradients."""
    if options.weights == "random":
        torch.manual_seed(SEED)
    model = ScriptGPT(shape, causal=not options.disable_causal_mask)
    if options.weights == "pretrained":
        model.load(pretrained)
    model.requires_grad_(False)
    torch.manual_seed(SEED)
    model.output = nn.Linear(shape.width, 2)
    n_blocks = {"last_block": 1, "last_two_blocks": 2}.get(options.trainable_layers, 0)
    for module in [*list(model.blocks)[shape.n_layer - n_blocks :], model.norm] if n_blocks else []:
        module.requires_grad_(True)
    if options.trainable_layers == "all":
        model.requires_grad_(True)
    if options.trainable_layers.startswith("lora"):
        wrap_linear_layers(model, options.lora_rank, options.lora_alpha)
    return model.double()


@dataclass
class Script:
    """The script's loop over encoded splits; `losses` has every batch's, `evaluations` what is printed."""

    options: argparse.Namespace
    model: ScriptGPT
    splits: Mapping[str, Sequence[tuple[list[int], int]]]  # token ids and label id of each text
    pad_id: int
    losses: list[float] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loaders = {name: self._loader(name) for name in self.splits}

    def _loader(self, name: str) -> DataLoader[Example]:
        """A shuffled loader of whole batches for train, and one in order for the others."""
        options, n_positions = self.options, self.model.positions.num_embeddings
        longest = max(len(ids) for ids, _ in self.splits["train"])
        length = n_positions if options.context_length == "model_context_length" else longest
        examples: list[Example] = []
        for ids, label_id in self.splits[name]:
            padded = ids if options.no_padding else ids[:length] + [self.pad_id] * (length - len(ids))
            examples.append((torch.tensor(padded), label_id))
        is_train = name == "train"
        return DataLoader(examples, options.batch_size, shuffle=is_train, drop_last=is_train)  # type: ignore[arg-type]

    def logits(self, ids: Tensor) -> Tensor:
        """[B, T] -> [B, 2]."""
        logits = self.model(ids)
        if self.options.trainable_token_pos == FLEXIBLE:
            return logits[torch.arange(len(ids)), (ids != self.pad_id).sum(1) - 1]  # type: ignore[no-any-return]
        if self.options.average_embeddings:
            return logits.mean(1)  # type: ignore[no-any-return]
        return logits[:, 0 if self.options.trainable_token_pos == FIRST else -1]  # type: ignore[no-any-return]

    def run(self, n_epochs: int, learning_rate: float, eval_every: int) -> None:
        """Train."""
        torch.manual_seed(SEED)
        optimizer = torch.optim.AdamW(self.model.parameters(), learning_rate, weight_decay=0.1)
        step, n, loader = -1, self.options.accumulation_steps, self.loaders["train"]
        for _ in range(n_epochs):
            for number, (ids, label_ids) in enumerate(loader, 1):
                loss = F.cross_entropy(self.logits(ids), label_ids)
                self.losses.append(loss.item())
                (loss / n).backward()
                if number % n == 0 or number == len(loader):
                    optimizer.step()
                    optimizer.zero_grad()
                step += 1
                if step % eval_every == 0:
                    self.evaluations.append({f"{name}_loss": self.loss(name) for name in ("train", "validation")})
            self.evaluations.append({f"{name}_accuracy": self.accuracy(name) for name in ("train", "validation")})

    @torch.no_grad()
    def loss(self, name: str) -> float:
        """The mean over batches of their mean losses."""
        batches = self._first(name)
        return sum(F.cross_entropy(self.logits(ids), label_ids).item() for ids, label_ids in batches) / len(batches)

    @torch.no_grad()
    def accuracy(self, name: str) -> float:
        """The fraction of texts that are predicted correctly."""
        right = [self.logits(ids).argmax(-1) == label_ids for ids, label_ids in self._first(name)]
        return float(torch.cat(right).double().mean())

    def _first(self, name: str) -> list[list[Tensor]]:
        """The first batches of a new pass over a loader."""
        return [batch for batch, _ in zip(self.loaders[name], range(EVALUATED_BATCHES))]  # noqa: B905
