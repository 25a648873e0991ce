"""The classifier: a GPT cut into a frozen trunk and a trained tail, and a linear head on one token.

    token_ids ──► trunk ──► features ──► tail ──► logits [B, K]

    train_blocks   trunk                                 features         tail
    head           embeddings, all blocks, ln_f, read    [B, C]           head
    n = 1, 2, …    embeddings, first L-n blocks          [n_tokens, C]    last n blocks, ln_f, read, head
    all            nothing                               token ids        everything

With no dropout the trunk is a function of the text, so its features can be kept; `tail(trunk(x))` is the whole
classifier in each case. Reading: `last` the last token of the text, `first` the first, `mean` the mean of ln_f's
output over the text; `padded-last` is `last` of a text that was padded when it was encoded (chapter 6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Interval, MinLen
from torch import Tensor, nn

from lasttoken.backbone.gpt2.network import GPT2
from lasttoken.backbone.linear import Linear, drop_mapped_pages
from lasttoken.backbone.packing import Packing
from lasttoken.core.columns import ColumnSpec
from lasttoken.core.config import ENDS, READS
from lasttoken.core.device import memory_bytes
from lasttoken.core.documents import STRICT, OneOf
from lasttoken.core.errors import SettingsError
from lasttoken.evaluation.decision import MOST_PROBABLE, Decision

PACKED_PART = 0.25  # of the machine's memory: the most that a trunk's packed matrices may take


@dataclass(frozen=True)
class ClassifierConfig:
    """What a classifier is beside its weights. All of it is saved with them, and checked by these types when loaded."""

    __pydantic_config__ = STRICT

    labels: Annotated[tuple[Annotated[str, MinLen(1)], ...], MinLen(1)]  # K names; a label_id is an index into them
    read: Annotated[str, OneOf(READS)]
    causal_mask: bool
    max_length: Annotated[int, Ge(1)]  # tokens; longer texts are cut
    truncate: Annotated[str, OneOf(ENDS)]  # the end that is cut off: head or tail
    train_blocks: str  # head, a number, or all
    end_of_text_id: Annotated[int, Ge(0)]
    backbone: str  # where the weights came from; for people only
    int8_trunk: bool = False  # trained on a trunk that computes in 8 bits, so that it is served by the same one
    temperature: Annotated[float, Interval(ge=1e-3, le=1e3)] = 1.0  # logits are divided by it; fitted on validation
    decision: Decision = MOST_PROBABLE  # from probabilities to an answer
    separator: Annotated[str, MinLen(1)] | None = (
        None  # between the labels of a text that may have any number; None: it has one
    )
    columns: ColumnSpec | None = None  # where train had its texts and labels; None: not in columns, or not known

    @property
    def multi_label(self) -> bool:
        """Whether a text may have any number of labels: then each has a probability of its own."""
        return self.separator is not None

    @property
    def pads(self) -> bool:
        """Whether every text is filled up to max_length, as chapter 6 does."""
        return self.read == "padded-last"


class Classifier(nn.Module):
    """GPT + head. Only the tail's parameters have requires_grad."""

    def __init__(self, gpt: GPT2, config: ClassifierConfig, seed: int | None = None) -> None:
        """`seed`: of the head's weights, drawn as torch.nn.Linear draws them after torch.manual_seed(seed).

        None leaves them unset, for weights that are about to be loaded.

        Raises:
            SettingsError: more blocks to train, or longer texts, than the backbone has.
        """
        super().__init__()
        self.config = config
        self.gpt = gpt  # the name that its tensors have in resume.safetensors
        n_layer = gpt.config.n_layer
        if config.train_blocks.isdigit() and int(config.train_blocks) > n_layer:
            raise SettingsError(
                f"--train-blocks is {config.train_blocks}, but the backbone has {n_layer} blocks; use {n_layer} or all"
            )
        if config.max_length > gpt.config.n_positions:
            raise SettingsError(
                f"--max-length is {config.max_length}, but the backbone has {gpt.config.n_positions} "
                "positions; use that or less"
            )
        if seed is None:
            self.head = nn.Linear(gpt.config.n_embd, len(config.labels), device="meta")
        else:
            self.head = drawn_head(gpt.config.n_embd, len(config.labels), seed).to(gpt.wte.weight.dtype)
        self.requires_grad_(False)
        for module in self._tail_modules():
            for parameter in module.requires_grad_(True).parameters():
                parameter.data = parameter.data.contiguous()  # as its gradients and moments are; the same when served

    @property
    def decoder(self) -> GPT2:
        """The backbone's network."""
        return self.gpt

    @property
    def n_frozen(self) -> int | None:
        """k, the number of blocks in the trunk; None: there is no trunk."""
        n_layer, blocks = self.decoder.config.n_layer, self.config.train_blocks
        return {"head": n_layer, "all": None}[blocks] if not blocks.isdigit() else n_layer - int(blocks)

    @property
    def keeps_tokens(self) -> bool:
        """Whether features are one vector a token, not one a text."""
        return self.config.train_blocks != "head"

    def _tail_modules(self) -> list[nn.Module]:
        if self.n_frozen is None:
            return [self.decoder.wte, self.decoder.wpe, self.decoder.h, self.decoder.ln_f, self.head]
        if not self.keeps_tokens:
            return [self.head]
        return [*self.decoder.blocks[self.n_frozen :], self.decoder.ln_f, self.head]

    def trained(self) -> dict[str, nn.Parameter]:
        """The tail's parameters by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def quantize_trunk(self) -> None:
        """Let the trunk's linear layers compute in 8 bits, for good; see backbone/linear.py. The tail stays."""
        for block in self.decoder.blocks[: self.n_frozen or 0]:
            for module in block.modules():
                if isinstance(module, Linear):
                    module.quantize()

    def pack_trunk(self) -> None:
        """Copy the trunk's matrices into oneDNN's own layout, where that fits into memory; see backbone/linear.py.

        The results are the same to rounding. A trunk that is packed already stays so.
        """
        blocks = [
            [module for module in block.modules() if isinstance(module, Linear) and module.can_pack]
            for block in self.decoder.blocks[: self.n_frozen or 0]
        ]
        n_bytes = sum(layer.weight.nbytes for layers in blocks for layer in layers)
        if n_bytes <= PACKED_PART * memory_bytes():
            for layers in filter(None, blocks):
                for layer in layers:
                    layer.pack()
                drop_mapped_pages(layer.weight for layer in layers)  # block by block, so that the peak stays low

    def trunk_tensors(self) -> dict[str, Tensor]:
        """The tensors that features depend on, by name."""
        trained = self.trained()
        return {name: parameter for name, parameter in self.named_parameters() if name not in trained}

    def frozen_tensors(self) -> dict[str, Tensor]:
        """The trunk's tensors by name, of a loaded classifier too, in which nothing asks for gradients."""
        modules: dict[str, nn.Module] = {"wte": self.decoder.wte, "wpe": self.decoder.wpe}
        modules |= {f"h.{at}": block for at, block in enumerate(self.decoder.blocks[: self.n_frozen or 0])}
        modules |= {} if self.keeps_tokens else {"ln_f": self.decoder.ln_f}
        return {
            f"{name}.{inner}": tensor for name, module in modules.items() for inner, tensor in module.named_parameters()
        }

    def trunk(self, token_ids: Tensor, packing: Packing) -> Tensor:
        """Packed token ids [n] -> features: [n, C], [B, C] when only the head trains, or the ids themselves."""
        if self.n_frozen is None:
            return token_ids
        x = self.decoder.embed(token_ids, packing)
        if not self.keeps_tokens:
            return self._finish(x, packing, first=0)
        for block in self.decoder.blocks[: self.n_frozen]:
            x = block(x, packing, self.config.causal_mask)
        return x

    def tail(self, features: Tensor, packing: Packing) -> Tensor:
        """What `trunk` gave -> logits [B, K]."""
        if self.n_frozen is None:
            features = self._finish(self.decoder.embed(features, packing), packing, first=0)
        elif self.keeps_tokens:
            features = self._finish(features, packing, first=self.n_frozen)
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features.to(self.head.weight.dtype))  # type: ignore[no-any-return]

    def read_embedded(self, x: Tensor, packing: Packing) -> Tensor:
        """Input embeddings [n, C] -> logits [B, K], for those who ask for the gradient of x."""
        return self.head(self._finish(x, packing, first=0))  # type: ignore[no-any-return]

    def _finish(self, x: Tensor, packing: Packing, first: int) -> Tensor:
        """The blocks from `first` on, ln_f, and the reading: [n, C] -> [B, C]."""
        causal = self.config.causal_mask
        for block in self.decoder.blocks[first:-1]:
            x = block(x, packing, causal)
        last = self.decoder.blocks[-1]
        if self.config.read == "mean":
            return packing.mean(self.decoder.ln_f(last(x, packing, causal)))
        at = torch.zeros_like(packing.lengths) if self.config.read == "first" else packing.lengths - 1
        return self.decoder.ln_f(last.read(x, packing, at, causal))  # type: ignore[no-any-return]

    def forward(self, token_ids: Tensor, packing: Packing) -> Tensor:
        """Packed token ids [n] -> logits [B, K]."""
        return self.tail(self.trunk(token_ids, packing), packing)


def drawn_head(n_embd: int, n_labels: int, seed: int) -> nn.Linear:
    """A head as torch.nn.Linear draws it after torch.manual_seed(seed); the caller's generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(n_embd, n_labels)
