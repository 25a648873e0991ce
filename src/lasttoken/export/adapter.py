"""A run trained with LoRA as a folder that peft loads on a base model of transformers, with the same logits.

    RUN/adapter   updates A, B of the matrices ──────────────────────────────┐
    RUN           head and final norm, with temperature and bias folded in ──┴► OUT/adapter_model.safetensors
                  labels, lengths, tokenizer ──────────────────────────────────► OUT/config.json, tokenizer.json
    backbone      its name ─► adapter_config.json; or its weights, with `with_base` ─► OUT/base

Head and norm are always in the file: an adapter that is saved without its trained head predicts at random.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lasttoken.backbone.catalog import BACKBONES
from lasttoken.backbone.families import family_of, read_config
from lasttoken.backbone.pretrained import holds_transformers_files, load_backbone, locate_backbone
from lasttoken.backbone.weights import read_tensor_file, write_tensor_file
from lasttoken.classifier.adapter import CONFIG, PREFIX, WEIGHTS, published_name
from lasttoken.classifier.predict import Predictor
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.documents import load_json, to_json
from lasttoken.core.errors import BackboneError, RunError, SettingsError
from lasttoken.core.progress import Reporter
from lasttoken.core.storage import make_dir, write_text
from lasttoken.export.folded import Folded, fold
from lasttoken.export.folder import Exported, new_export
from lasttoken.export.gpt_part import load_gpt_part
from lasttoken.export.hf import check_exportable, compare, lost_in_export, write_config_and_tokenizer
from lasttoken.export.hf_tokenizer import ExportedTokenizer

BASE = "base"  # the folder of the base model within an export


def export_adapter(
    run: Path,
    out: Path,
    *,
    with_base: bool = False,
    check: bool = True,
    without_ngrams: bool = False,
    offline: bool = False,
    reporter: Reporter | None = None,
) -> Exported:
    """Write a run's LoRA for peft, and compare the logits if peft and transformers are installed.

    Args:
        with_base: also write the backbone, for one that transformers does not load.

    Raises:
        SettingsError: the run has no adapter; or see `export_hf`; or transformers does not load the backbone.
        BackboneError, NetworkError: the backbone cannot be loaded.
        RunError: `run` is not a finished run.
        FailedError: peft computes other logits.
    """
    predictor = load_gpt_part(run, without_ngrams)
    config = predictor.classifier.config
    adapter = RunDir(run).adapter
    if config.lora is None or not (adapter / WEIGHTS).is_file():
        trained = "kept no adapter" if config.lora else f"was trained with --train-blocks {config.train_blocks}"
        raise SettingsError(
            f"the run {run} {trained}, and --to peft exports a LoRA; train with --train-blocks lora --keep-adapter, or "
            "export --to hf"
        )
    check_exportable(predictor)
    base = None if with_base else _locate_base(config.backbone, offline, reporter)
    folded, difference = fold(predictor.classifier), None
    with new_export(out) as folder:
        tokenizer = ExportedTokenizer(predictor.tokenizer, config)
        write_config_and_tokenizer(folder, predictor, tokenizer)
        if base is None:
            base = folder / BASE
            _write_base(base, folder, predictor, offline, reporter)
        _write_adapter(folder, adapter, predictor, folded, _name_of(config.backbone, None if with_base else base, out))
        if check and find_spec("transformers") and find_spec("peft"):
            difference = _compare(folder, base, predictor)
    return Exported(out, _notes(predictor, base, with_base), difference)


def _locate_base(name: str, offline: bool, reporter: Reporter | None) -> Path:
    """The folder of a backbone that transformers loads.

    Raises:
        SettingsError: transformers does not load its files.
    """
    folder = locate_backbone(name, offline, reporter)
    if not holds_transformers_files(folder):
        raise SettingsError(
            f"transformers does not load the files of the backbone {name} ({folder.name}); pass --with-base to "
            "write it beside the adapter in a form that it loads"
        )
    return folder


def _name_of(backbone: str, base: Path | None, out: Path) -> str:
    """What adapter_config.json calls the base: a hub id, or an absolute path."""
    if base is None:
        return str((out / BASE).resolve())
    if Path(backbone).expanduser().is_dir():
        return str(Path(backbone).expanduser().resolve())
    entry = BACKBONES.get(backbone.partition("@")[0])
    return entry.hub_id if entry and entry.hub_id else backbone.partition("@")[0]


def _write_base(base: Path, folder: Path, predictor: Predictor, offline: bool, reporter: Reporter | None) -> None:
    """Write the backbone as far as the classifier uses it, with the config.json of the export."""
    config = predictor.classifier.decoder.config
    backbone = load_backbone(predictor.classifier.config.backbone, offline, config.n_layer, reporter)
    if backbone.config.without_lm_head() != config.without_lm_head():
        raise BackboneError(
            f"the backbone {backbone.name} has another shape than the one that the run was trained on; put that back"
        )
    make_dir(base)
    tensors = family_of(config).to_published(backbone.decoder.state_without_lm_head())
    write_tensor_file(base / "model.safetensors", tensors)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        write_text(base / name, (folder / name).read_text("utf-8"))


def _write_adapter(folder: Path, adapter: Path, predictor: Predictor, folded: Folded, base_name: str) -> None:
    """Write the updates that the run kept, with the head and the norm of the whole classifier."""
    decoder = predictor.classifier.decoder
    kept = read_tensor_file(adapter / WEIGHTS)
    tensors = {name: tensor for name, tensor in kept.items() if ".lora_" in name}
    norm = {f"{decoder.FINAL_NORM}.{name}": tensor for name, tensor in decoder.final_norm.named_parameters()}
    published = family_of(decoder.config).to_published(
        {name: tensor.detach() for name, tensor in (norm | folded.decoder).items()}
    )
    tensors |= {PREFIX + name: tensor.contiguous() for name, tensor in published.items()}
    tensors[f"{PREFIX}score.weight"] = folded.head_weight.contiguous()
    try:
        content: dict[str, Any] = load_json(adapter / CONFIG)
    except FileNotFoundError as error:
        raise RunError(f"{adapter} holds no {CONFIG}; copy the run again or train it again") from error
    content |= {
        "base_model_name_or_path": base_name,
        "modules_to_save": ["score", published_name(predictor.classifier, decoder.FINAL_NORM)],
    }
    write_tensor_file(folder / WEIGHTS, tensors)
    write_text(folder / CONFIG, to_json(content, indent=1) + "\n")
    write_text(folder / "README.md", CARD.format(base=base_name, labels=", ".join(predictor.labels)))


CARD = """---
library_name: "peft"
---

