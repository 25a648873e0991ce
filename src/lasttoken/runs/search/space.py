"""The settings that a search tries: which ones, which values, and how a trial's values become settings.

    settings of the default run, with what the user gave ──► Space ──► parameters of each rung
    {"method": "tail", "frozen": 12, "train_blocks": 2, …} ──► Settings with depth 14, train_blocks "2", …

What the user gives is fixed and leaves the space. The ranges lie around the default values, which are part of it, so
the first trials are the default settings themselves. A tail is described by the blocks that stay frozen, because these
are where features are kept; its depth is the frozen blocks and the trained ones together.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lasttoken.core.config import START_HEADS, Settings, flag_of
from lasttoken.core.errors import SettingsError, one_of
from lasttoken.core.lora import ALPHA_PER_RANK, LORA

SEARCHED = (
    "method",
    "depth",
    "train_blocks",
    "learning_rate",
    "epochs",
    "batch_size",
    "weight_decay",
    "read",
    "start_head",
    "lora_rank",
    "lora_blocks",
)
RUNGS = ("linear", "tail", "lora")  # the method of a trial; the last two are the setting tail
POOLINGS = ("last", "mean", "last+mean")
BLOCKS = (1, 2, 3, 4, 6, 8, 12)
BATCHES = (8, 16, 32, 64)
RANKS = (4, 8, 16, 32)
WEIGHT_DECAYS = (0.01, 1.0)
CUTS_BELOW, CUTS_ABOVE = 2, 1  # places below and above the default one where the trunk may end
MOST_COST = 1.5  # blocks times epochs of a trial, to those of the default tail
MOST_COST_OF_FEW = 1.0  # where the default itself trains many blocks many times
MANY_PASSES = 24  # blocks times epochs from which that is so

Value = str | int | float
Parameters = dict[str, Value]


@dataclass(frozen=True)
class Choice:
    """A parameter with a few values."""

    values: tuple[Value, ...]


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`; `log`: on a logarithmic scale; `step`: whole numbers so far apart."""

    low: float
    high: float
    log: bool = False
    step: int | None = None


@dataclass(frozen=True)
class Space:
    """What is searched around the default settings of each method."""

    defaults: dict[str, Settings]  # by rung, with nothing left open; the one that the default run kept comes first
    parameters: dict[str, dict[str, Choice | Range]]  # of each rung
    n_blocks: int  # of the backbone
    fixed: frozenset[str] = frozenset()  # settings that the user gave

    @property
    def rungs(self) -> tuple[str, ...]:
        """The rungs that are tried."""
        return tuple(self.defaults)

    @property
    def cuts(self) -> tuple[int, ...]:
        """The numbers of frozen blocks after which tails need features."""
        return tuple(sorted({cut for rung in self.rungs if rung != "linear" for cut in self._cuts_of(rung)}))

    def _cuts_of(self, rung: str) -> list[int]:
        frozen, default = self.parameters[rung].get("frozen"), self.defaults[rung]
        if isinstance(frozen, Range):
            return list(range(int(frozen.low), int(frozen.high) + 1, frozen.step or 1))
        blocks = self.parameters[rung].get(blocks_name(rung))
        if isinstance(blocks, Choice):
            return [self._depth(rung) - int(n) for n in blocks.values]
        trained = trained_blocks(default, self.n_blocks)
        return [self._depth(rung) - trained] if trained is not None else []

    @property
    def depths(self) -> tuple[int, ...]:
        """The depths at which linear heads read."""
        if "linear" not in self.defaults:
            return ()
        depth = self.parameters["linear"].get("depth")
        return tuple(int(n) for n in depth.values) if isinstance(depth, Choice) else (self._depth("linear"),)

    @property
    def size(self) -> float:
        """The number of settings; infinite where any number of a range may be tried."""
        return sum(math.prod(map(_n_values, parameters.values())) for parameters in self.parameters.values())

    def _depth(self, rung: str) -> int:
        return self.defaults[rung].n_blocks or self.n_blocks

    def settings(self, parameters: Mapping[str, Value]) -> Settings:
        """The settings of a trial; `parameters` has its rung as `method`, and the parameters of that rung."""
        values: dict[str, Any] = dict(parameters)
        rung = values.pop("method", self.rungs[0])
        default, name = self.defaults[rung], blocks_name(rung)
        if rung != "linear" and ("frozen" in values or name in values):
            frozen = values.pop("frozen", None)
            trained = int(values.get(name) or trained_blocks(default, self.n_blocks) or 0)
            depth = self._depth(rung) if frozen is None else min(frozen + trained, self.n_blocks)
            values["depth"] = depth
            values[name] = str(trained if frozen is None else depth - frozen)
        if "lora_rank" in values and "lora_alpha" not in self.fixed:
            values["lora_alpha"] = float(ALPHA_PER_RANK * values["lora_rank"])
        if "depth" in values:
            values["depth"] = str(values["depth"])
        return replace(default, **values)

    def parameters_of(self, rung: str) -> Parameters:
        """The parameters of the default settings of a rung."""
        default, values = self.defaults[rung], Parameters()
        trained = trained_blocks(default, self.n_blocks) or 0
        if len(self.rungs) > 1:
            values["method"] = rung
        own: dict[str, Value] = {"frozen": self._depth(rung) - trained, "depth": self._depth(rung)}
        for name in self.parameters[rung]:
            values[name] = trained if name == blocks_name(rung) else own.get(name, getattr(default, name, 0))
        return values

    def cost(self, settings: Settings) -> float:
        """Blocks that are trained times epochs, to those of the default tail; a linear head costs nothing."""
        default = self._reference()
        if settings.method == "linear" or default is None:
            return 0.0
        return passes_of(settings, self.n_blocks) / passes_of(default, self.n_blocks)

    @property
    def most_cost(self) -> float:
        """The largest cost of a trial."""
        default = self._reference()
        has_many = default is not None and passes_of(default, self.n_blocks) >= MANY_PASSES
        return MOST_COST_OF_FEW if has_many else MOST_COST

    def _reference(self) -> Settings | None:
        return self.defaults.get("tail") or self.defaults.get("lora")


