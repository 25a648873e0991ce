"""What a run writes into its folder: at its start what --resume needs, at its end everything but metrics.json.

start   run.toml  splits/
end     config.json  model.safetensors  tokenizer.json  history.jsonl  predictions/  curves/  report.html  README.md
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from lasttoken.classifier.checkpoint import save_classifier
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.config import CHOSEN, Settings
from lasttoken.core.progress import Reporter
from lasttoken.core.storage import write_text
from lasttoken.core.tail_recipe import TailRecipe
from lasttoken.data.files import Examples
from lasttoken.data.folders import write_splits
from lasttoken.data.origin import describe_origin
from lasttoken.data.splitting.splits import Splits
from lasttoken.report.card import render_card
from lasttoken.report.curves import draw_curves
from lasttoken.report.page import render_report
from lasttoken.report.plots import draw_plots
from lasttoken.runs.assess import Judged
from lasttoken.runs.choice import Plan
from lasttoken.runs.facts import report_facts, versions
from lasttoken.runs.predictions import write_predictions
from lasttoken.runs.resume import data_files
from lasttoken.runs.session import Session
from lasttoken.training.loop import TrainingOutcome


def run_toml(data: Path | Examples | None, session: Session, splits: Splits, plan: Plan) -> dict[str, Any]:
    """The content of run.toml."""
    settings, device = asked_settings(session, plan), session.device
    source = {"data": str(data)} if isinstance(data, Path) else {}
    columns = session.prepared.classifier.config.columns
    content: dict[str, Any] = {
        "created": datetime.now(UTC).replace(microsecond=0),
        "fingerprint": session.fingerprint(settings),  # --resume compares it
        "settings": {**source, **settings.to_toml()},
        "machine": {
            "device": device.torch_device.type,
            "precision": device.precision,
            "threads": torch.get_num_threads(),
            **({"processes": device.team.size} if device.team else {}),
        },
        "trunk": {"hash": session.trunk.hash} if session.trunk.hash else {},
        "versions": versions(),
        "origin": {name: describe_origin(path) for name, path in data_files(data, settings).items()},
        "data_facts": {"notes": list(splits.notes), **splits.facts},
    }
    content |= {"choice": plan.to_toml()} if plan.candidates else {}
    content |= {"validation_is_cut": True} if splits.validation_is_cut else {}
    content |= {"label_counts": splits.label_counts} if splits.label_counts else {}  # before undersampling
    return content | ({"columns": columns.to_json()} if columns else {})


def asked_settings(session: Session, plan: Plan) -> Settings:
    """The settings as the user gave them, choices left open included, with the recipe and prompt of the backbone."""
    asked, used = plan.asked, session.settings
    recipe = [item.name for item in fields(TailRecipe) if item.name != "read" or asked.method == "tail"]
    left_open = [name for name in recipe if getattr(asked, name) in (None, CHOSEN)]
    return replace(asked, prompt=used.prompt, **{name: getattr(used, name) for name in left_open})


def begin_run(
    run_dir: RunDir, splits: Splits, content: Mapping[str, Any], reporter: Reporter, keep: Collection[str] = ()
) -> None:
    """Remove what an earlier run left in the folder, but the files in `keep`, and write what --resume needs."""
    if run_dir.resume_file.is_file():
        reporter.say(f"{run_dir.path} held an unfinished run, which is replaced (--resume would have continued it)")
    run_dir.clear(keep=("run.toml", *keep))
    run_dir.write_toml(content)
    write_splits(splits, run_dir.splits)


def write_results(
    run_dir: RunDir,
    session: Session,
    outcome: TrainingOutcome,
    judged: Judged,
    metrics: dict[str, Any],
    source: str,
    plan: Plan,
) -> None:
    """Write everything but metrics.json, which makes a run finished and comes last. `source`: the name of the data."""
    prepared = session.prepared
    save_classifier(run_dir.path, prepared.classifier, prepared.predictor.tokenizer)
    run_dir.write_history(outcome.history)
    for name, scored in judged.scored.items():
        if name != "train":
            path = run_dir.predictions / f"{name}.csv"
            write_predictions(path, prepared.splits.named()[name], scored, judged.baselines, name)
    curves = draw_curves(outcome.history, run_dir.path / "curves", len(prepared.splits.train))
    facts = report_facts(prepared, asked_settings(session, plan), outcome, judged, metrics, curves, source)
    facts["curves"] |= draw_plots(facts, run_dir.path / "curves")
    write_text(run_dir.path / "report.html", render_report(facts))
    write_text(run_dir.path / "README.md", render_card(facts))
