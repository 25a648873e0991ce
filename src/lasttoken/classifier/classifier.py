"""The classifier: a decoder split into a frozen trunk and a trained tail, and a linear head on one vector a text.

    token_ids ──► trunk ──► features ──► tail ──► logits [B, K]

    train_blocks   trunk                                  features         tail
    head           embeddings, all blocks, norm, pooling  [B, C or 2C]     head
    n = 1, 2, …    embeddings, first L-n blocks           [n_tokens, C]    last n blocks, norm, pooling, head
    lora           embeddings, first L-n blocks           [n_tokens, C]    the same; of the blocks only updates train
    all            nothing                                token ids        everything

Without dropout the trunk is a function of the text, so its features can be cached; `tail(trunk(x))` is the whole
classifier in each case. Pooling (`read` in the config): `last` takes the last token of the text, `first` the first, and
`mean` averages the final norm's output over the text's own tokens; `last+mean` concatenates both, so the head reads 2C
numbers; `padded-last` and `padded-mean` are `last` and `mean` of a text that was padded when it was encoded (chapter 6
of the book), the mean with the padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval, MinLen
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lasttoken.backbone.decoder import Decoder
from lasttoken.backbone.half import is_half, to_float32
from lasttoken.backbone.linear import Linear
from lasttoken.backbone.low_rank import LowRank
from lasttoken.backbone.mapped_pages import drop_mapped_pages
from lasttoken.backbone.packing import Packing
from lasttoken.classifier.lora import LoraConfig, add_updates, count_updates, draw_updates, updated_layers
from lasttoken.classifier.ngrams import Blend, NgramModel
from lasttoken.core.columns import ColumnSpec
from lasttoken.core.config import ENDS, PADDED, READS
from lasttoken.core.device import CPU, Device
from lasttoken.core.documents import STRICT, OneOf
from lasttoken.core.errors import SettingsError
from lasttoken.core.machine import memory_bytes
from lasttoken.evaluation.decision import MOST_PROBABLE, Decision
from lasttoken.evaluation.tasks.choice import task_of
from lasttoken.evaluation.tasks.task import Task

PACKED_FRACTION = 0.25  # of the machine's memory: the limit for the packed copies of a trunk's matrices
PACKED_FROM_HALF_BYTES = 1_000_000_000  # the limit for those of matrices stored in 16 bits; larger ones stay mapped
CONVERTING_BUDGETS = 4  # token budgets in a batch whose trunk is converted from 16 bits


@dataclass(frozen=True)
class ClassifierConfig:
    """Everything about a classifier except its weights; saved with them, and checked by these types when loaded."""

    __pydantic_config__ = STRICT

    labels: Annotated[tuple[Annotated[str, MinLen(1)], ...], MinLen(1)]  # K names; a label_id is an index into them
    read: Annotated[str, OneOf(READS)]
    causal_mask: bool
    max_length: Annotated[int, Ge(1)]  # tokens; longer texts are truncated
    truncate: Annotated[str, OneOf(ENDS)]  # the end that is removed: head or tail
    train_blocks: str  # head, a number, all, or lora
    end_of_text_id: Annotated[int, Ge(0)]
    backbone: str  # where the weights came from; never used for loading
    int8_trunk: bool = False  # the trunk computed in 8 bits in training, so it does in inference too
    temperature: Annotated[float, Interval(ge=1e-3, le=1e3)] = 1.0  # logits are divided by it; fitted on validation
    decision: Decision = MOST_PROBABLE  # from probabilities to a label
    separator: Annotated[str, MinLen(1)] | None = None  # between the labels of a text; None: each text has one label
    columns: ColumnSpec | None = None  # of the training data; None: it had no columns, or they are not known
    prefix_ids: tuple[Annotated[int, Ge(0)], ...] = ()  # before every text, and after it: the frame
    suffix_ids: tuple[Annotated[int, Ge(0)], ...] = ()
    prompt: str | None = None  # the template whose tokens are in them, for readers; None: only the backbone's own are
    blend: Blend | None = None  # with an n-gram model; None: the logits are the GPT's
    lora: LoraConfig | None = None  # where train_blocks is lora
    head_bias: bool = True  # whether the head has one; transformers' classifiers have none

    @property
    def task(self) -> Task:
        """Single-label or multi-label, and all that depends on it."""
        return task_of(self.labels, self.separator)

    @property
    def pads(self) -> bool:
        """Whether every text is padded to max_length, as chapter 6 does."""
        return self.read in PADDED

    @property
    def around(self) -> tuple[int, int]:
        """The numbers of tokens before and after every text."""
        return len(self.prefix_ids), len(self.suffix_ids)

    @property
    def not_averaged(self) -> tuple[int, int]:
        """The numbers of tokens at the start and end of every text that a mean leaves out: none of a padded text."""
        return (0, 0) if self.pads else self.around

    @property
    def n_frame(self) -> int:
        """The number of tokens that stand around every text; `max_length` counts them."""
        return sum(self.around)


class Classifier(nn.Module):
    """A decoder and a head. Only the tail's parameters have requires_grad."""

    head_update: LowRank | None

    def __init__(self, decoder: Decoder, config: ClassifierConfig, seed: int | None = None) -> None:
        """Put a head on a decoder, whose tail becomes trainable.

        `seed` draws the head's weights as torch.nn.Linear does after torch.manual_seed(seed), and then the updates of
        LoRA. With None weights are unset and there are no updates, because saved ones are about to be loaded.

        Raises:
            SettingsError: `train_blocks` or `max_length` is larger than the backbone allows.
        """
        super().__init__()
        self.config = config
        self.ngrams: NgramModel | None = None  # if the config has a blend
        self.checkpoints_activations = False  # training keeps the input of each block, and computes the rest again
        self.gpt = decoder  # under this name its tensors are in resume.safetensors
        n_layer = decoder.config.n_layer
        if config.train_blocks.isdigit() and int(config.train_blocks) > n_layer:
            blocks = f"{n_layer} block{'s' if n_layer > 1 else ''}"
            raise SettingsError(
                f"--train-blocks is {config.train_blocks}, but the classifier has {blocks}; use {n_layer} or all, or "
                "more blocks of the backbone (--depth)"
            )
        if config.max_length > decoder.config.n_positions:
            raise SettingsError(
                f"--max-length is {config.max_length}, but the backbone has {decoder.config.n_positions} "
                "positions; use that or less"
            )
        if config.max_length <= config.n_frame:
            raise SettingsError(
                f"--max-length is {config.max_length}, but {config.n_frame} tokens stand around every text "
                f"({'the prompt' if config.prompt else 'start and end tokens of the backbone'}); use "
                f"{config.n_frame + 1} or more{', or a shorter --prompt' if config.prompt else ''}"
            )
        n_inputs = pooled_width(config.read, decoder.config.n_embd)
        dtype = torch.promote_types(decoder.token_embedding.dtype, torch.float32)
        self.head = nn.Linear(n_inputs, len(config.labels), config.head_bias, device="meta", dtype=dtype)  # unset
        self.register_module("head_update", None)
        if seed is not None:
            self.head.to_empty(device="cpu")
            self._add_updates()
            self.draw(seed)
        self.requires_grad_(False)
        copied = []
        for module in self._trained_modules():
            for parameter in module.requires_grad_(True).parameters():
                # Contiguous like its gradients and moments, and the same layout as in inference.
                stored, parameter.data = parameter.data, to_float32(parameter.data).contiguous()
                if parameter.data_ptr() != stored.data_ptr():
                    copied.append(stored)
        drop_mapped_pages(copied)  # the pages of the file that were read for the copies

    def _add_updates(self) -> None:
        lora = self.config.lora
        if lora is not None:
            add_updates(self.decoder, lora)
            if lora.like_book:
                self.head_update = LowRank(self.head.weight, lora.rank, lora.factor)

    @torch.no_grad()
    def draw(self, seed: int) -> None:
        """Draw the head as torch.nn.Linear does after torch.manual_seed(seed), then the updates of LoRA.

        torch's global generator does not change.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            drawn = nn.Linear(self.head.in_features, self.head.out_features, self.config.head_bias)
            for parameter, fresh in zip(self.head.parameters(), drawn.parameters(), strict=True):
                parameter.copy_(fresh)
            if self.config.lora is not None:
                draw_updates(self._updates(), self.config.lora)

    @property
    def decoder(self) -> Decoder:
        """The backbone's network."""
        return self.gpt

    @property
    def n_frozen(self) -> int | None:
        """The number of blocks in the trunk; None: there is no trunk."""
        n_layer, blocks = self.decoder.config.n_layer, self.config.train_blocks
        if self.config.lora is not None:
            return n_layer - self.config.lora.blocks
        return {"head": n_layer, "all": None}[blocks] if not blocks.isdigit() else n_layer - int(blocks)

    @property
    def keeps_tokens(self) -> bool:
        """Whether features are one vector for each token; otherwise they are one for each text."""
        return self.config.train_blocks != "head"

    @property
    def feature_width(self) -> int:
        """Numbers in one vector of features: C for a token, or what the head reads for a text."""
        return self.decoder.config.n_embd if self.keeps_tokens else self.head.in_features

    def _updates(self) -> list[LowRank]:
        """The updates of LoRA, in the order in which they are drawn."""
        return [module for module in self.modules() if isinstance(module, LowRank)]

    def _trained_modules(self) -> list[nn.Module]:
        lora = self.config.lora
        if lora is None:
            return self._tail_modules()
        return [*self._updates(), *([self.decoder.final_norm] if lora.trains_norm else []), self.head]

    def _tail_modules(self) -> list[nn.Module]:
        if self.n_frozen is None:
            return [*self.decoder.embeddings, *self.decoder.blocks, self.decoder.final_norm, self.head]
        if not self.keeps_tokens:
            return [self.head]
        return [*self.decoder.blocks[self.n_frozen :], self.decoder.final_norm, self.head]

    def trained(self) -> dict[str, nn.Parameter]:
        """The tail's parameters by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def own_tail(self) -> None:
        """Give everything behind the trunk tensors of its own, where the decoder shares them with another one."""
        frozen = {id(tensor) for tensor in self.frozen_tensors().values()}
        for parameter in self.parameters():
            if id(parameter) not in frozen:
                parameter.data = parameter.data.clone()

    def n_trained(self) -> int:
        """How many numbers train or were trained, also of a loaded classifier."""
        lora, norm = self.config.lora, self.decoder.final_norm
        counted: list[nn.Module] = self._tail_modules()
        if lora is not None:
            counted = [self.head, *([norm] if lora.trains_norm else [])]
        whole = sum(parameter.numel() for module in counted for parameter in module.parameters())
        if lora is None:
            return whole
        head = lora.rank * sum(self.head.weight.shape) if lora.like_book else 0
        return whole + head + count_updates(self.decoder, lora)

    def merge(self) -> None:
        """Add the updates of LoRA to the weights and end them, once nothing is trained any more."""
        for name, layer in updated_layers(self.decoder).items():
            layer.merge()
            self.decoder.quantized.pop(f"{name}.weight", None)
        self.head.weight = nn.Parameter(self.head_weight.detach(), requires_grad=self.head.weight.requires_grad)
        self.head_update = None

    @property
    def head_weight(self) -> Tensor:
        """The head's weight [K, ·], with its update if it has one."""
        return self.head.weight if self.head_update is None else self.head_update.added_to(self.head.weight)

    def quantize_trunk(self) -> None:
        """Make the trunk's linear layers compute in 8 bits from now on; see backbone/int8.py."""
        for layers in self._trunk_layers():
            for layer in layers:
                layer.quantize()

    def _trunk_layers(self) -> list[list[Linear]]:
        """The linear layers of each block of the trunk."""
        blocks = self.decoder.blocks[: self.n_frozen or 0]
        return [[module for module in block.modules() if isinstance(module, Linear)] for block in blocks]

    def pack_trunk(self, n_processes: int = 1) -> None:
        """Copy the trunk's matrices into oneDNN's own layout, if that fits into memory (backbone/onednn.py).

        The results are the same to rounding. A trunk that is already packed is left alone. Matrices in 16 bits are
        packed in float32, so only those of a small trunk are. `n_processes`: how many do so on this machine.
        """
        blocks = [[layer for layer in layers if layer.can_pack] for layers in self._trunk_layers()]
        n_bytes = sum(4 * layer.weight.numel() for layers in blocks for layer in layers)
        limit = PACKED_FRACTION * memory_bytes() / n_processes
        if any(layer.converts for layers in blocks for layer in layers):
            limit = min(limit, PACKED_FROM_HALF_BYTES)
        if n_bytes <= limit:
            for layers in filter(None, blocks):
                for layer in layers:
                    layer.pack()
                drop_mapped_pages(layer.weight for layer in layers)  # after each block, so that peak memory stays low

    def unpack_trunk(self) -> None:
        """Give the packed copies back, and those in 8 bits: the trunk computes with its matrices themselves again."""
        for layers in self._trunk_layers():
            for layer in layers:
                layer.unpack()

    def pack_updated(self) -> None:
        """Copy the matrices with an update into oneDNN's own layout, if that fits into memory; 5 to 15 % faster."""
        layers = [layer for layer in updated_layers(self.decoder).values() if layer.can_pack]
        if sum(4 * layer.weight.numel() for layer in layers) <= PACKED_FRACTION * memory_bytes():
            for layer in layers:
                layer.pack()

    @property
    def stays_mapped(self) -> bool:
        """Whether the trunk's matrices are in 16 bits and too large to be packed in float32."""
        layers = [layer for layers in self._trunk_layers() for layer in layers if is_half(layer.weight)]
        return sum(4 * layer.weight.numel() for layer in layers) > PACKED_FROM_HALF_BYTES

    def token_budget(self, device: Device) -> int:
        """Tokens to compute at a time: more where each batch converts the trunk's matrices from 16 bits."""
        converts = device == CPU and any(layer.converts for layers in self._trunk_layers() for layer in layers)
        return device.token_budget * (CONVERTING_BUDGETS if converts else 1)

    def release_trunk(self) -> None:
        """Let the system reclaim the memory of the trunk's mapped matrices, which are read again when needed.

        Those in 16 bits are never written to.
        """
        drop_mapped_pages((tensor for tensor in self.frozen_tensors().values() if is_half(tensor)), never_written=True)

    def trunk_tensors(self) -> dict[str, Tensor]:
        """The tensors that features depend on, by name."""
        modules = [*self._tail_modules(), *self._updates()]
        tail = {id(parameter) for module in modules for parameter in module.parameters()}
        return {name: parameter for name, parameter in self.named_parameters() if id(parameter) not in tail}

    def frozen_tensors(self) -> dict[str, Tensor]:
        """The trunk's tensors by name. It works for a loaded classifier too, in which nothing requires gradients."""
        if self.n_frozen is None:
            return {}
        return self.decoder.front_tensors(self.n_frozen, with_final_norm=not self.keeps_tokens)

    def n_parameters(self) -> int:
        """How many numbers the classifier has; the updates of LoRA, which are merged in the end, do not count."""
        return sum(tensor.numel() for tensor in self.state_without_updates().values())

    def state_without_updates(self) -> dict[str, Tensor]:
        """All tensors by name, except for the updates of LoRA."""
        updates = {id(parameter) for update in self._updates() for parameter in update.parameters()}
        return {name: each.detach() for name, each in self.named_parameters() if id(each) not in updates}

    def unchanged_names(self) -> set[str]:
        """The decoder's parameters that no training changes or changed, by their names in it.

        Of blocks with LoRA these are the matrices without an update; of a merged classifier it is not known which
        these are, and all matrices count.
        """
        if self.config.lora is None:
            return set(self.frozen_tensors()) if self.n_frozen is not None else set()
        changed = {f"{name}.weight" for name in updated_layers(self.decoder)}
        names = self.decoder.front_tensors(
            self.decoder.config.n_layer, with_final_norm=not self.config.lora.trains_norm
        )
        return names.keys() - changed

    def trunk(self, token_ids: Tensor, packing: Packing) -> Tensor:
        """Packed token ids [n] -> features: [n, C], what the head reads [B, ·] if only it trains, or the ids."""
        if self.n_frozen is None:
            return token_ids
        return self.trunk_after(self.decoder.embed(token_ids, packing.positions), packing, 0)

    def trunk_after(self, x: Tensor, packing: Packing, n_blocks: int) -> Tensor:
        """What the trunk gives from the output [n, C] of its first `n_blocks` blocks."""
        if not self.keeps_tokens:
            return self._finish(x, packing, first=n_blocks)
        for block in self.decoder.blocks[n_blocks : self.n_frozen]:
            x = block(x, packing, self.config.causal_mask)
        return x

    def tail(self, features: Tensor, packing: Packing) -> Tensor:
        """Features from `trunk` -> logits [B, K]."""
        vectors = self.head_input(features, packing)
        with torch.autocast(vectors.device.type, enabled=False):
            return self._read(vectors.to(self.head.weight.dtype))

    def head_input(self, features: Tensor, packing: Packing) -> Tensor:
        """Features from `trunk` -> what the head reads, [B, C] or [B, 2C]."""
        if self.n_frozen is None:
            return self._finish(self.decoder.embed(features, packing.positions), packing, first=0)
        return self._finish(features, packing, first=self.n_frozen) if self.keeps_tokens else features

    def read_embedded(self, x: Tensor, packing: Packing) -> Tensor:
        """Input embeddings [n, C] -> logits [B, K]; differentiable with respect to x."""
        return self._read(self._finish(x, packing, first=0))

    def _read(self, vectors: Tensor) -> Tensor:
        return F.linear(vectors, self.head_weight, self.head.bias)

    def _finish(self, x: Tensor, packing: Packing, first: int) -> Tensor:
        """The blocks from `first` on, the final norm and the pooling: [n, C] -> [B, C], or [B, 2C] for last+mean."""
        causal = self.config.causal_mask
        for block in self.decoder.blocks[first:-1]:
            x = self._block(block, x, packing, causal)
        last = self.decoder.blocks[-1]
        if self.config.read in ("mean", "last+mean", "padded-mean"):
            hidden = self.decoder.final_norm(self._block(last, x, packing, causal))
            around = self.config.not_averaged
            return pool(hidden, packing, around) if self.config.read == "last+mean" else packing.mean(hidden, around)
        position = torch.zeros_like(packing.lengths) if self.config.read == "first" else packing.lengths - 1
        return self.decoder.final_norm(self._block(last.forward_at, x, packing, position, causal))  # type: ignore[no-any-return]

    def _block(self, compute: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """A block's output. With `checkpoints_activations`, only its input is kept for the backward pass.

        The backward pass then computes the block a second time: the same operations on the same numbers. Blocks draw
        no random numbers, so the generator's state is not saved.
        """
        if not (self.checkpoints_activations and torch.is_grad_enabled()):
            return compute(*inputs)
        return checkpoint(compute, *inputs, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]

    def forward(self, token_ids: Tensor, packing: Packing) -> Tensor:
        """Packed token ids [n] -> logits [B, K] of the GPT."""
        return self.tail(self.trunk(token_ids, packing), packing)

    def blended(self, logits: NDArray[np.float32], texts: Sequence[str] | None) -> NDArray[np.float32]:
        """The classifier's logits [N, K] from those of its GPT and the texts: the same where there is no blend."""
        if self.config.blend is None:
            return logits
        assert self.ngrams is not None
        assert texts is not None
        return self.config.blend.combine(logits, self.ngrams.logits(texts))

    def without_ngrams(self) -> None:
        """Make this the classifier of the GPT alone, with the temperature and the decision rule fitted for it."""
        blend, self.ngrams = self.config.blend, None
        if blend is not None:
            alone = {"temperature": blend.gpt_temperature, "decision": blend.gpt_decision, "blend": None}
            self.config = replace(self.config, **alone)  # type: ignore[arg-type]


def pooled_width(read: str, n_embd: int) -> int:
    """The numbers of a text that the head reads.

    >>> pooled_width("last", 256), pooled_width("last+mean", 256)
    (256, 512)
    """
    return 2 * n_embd if read == "last+mean" else n_embd


def pool(hidden: Tensor, packing: Packing, around: tuple[int, int]) -> Tensor:
    """The last token of each text beside the mean of the tokens inside its frame, [n, C] -> [B, 2C]."""
    return torch.cat((hidden[packing.starts + packing.lengths - 1], packing.mean(hidden, around)), dim=1)
