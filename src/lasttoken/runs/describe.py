"""The facts about a run or a backbone that `lasttoken info` prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lasttoken.backbone.catalog import BACKBONES
from lasttoken.backbone.gguf.reading import GGUFBackbone, is_gguf
from lasttoken.backbone.pretrained import load_backbone, locate_backbone
from lasttoken.classifier.checkpoint import load_classifier, trained_columns
from lasttoken.classifier.classifier import ClassifierConfig
from lasttoken.classifier.run_dir import FINAL, RunDir
from lasttoken.core.errors import BackboneError, NetworkError, RunError, one_of
from lasttoken.core.progress import Reporter

CONFIGS = ("config.json", "hparams.json")  # either makes a folder a backbone


def describe(what: str, offline: bool = False, reporter: Reporter | None = None) -> dict[str, Any]:
    """Facts about a run directory, or about a backbone by name, hub id or folder; `reporter` shows a download.

    Raises:
        RunError: a run that is not finished, or a folder that is neither.
        BackboneError, NetworkError: a backbone that cannot be loaded.
    """
    folder = Path(what)
    if what not in BACKBONES and ((folder / "run.toml").is_file() or (folder / "metrics.json").is_file()):
        return describe_run(RunDir(folder))
    if what not in BACKBONES and folder.is_dir() and not any((folder / name).is_file() for name in CONFIGS):
        raise RunError(
            f"{what} is neither a run directory nor a backbone: it holds none of {one_of((FINAL, *CONFIGS))}"
        )
    if what not in BACKBONES and folder.is_file() and not is_gguf(folder):
        raise RunError(f"{what} is a file; give a run directory, or a backbone by its name, folder or GGUF file")
    try:
        return describe_backbone(what, offline, reporter)
    except (BackboneError, NetworkError) as error:
        if what in BACKBONES or folder.exists():
            raise
        raise type(error)(f"there is no run directory {what}, and as a backbone: {error}") from error


def describe_run(run_dir: RunDir) -> dict[str, Any]:
    """Labels, accuracies, settings and versions of a finished run."""
    metrics = run_dir.read_metrics()
    classifier, _ = load_classifier(run_dir.path)
    config = classifier.config
    columns = config.columns or trained_columns(run_dir.path)
    recorded = run_dir.read_toml() if (run_dir.path / "run.toml").is_file() else {}
    return {
        "run": str(run_dir.path),
        "labels": list(config.labels),
        "columns": {role: list(names) for role, names in (("text", columns.text), ("label", columns.label))}
        if columns
        else {},
        "backbone": config.backbone,
        "multi_label": config.task.multi_label,
        "decision": config.task.rule_in_words(config.decision),
        "reads": config.read,
        "prompt": config.prompt,
        "ngrams": _ngrams(config, metrics),
        "max_length": config.max_length,
        "int8_trunk": config.int8_trunk,
        "parameters": classifier.n_parameters(),
        "trained_parameters": classifier.n_trained(),
        "lora": config.lora.in_words() if config.lora else None,
        "accuracy": {name: split.get("accuracy") for name, split in metrics.get("splits", {}).items()},
        "trunk": recorded.get("trunk", {}).get("hash"),
        "settings": recorded.get("settings", {}),
        "versions": recorded.get("versions", {}),
    }


def _ngrams(config: ClassifierConfig, metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the classifier contains beside its GPT, and the losses on held-out rows of both and of their sum."""
    blend, recorded = config.blend, metrics.get("ngrams") or {}
    if blend is None:
        return None
    losses = {
        f"loss_{name}": values.get("loss")
        for name in ("gpt", "ngrams", "together")
        if isinstance(values := recorded.get(name), dict)
    }
    return {"kind": blend.kind, "weight": blend.weight, **losses}


def describe_backbone(name: str, offline: bool = False, reporter: Reporter | None = None) -> dict[str, Any]:
    """Shape, size and tokenizer of a backbone, and what the catalog says of it.

    A name of the catalog whose weights are not in the cache is not fetched: then there is no shape.
    """
    entry = BACKBONES.get(name)
    facts = entry.facts() if entry else {"backbone": name}
    if entry and not _is_here(name):
        return {**facts, "fetched": False}
    backbone, source = load_backbone(name, offline, reporter=reporter), locate_backbone(name, offline)
    config = backbone.config
    return {
        **facts,
        **({"fetched": True} if entry else {}),
        **({"file": GGUFBackbone(source).facts()} if is_gguf(source) else {}),
        "parameters": sum(parameter.numel() for parameter in backbone.decoder.parameters()),
        "n_layer": config.n_layer,
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "n_positions": config.n_positions,
        "max_length": backbone.max_length,
        "vocab_size": config.vocab_size,
        "tokenizer_tokens": backbone.tokenizer.n_tokens,
        "end_of_text_id": backbone.end_of_text_id,
        "prefix_ids": list(backbone.prefix_ids),
        "suffix_ids": list(backbone.suffix_ids),
    }


def list_backbones() -> dict[str, str]:
    """The names of the catalog, with their descriptions."""
    return {name: entry.description for name, entry in BACKBONES.items()}


def _is_here(name: str) -> bool:
    """Whether a backbone of the catalog is on this machine."""
    try:
        locate_backbone(name, offline=True)
    except NetworkError:
        return False
    return True
