"""The types of run.toml and metrics.json, as far as the package reads them again; other keys are not checked.

RunDir.read_toml     ──► checked(RunFile, …)
RunDir.read_metrics  ──► checked(MetricsFile, …)      a value of the wrong type is named: "splits.test.accuracy"
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Len

from lasttoken.core.columns import UNNAMED, ColumnSpec

Bounds = Annotated[list[float], Len(2, 2)]


@dataclass(frozen=True)
class RecordedMetrics:
    """The metrics of a split."""

    n: int | None = None
    accuracy: float | None = None
    accuracy_ci95: Bounds | None = None
    balanced_accuracy: float | None = None
    balanced_accuracy_ci95: Bounds | None = None
    micro_f1: float | None = None
    micro_f1_ci95: Bounds | None = None
    macro_f1: float | None = None
    macro_f1_ci95: Bounds | None = None
    mAP: float | None = None  # noqa: N815
    mAP_ci95: Bounds | None = None  # noqa: N815
    ece: float | None = None
    ece_ci95: Bounds | None = None
    loss: float | None = None
    loss_ci95: Bounds | None = None


@dataclass(frozen=True)
class RecordedVerdict:
    """The verdict on the headline split."""

    sentences: list[str] | None = None


@dataclass(frozen=True)
class MetricsFile:
    """metrics.json."""

    splits: dict[str, RecordedMetrics] = field(default_factory=dict)
    verdict: RecordedVerdict | None = None
    warnings: list[str] = field(default_factory=list)
    timing_s: dict[str, float] = field(default_factory=dict)
    multi_label: bool = False


@dataclass(frozen=True)
class RecordedSettings:
    """The settings that are read singly; `--config` checks all of them."""

    backbone: str = ""
    label_separator: str = "|"


@dataclass(frozen=True)
class RunFile:
    """run.toml."""

    fingerprint: str = ""
    settings: RecordedSettings = RecordedSettings()
    trunk: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    label_counts: dict[str, int] = field(default_factory=dict)
    columns: ColumnSpec = UNNAMED
    data_facts: dict[str, Any] = field(default_factory=dict)