# A classifier: {labels}

A LoRA with its trained head and final norm. It is loaded on its base model, with the config.json of this folder, which
has the labels, the padding token and the number of blocks:

```python
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

folder, base, config = "THIS FOLDER", {base!r}, AutoConfig.from_pretrained("THIS FOLDER")
model = AutoModelForSequenceClassification.from_pretrained(base, config=config, dtype="float32")
model = PeftModel.from_pretrained(model, folder).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
logits = model(**tokenizer("a text", truncation=True, return_tensors="pt")).logits
```
"""


def _notes(predictor: Predictor, base: Path, with_base: bool) -> tuple[str, ...]:
    """What is lost, and what whoever loads the export has to know."""
    notes = lost_in_export(predictor)
    used = predictor.classifier.decoder.config.n_layer
    if not with_base and (n_blocks := read_config(base / "config.json")[0].n_layer) != used:
        notes += (
            f"the classifier uses the first {used} of {n_blocks} blocks of its base; load it with the config.json "
            "of the export, as its README.md does",
        )
    return notes


def _compare(folder: Path, base: Path, predictor: Predictor) -> float:
    """The largest difference to the logits that peft computes.

    Raises:
        FailedError: it is too large, or peft cannot load the folder.
    """
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForSequenceClassification

    def load() -> Any:
        config = AutoConfig.from_pretrained(folder)
        model = AutoModelForSequenceClassification.from_pretrained(base, config=config, dtype="float32")
        return PeftModel.from_pretrained(model, str(folder))

    return compare(load, folder, predictor, "peft")