def _n_values(parameter: Choice | Range) -> float:
    if isinstance(parameter, Choice):
        return len(parameter.values)
    return math.inf if parameter.step is None else (parameter.high - parameter.low) // parameter.step + 1


def rung_of(settings: Settings) -> str:
    """The rung of a run's settings.

    >>> rung_of(Settings(method="tail", train_blocks="lora"))
    'lora'
    """
    return "lora" if settings.train_blocks == LORA else settings.method


def blocks_name(rung: str) -> str:
    """The setting that says how many blocks a rung trains."""
    return "lora_blocks" if rung == "lora" else "train_blocks"


def trained_blocks(settings: Settings, n_blocks: int) -> int | None:
    """The number of blocks at the end that are trained, or have LoRA; None: the head or everything is trained."""
    value = getattr(settings, blocks_name(rung_of(settings)))
    if rung_of(settings) == "lora" and value == "all":
        return settings.n_blocks or n_blocks
    return int(value) if value.isdigit() else None


def passes_of(settings: Settings, n_blocks: int) -> int:
    """How often a row of train passes a trained block."""
    if settings.method == "linear":
        return 0
    whole = settings.n_blocks or n_blocks
    trained = trained_blocks(settings, n_blocks)
    return (trained or (1 if settings.train_blocks == "head" else whole)) * settings.n_epochs


def search_space(
    defaults: Mapping[str, Settings], given: Collection[str], n_blocks: int, depths: Collection[int], n_rows: int
) -> Space:
    """The space around the default settings of each rung, without the settings that the user has given.

    Args:
        defaults: see `Space`.
        given: the names of the settings that are fixed.
        depths: candidates for linear heads.
        n_rows: that a trial trains on, which bounds its batches.

    Raises:
        SettingsError: nothing is left to search.
    """
    parameters: dict[str, dict[str, Choice | Range]] = {}
    for rung, settings in defaults.items():
        searched = _linear(settings, depths) if rung == "linear" else _tail(settings, n_blocks, n_rows)
        fixed = {*given, *({"frozen"} if "depth" in given else ())}
        parameters[rung] = {
            name: parameter
            for name, parameter in searched.items()
            if name not in fixed and not (isinstance(parameter, Choice) and len(parameter.values) < 2)
        }
    if len(defaults) < 2 and not any(parameters.values()):
        _reject(given)
    return Space(dict(defaults), parameters, n_blocks, frozenset(given))


def _linear(settings: Settings, depths: Collection[int]) -> dict[str, Choice | Range]:
    tried = sorted({*depths, *([settings.n_blocks] if settings.n_blocks else [])})
    return {"depth": Choice(tuple(tried)), "read": _with(POOLINGS, settings.read)}


def _tail(settings: Settings, n_blocks: int, n_rows: int) -> dict[str, Choice | Range]:
    rate, epochs, batch = settings.learning_rate, settings.n_epochs, settings.n_in_batch
    assert rate is not None
    found: dict[str, Choice | Range] = {}
    trained, rung = trained_blocks(settings, n_blocks), rung_of(settings)
    if trained is not None:
        step = max(1, n_blocks // 8)
        frozen = (settings.n_blocks or n_blocks) - trained
        below = min(CUTS_BELOW, frozen // step)
        above = min(CUTS_ABOVE, (n_blocks - 1 - frozen) // step)
        found["frozen"] = Range(frozen - below * step, frozen + above * step, step=step)
        near = [n for n in BLOCKS if trained / 3 <= n <= 2 * trained and n <= n_blocks]
        found[blocks_name(rung)] = _with(near, trained)
    found |= {
        "learning_rate": Range(rate / 8, rate * 4, log=True),
        "epochs": Range(max(1, epochs // 2), 2 * epochs, step=1),
        "batch_size": _with([n for n in BATCHES if n <= max(n_rows // 4, 1)], batch),
        "weight_decay": Range(*_around(WEIGHT_DECAYS, settings.weight_decay), log=True),
        "read": _with(POOLINGS, settings.read),
        "start_head": Choice(START_HEADS),
    }
    if rung == "lora":
        found["lora_rank"] = _with(RANKS, settings.lora_rank)
    if settings.weight_decay == 0:  # a logarithmic range has no 0
        found["weight_decay"] = Choice((0.0, 0.01, 0.1))
    if found.get("frozen") == Range(0, 0, step=1):
        del found["frozen"]
    return found


def _with(values: Collection[Any], default: Any) -> Choice:
    """A choice of these values and the default one; only that, where it is not one of a searched kind."""
    if values is POOLINGS and default not in POOLINGS:
        return Choice((default,))
    return Choice(tuple(sorted({*values, default})))


def _around(bounds: tuple[float, float], default: float) -> tuple[float, float]:
    return min(bounds[0], default or bounds[0]), max(bounds[1], default)


def check_leaves_something(method: str, given: Collection[str]) -> None:
    """Reject flags that fix everything that could be searched.

    Raises:
        SettingsError: names the flags.
    """
    of_method = {"linear": ("depth", "read")}.get(method, SEARCHED[1:-2])
    if set(of_method) <= set(given):
        _reject(given)


def _reject(given: Collection[str]) -> None:
    flags = one_of(flag_of(name) for name in SEARCHED if name in given)
    raise SettingsError(f"the flags {flags} leave nothing to search; leave one of them out, or use lasttoken train")
