"""The settings that a search tries: which ones, which values, and how a trial's values become settings.

    settings of the default run, with what the user gave ──► Space ──► parameters of each method
    {"method": "tail", "frozen": 12, "train_blocks": 2, …} ──► Settings with depth 14, train_blocks "2", …

What the user gives is fixed and leaves the space. The ranges lie around the default values, which are part of it, so
the first trials are the default settings themselves. A tail is described by the blocks that stay frozen, because these
are where features are kept; its depth is the frozen blocks and the trained ones together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lasttoken.core.config import START_HEADS, Settings, flag_of
from lasttoken.core.errors import SettingsError, one_of

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
)
POOLINGS = ("last", "mean", "last+mean")
BLOCKS = (1, 2, 3, 4, 6, 8, 12)
BATCHES = (8, 16, 32, 64)
WEIGHT_DECAYS = (0.01, 1.0)
CUTS_BELOW, CUTS_ABOVE = 2, 1  # places below and above the default one where the trunk may end
MOST_COST = 2.0  # blocks times epochs of a trial, to those of the default tail
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

    defaults: dict[str, Settings]  # by method, with nothing left open; the one that the default run kept comes first
    parameters: dict[str, dict[str, Choice | Range]]  # of each method
    n_blocks: int  # of the backbone

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that are tried."""
        return tuple(self.defaults)

    @property
    def cuts(self) -> tuple[int, ...]:
        """The numbers of frozen blocks after which tails need features."""
        if "tail" not in self.defaults:
            return ()
        frozen = self.parameters["tail"].get("frozen")
        if isinstance(frozen, Range):
            return tuple(range(int(frozen.low), int(frozen.high) + 1, frozen.step or 1))
        blocks, default = self.parameters["tail"].get("train_blocks"), self.defaults["tail"]
        trained = blocks.values if isinstance(blocks, Choice) else (default.train_blocks,)
        depth = default.n_blocks or self.n_blocks
        return tuple(sorted({depth - int(n) for n in trained if str(n).isdigit()}))

    @property
    def depths(self) -> tuple[int, ...]:
        """The depths at which linear heads read."""
        if "linear" not in self.defaults:
            return ()
        depth = self.parameters["linear"].get("depth")
        return tuple(int(n) for n in depth.values) if isinstance(depth, Choice) else (self._depth("linear"),)

    def _depth(self, method: str) -> int:
        return self.defaults[method].n_blocks or self.n_blocks

    def settings(self, parameters: Mapping[str, Value]) -> Settings:
        """The settings of a trial; `parameters` has its method and the parameters of that method."""
        values: dict[str, Any] = dict(parameters)
        method = values.pop("method", self.methods[0])
        default = self.defaults[method]
        if method == "tail" and ("frozen" in values or "train_blocks" in values):
            frozen, trained = values.pop("frozen", None), int(values.get("train_blocks", default.train_blocks))
            depth = self._depth("tail") if frozen is None else min(frozen + trained, self.n_blocks)
            values["depth"] = depth
            values["train_blocks"] = str(trained if frozen is None else depth - frozen)
        if "depth" in values:
            values["depth"] = str(values["depth"])
        return replace(default, **values)

    def parameters_of(self, method: str) -> Parameters:
        """The parameters of the default settings of a method."""
        default, values = self.defaults[method], Parameters()
        if len(self.methods) > 1:
            values["method"] = method
        for name in self.parameters[method]:
            if name == "frozen":
                values[name] = self._depth(method) - int(default.train_blocks)
            elif name == "depth":
                values[name] = self._depth(method)
            else:
                value = getattr(default, name)
                values[name] = int(value) if name == "train_blocks" else value
        return values

    def cost(self, settings: Settings) -> float:
        """Blocks that are trained times epochs, to those of the default tail; a linear head costs nothing."""
        default = self.defaults.get("tail")
        if settings.method == "linear" or default is None:
            return 0.0
        return passes_of(settings, self.n_blocks) / passes_of(default, self.n_blocks)

    @property
    def most_cost(self) -> float:
        """The largest cost of a trial."""
        default = self.defaults.get("tail")
        has_many = default is not None and passes_of(default, self.n_blocks) >= MANY_PASSES
        return MOST_COST_OF_FEW if has_many else MOST_COST


def passes_of(settings: Settings, n_blocks: int) -> int:
    """How often a row of train passes a trained block."""
    if settings.method == "linear":
        return 0
    depth = settings.n_blocks or n_blocks
    trained = {"head": 1, "all": depth}.get(settings.train_blocks)
    return (int(settings.train_blocks) if trained is None else trained) * settings.n_epochs


def search_space(
    defaults: Mapping[str, Settings], given: Collection[str], n_blocks: int, depths: Collection[int], n_rows: int
) -> Space:
    """The space around the default settings of each method, without the settings that the user has given.

    Args:
        defaults: see `Space`.
        given: the names of the settings that are fixed.
        depths: candidates for linear heads.
        n_rows: that a trial trains on, which bounds its batches.

    Raises:
        SettingsError: nothing is left to search.
    """
    parameters: dict[str, dict[str, Choice | Range]] = {}
    for method, settings in defaults.items():
        found = _linear(settings, depths) if method == "linear" else _tail(settings, n_blocks, n_rows)
        fixed = {*given, *({"frozen"} if {"depth"} & set(given) else ())}
        parameters[method] = {
            name: parameter
            for name, parameter in found.items()
            if name not in fixed and not (isinstance(parameter, Choice) and len(parameter.values) < 2)
        }
    if len(defaults) < 2 and not any(parameters.values()):
        _reject(given)
    return Space(dict(defaults), parameters, n_blocks)


def _linear(settings: Settings, depths: Collection[int]) -> dict[str, Choice | Range]:
    tried = sorted({*depths, *([settings.n_blocks] if settings.n_blocks else [])})
    return {"depth": Choice(tuple(tried)), "read": _with(POOLINGS, settings.read)}


def _tail(settings: Settings, n_blocks: int, n_rows: int) -> dict[str, Choice | Range]:
    rate, epochs, batch = settings.learning_rate, settings.n_epochs, settings.n_in_batch
    assert rate is not None
    found: dict[str, Choice | Range] = {}
    if settings.train_blocks.isdigit():
        trained = int(settings.train_blocks)
        step = max(1, n_blocks // 8)
        frozen = (settings.n_blocks or n_blocks) - trained
        below = min(CUTS_BELOW, frozen // step)
        above = min(CUTS_ABOVE, (n_blocks - 1 - frozen) // step)
        found["frozen"] = Range(frozen - below * step, frozen + above * step, step=step)
        near = [n for n in BLOCKS if trained / 3 <= n <= 2 * trained and n <= n_blocks]
        found["train_blocks"] = _with(near, trained)
    found |= {
        "learning_rate": Range(rate / 8, rate * 4, log=True),
        "epochs": Range(max(1, epochs // 2), 2 * epochs, step=1),
        "batch_size": _with([n for n in BATCHES if n <= max(n_rows // 4, 1)], batch),
        "weight_decay": Range(*_around(WEIGHT_DECAYS, settings.weight_decay), log=True),
        "read": _with(POOLINGS, settings.read),
        "start_head": Choice(START_HEADS),
    }
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
    of_method = {"linear": ("depth", "read")}.get(method, SEARCHED[1:])
    if set(of_method) <= set(given):
        _reject(given)


def _reject(given: Collection[str]) -> None:
    flags = one_of(flag_of(name) for name in SEARCHED if name in given)
    raise SettingsError(f"the flags {flags} leave nothing to search; leave one of them out, or use lasttoken train")
