"""One training from rows to a finished run: what `lasttoken train` and `TextClassifier.train` both do.

    splits ─► token ids ─► trunk, once ─► tail, every step ─► kept weights ─► metrics and baselines ─► report

Everything that a user can get wrong is found before anything is written. metrics.json is written last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lasttoken.audit.audit import Audit
from lasttoken.audit.collecting import audit_splits
from lasttoken.backbone.linear import int8_passes
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.classifier.checkpoint import save_classifier
from lasttoken.classifier.predict import Predictor
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.columns import SPLIT_COLUMNS, ColumnSpec
from lasttoken.core.config import Settings
from lasttoken.core.device import Device, pick_device, stop_on_signal, tune_cpu
from lasttoken.core.errors import RunError, SettingsError
from lasttoken.core.progress import Reporter
from lasttoken.core.storage import exclusive, write_text
from lasttoken.data.columns import Columns
from lasttoken.data.files import Examples
from lasttoken.data.folders import read_splits, write_splits
from lasttoken.data.gather import gather_splits
from lasttoken.data.origin import compare_origins, describe_origin
from lasttoken.data.splits import Splits
from lasttoken.evaluation.baselines import NAMES
from lasttoken.evaluation.onevsrest import baselines_for
from lasttoken.report.card import render_card
from lasttoken.report.curves import draw_curves
from lasttoken.report.page import render_report
from lasttoken.report.plots import draw_plots
from lasttoken.runs.assess import Judged, ask_baseline, calibrate, check_judging, judge_training
from lasttoken.runs.facts import metrics_json, report_facts, versions
from lasttoken.runs.predictions import write_predictions
from lasttoken.runs.repeats import SIZES, run_folds, run_learning_curve, run_seeds
from lasttoken.runs.tracking import Tracker, open_tracker
from lasttoken.training.features import FeatureCache, TrunkPass
from lasttoken.training.loop import Hooks, Line, Outcome, Split, State, Trainer
from lasttoken.training.prepare import Prepared, features_of, fingerprint, prepare
from lasttoken.training.repeater import Repeater
from lasttoken.training.resume import restore_training, save_training

CHECKPOINT_EVERY_S = 30.0
PHASES = {
    "reading": ("data", "load", "encode"),
    "features": ("trunk",),
    "training": ("tail", "repeats"),
    "judging": ("evaluate", "baselines", "judge"),
    "report": ("report",),
}  # of a run: the parts of the clock that each takes in
FALLBACK_BASELINE = "tfidf-logreg"  # of the learning curve, where the best one is not trained on rows
STOPPED = {
    "interrupted": "interrupted by a signal; evaluated and complete with what was best so far",
    "early": "stopped early: validation had not improved for --patience evaluations",
}


@dataclass(frozen=True)
class TrainedRun:
    """A finished training."""

    predictor: Predictor
    metrics: dict[str, Any]  # the content of metrics.json
    history: list[Line]
    out: Path | None


@dataclass
class Clock:
    """Seconds of each part of a run, and since its start."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the block's time to a part."""
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def durations_s(self) -> dict[str, float]:
        """Seconds of each phase of the run, and in total since its start."""
        phases = {phase: sum(self.seconds.get(part, 0.0) for part in parts) for phase, parts in PHASES.items()}
        return {name: round(s, 3) for name, s in {**phases, "total": time.perf_counter() - self.started}.items()}


def train_run(
    data: Path | Examples | None,
    settings: Settings,
    *,
    out: Path | None = None,
    validation: Examples | None = None,
    test: Examples | None = None,
    resume: bool = False,
    overwrite: bool = False,
    offline: bool = False,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    reporter: Reporter | None = None,
) -> TrainedRun:
    """Train a classifier. With `out`, leave a run directory there.

    Args:
        data: a file, a folder of splits, or examples; None only to resume a run that has its splits.
        validation, test: splits as examples, used as given.
        resume: go on with what is in `out`; settings must be those it was started with.

    Raises:
        UserError: see errors.py; nothing has been written then, and an earlier run in `out` is as it was.
        RunError: among them, when another process trains into `out`.
        FailedError: disk, network, device, or a loss that is not finite.
    """
    with exclusive(out) if out is not None else nullcontext():
        return _train_held(
            data,
            settings,
            out=out,
            validation=validation,
            test=test,
            resume=resume,
            overwrite=overwrite,
            offline=offline,
            checkpoint_every_s=checkpoint_every_s,
            reporter=reporter or Reporter(),
        )


def _train_held(
    data: Path | Examples | None,
    settings: Settings,
    *,
    out: Path | None,
    validation: Examples | None,
    test: Examples | None,
    resume: bool,
    overwrite: bool,
    offline: bool,
    checkpoint_every_s: float,
    reporter: Reporter,
) -> TrainedRun:
    """`train_run`, once `out` is this process's own."""
    clock = Clock()
    run_dir = RunDir(out) if out is not None else None
    resuming = _can_resume(run_dir, resume, reporter)
    if run_dir and not resuming:
        run_dir.check_free(overwrite)
    tune_cpu()
    device = pick_device(settings.device, settings.precision)
    if device.precision == "int8" and int8_passes() != 1:
        reporter.say("this processor lacks 8-bit dot products (VNNI): --precision int8 is slower than float32 here")
    with clock.part("data"):
        if run_dir and resuming:
            _compare_data(run_dir, data, settings, reporter)
            splits = _read_splits(run_dir, settings)
        else:
            splits = _gather(data, validation, test, settings, reporter)
        looked = audit_splits(splits.named())
        for finding in looked.findings():
            reporter.say(finding)
    with clock.part("load"):
        backbone = load_backbone(settings.backbone, offline)
    settings = settings.with_rate_for(backbone.config.n_embd)
    with clock.part("encode"):
        prepared = prepare(splits, backbone, settings, device, reporter.say)
    check_judging(settings, prepared.labels)
    tracker = open_tracker(settings.track, out or Path()) if settings.track else None
    cache = None if settings.no_cache else FeatureCache(settings.cache_limit_bytes)
    with clock.part("trunk"):
        trunk = TrunkPass(prepared.classifier, device, cache=cache, say=reporter.say)
    belongs_to = fingerprint(prepared, settings, trunk.hash)
    content = _run_toml(data, settings, device, trunk.hash, belongs_to) | _facts(prepared, splits)
    replaces = run_dir is not None and run_dir.is_finished
    if run_dir and not resuming and not replaces:
        _begin(run_dir, splits, content, reporter)
    if run_dir and resuming and run_dir.read_toml().get("fingerprint") != belongs_to:
        raise RunError(
            f"{run_dir.path} was started with other data, settings or weights than these; "
            "resume with those it was started with, or train into another --out"
        )
    with clock.part("trunk"):
        features = features_of(prepared, trunk, reporter)
    again = settings.seeds > 1 or settings.folds or settings.learning_curve
    repeater = Repeater(prepared, features) if again else None
    trainer = Trainer(
        prepared.classifier,
        features,
        settings,
        device,
        checkpoint_every_s=checkpoint_every_s,
        label_counts=prepared.label_counts,
    )
    if run_dir and replaces:  # only now, so that an earlier run outlives whatever may be wrong
        _begin(run_dir, splits, content, reporter)
    if tracker:
        tracker.start(settings.to_toml(), out.name if out else _name_of(data))
    with clock.part("tail"):
        outcome = _train(trainer, belongs_to, run_dir, resuming, tracker, reporter)
    del trainer  # AdamW's moments; what comes now needs the room
    if outcome.stopped:
        reporter.say(f"{STOPPED[outcome.stopped]} (step {outcome.kept_step:,})")
    judged = _judge(prepared, features, settings, outcome, looked, offline, clock)
    for sentence in [*(result.sentence() for result in judged.targets), *judged.warnings]:
        reporter.say(sentence)
    more = {}
    if repeater and outcome.stopped != "interrupted":
        with clock.part("repeats"):
            more = _repeat(repeater, prepared, settings, judged, reporter)
    metrics = metrics_json(prepared, outcome, judged, clock.seconds, more)
    metrics["durations_s"] = clock.durations_s()
    if run_dir:
        with clock.part("report"):
            _write(run_dir, prepared, settings, outcome, judged, metrics, _name_of(data))
        metrics["durations_s"] = clock.durations_s()
        run_dir.write_metrics(metrics)
    if tracker:
        tracker.finish(metrics, run_dir.path / "report.html" if run_dir else None)
    reporter.say(durations_in_words(metrics["durations_s"], resuming))
    return TrainedRun(prepared.predictor, metrics, outcome.history, out)


def _can_resume(run_dir: RunDir | None, resume: bool, reporter: Reporter) -> bool:
    if not resume:
        return False
    if run_dir is None:
        raise SettingsError("--resume needs --out, the directory of the run to go on with")
    if run_dir.is_finished:
        raise RunError(f"{run_dir.path} is finished; there is nothing to resume (pass --overwrite to train it anew)")
    if (run_dir.splits / "train.csv").is_file() and (run_dir.path / "run.toml").is_file():
        return True
    reporter.say(f"nothing to resume in {run_dir.path}: training starts from the beginning")
    return False


def _compare_data(run_dir: RunDir, data: Path | Examples | None, settings: Settings, reporter: Reporter) -> None:
    """Say which files are not read by a run that goes on with its own splits; refuse other ones than it began with."""
    content = run_dir.read_toml()
    given = _data_files(data, settings)
    recorded = content.get("origin", {})
    if "origin" not in content and (name := content.get("settings", {}).get("data")):  # a run of an earlier version
        same_name = isinstance(data, Path) and data.name == Path(name).name
        recorded = {"data": {"path": str((data if same_name and isinstance(data, Path) else Path(name)).resolve())}}
    for note in compare_origins(recorded, given, run_dir.path):
        reporter.say(note)


def _data_files(data: Path | Examples | None, settings: Settings) -> dict[str, Path]:
    files = {"data": data, "validation": settings.validation, "test": settings.test}
    return {name: Path(file) for name, file in files.items() if isinstance(file, str | Path)}


def _begin(run_dir: RunDir, splits: Splits, content: Mapping[str, Any], reporter: Reporter) -> None:
    """Take the run's folder: what an earlier run left is removed, and this one can be resumed from now on."""
    if run_dir.resume_file.is_file():
        reporter.say(
            f"{run_dir.path} held a run that was not finished; it is replaced (--resume would have gone on with it)"
        )
    run_dir.clear(keep_toml=True)
    run_dir.write_toml(content)
    write_splits(splits, run_dir.splits)


def _read_splits(run_dir: RunDir, settings: Settings) -> Splits:
    """The splits of a run that goes on, and what is not in their files."""
    written = replace(SPLIT_COLUMNS, slice_by="slice" if settings.slice_by else None)
    splits = read_splits(run_dir.splits, written, separator=settings.separator)
    content = run_dir.read_toml()
    spec = ColumnSpec.from_json(content.get("columns", {}))  # of the data; the files of splits have columns of ours
    train = replace(splits.train, columns=Columns(spec.text, spec.label) if spec else None)
    facts = dict(content.get("data_facts", {}))
    notes = tuple(facts.pop("notes", ()))
    return replace(splits, train=train, label_counts=content.get("label_counts"), notes=notes, facts=facts)


def _gather(
    data: Path | Examples | None,
    validation: Examples | None,
    test: Examples | None,
    settings: Settings,
    reporter: Reporter,
) -> Splits:
    if data is None:
        raise SettingsError("there is nothing to resume; give the data to train on")
    if validation is None and test is None:
        return gather_splits(data, settings, reporter.say)
    if isinstance(data, Path):
        raise SettingsError("give validation and test as files too when the training data is a file")
    return gather_splits(Splits(data, validation, test), settings, reporter.say)


def _name_of(data: Path | Examples | None) -> str:
    name = data.name if isinstance(data, Path) else data.source if data else ""
    return name or "a table"


def _run_toml(
    data: Path | Examples | None, settings: Settings, device: Device, trunk: str | None, belongs_to: str
) -> dict[str, Any]:
    where = {"data": str(data)} if isinstance(data, Path) else {}
    return {
        "created": datetime.now(UTC).replace(microsecond=0),
        "fingerprint": belongs_to,  # of data, settings and trunk: what --resume must find again
        "settings": {**where, **settings.to_toml()},
        "machine": {
            "device": device.torch_device.type,
            "precision": device.precision,
            "threads": torch.get_num_threads(),
        },
        "trunk": {"hash": trunk} if trunk else {},
        "versions": versions(),
        "origin": {name: describe_origin(path) for name, path in _data_files(data, settings).items()},
    }


def _facts(prepared: Prepared, splits: Splits) -> dict[str, Any]:
    """What run.toml records beside the settings.

    Label counts before balancing, the columns that were read, and what was left out or merged.
    """
    columns = prepared.classifier.config.columns
    facts: dict[str, Any] = {"data_facts": {"notes": list(splits.notes), **splits.facts}}
    facts |= {"label_counts": splits.label_counts} if splits.label_counts else {}
    return facts | ({"columns": columns.to_json()} if columns else {})


def _train(
    trainer: Trainer,
    belongs_to: str,
    run_dir: RunDir | None,
    resuming: bool,
    tracker: Tracker | None,
    reporter: Reporter,
) -> Outcome:
    """Run the loop, from the beginning or from the run's last state."""
    if run_dir and resuming and run_dir.resume_file.is_file():
        restore_training(trainer, run_dir.resume_file, belongs_to)
        reporter.say(f"going on after step {trainer.state.step:,} of {trainer.total_steps:,}")
    elif resuming:
        reporter.say(
            "the run was killed before a state was saved (--checkpoint-every): its training starts from the beginning"
        )
    if run_dir:
        run_dir.write_history(trainer.state.history)
    remaining = trainer.total_steps - trainer.state.step
    with stop_on_signal() as should_stop, reporter.bar("training", remaining) as advance:
        trainer.hooks = Hooks(
            on_line=_tell_lines(run_dir, tracker, reporter),
            on_step=lambda state: advance(1, _beside_bar(state)),
            should_stop=should_stop,
            save=(lambda at: save_training(at, run_dir.resume_file, belongs_to)) if run_dir else None,
        )
        return trainer.run()


def _judge(
    prepared: Prepared,
    features: dict[str, Split],
    settings: Settings,
    outcome: Outcome,
    looked: Audit,
    offline: bool,
    clock: Clock,
) -> Judged:
    """Calibrate the kept weights and hold them against the baselines."""
    prepared.classifier.requires_grad_(False).eval().zero_grad(set_to_none=True)
    with clock.part("evaluate"):
        logits = calibrate(prepared, features, settings)
    with clock.part("baselines"):
        baselines = baselines_for(prepared.splits, settings.seed) | ask_baseline(prepared, settings, offline)
    with clock.part("judge"):
        return judge_training(prepared, features, logits, outcome, baselines, looked, settings)


def _repeat(
    repeater: Repeater, prepared: Prepared, settings: Settings, judged: Judged, reporter: Reporter
) -> dict[str, Any]:
    """The trainings beside the run's own: seeds or folds, and sizes of train."""
    labels, headline = prepared.labels, judged.headline
    found: dict[str, Any] = {}
    n_trainings = settings.seeds - 1 + settings.folds + len(SIZES) * settings.learning_curve
    with stop_on_signal() as should_stop, reporter.bar("training again", n_trainings) as advance:

        def done(n: int) -> None:
            if should_stop():
                raise KeyboardInterrupt
            advance(n, "")

        try:
            if settings.seeds > 1:
                first = judged.told.metrics
                found["seeds"] = run_seeds(repeater, settings, headline, labels, first, done, should_stop)
            if settings.folds:
                found["folds"] = run_folds(repeater, settings, labels, done, should_stop)
            if settings.learning_curve:
                name, whole = _whole_train(judged)
                found["learning_curve"] = run_learning_curve(
                    repeater, settings, headline, labels, name, whole, done, should_stop
                )
        except KeyboardInterrupt:
            reporter.say("interrupted: the run is complete, without the trainings beside it")
    return found


def _whole_train(judged: Judged) -> tuple[str, tuple[NDArray[np.bool_], NDArray[np.bool_] | None]]:
    """The baseline of the learning curve, and which rows the run's classifier and that baseline got right.

    By the most probable label, as all points of the curve, whatever the decision rule.
    """
    told = judged.told
    name = judged.verdict.baseline if judged.verdict else FALLBACK_BASELINE
    name = name if name in NAMES else FALLBACK_BASELINE
    theirs = judged.baselines[name].predicted.get(judged.headline)
    ours = np.asarray(told.log_probs.argmax(1) == told.truth)
    return name, (ours, None if theirs is None else np.asarray(theirs == told.truth))


def _write(
    run_dir: RunDir,
    prepared: Prepared,
    settings: Settings,
    outcome: Outcome,
    judged: Judged,
    metrics: dict[str, Any],
    source: str,
) -> None:
    """Write everything that is left to write but metrics.json, which comes last."""
    save_classifier(run_dir.path, prepared.classifier, prepared.predictor.tokenizer)
    run_dir.write_history(outcome.history)
    for name, scored in judged.scored.items():
        if name != "train":
            path = run_dir.predictions / f"{name}.csv"
            write_predictions(path, prepared.splits.named()[name], prepared.labels, scored, judged.baselines, name)
    curves = draw_curves(outcome.history, run_dir.path / "curves", len(prepared.splits.train))
    facts = report_facts(prepared, settings, outcome, judged, metrics, curves, source)
    facts["curves"] |= draw_plots(facts, run_dir.path / "curves")
    write_text(run_dir.path / "report.html", render_report(facts))
    write_text(run_dir.path / "README.md", render_card(facts))


def _tell_lines(run_dir: RunDir | None, tracker: Tracker | None, reporter: Reporter) -> Callable[[Line], None]:
    def tell(line: Line) -> None:
        if run_dir:
            run_dir.append_history(line)
        if tracker:
            tracker.line(line)
        reporter.say(line_in_words(line))

    return tell


def durations_in_words(durations_s: Mapping[str, float], resumed: bool = False) -> str:
    """How long a run took, in minutes as chapter 6 prints them.

    >>> durations_in_words({"reading": 1.2, "features": 30.0, "training": 300.0, "judging": 3.0, "total": 339.0})
    'finished in 5.65 minutes (reading 0.02, features 0.50, training 5.00, judging 0.05)'
    """
    phases = ", ".join(f"{name} {s / 60:.2f}" for name, s in durations_s.items() if name != "total")
    since = " since it was resumed" if resumed else ""
    return f"finished in {durations_s['total'] / 60:.2f} minutes{since} ({phases})"


def line_in_words(line: Line) -> str:
    """An evaluation as one line.

    >>> line_in_words({"epoch": 1.0, "step": 130, "train_loss": 0.25, "validation_accuracy": 0.975})
    'epoch 1.00  step    130  train loss 0.250  validation accuracy 97.50%'
    """
    parts = [f"epoch {line['epoch']:.2f}  step {line['step']:6,}"]
    for split in ("train", "validation", "test"):
        if (loss := line.get(f"{split}_loss")) is not None:
            parts.append(f"{split} loss {loss:.3f}")
        if (accuracy := line.get(f"{split}_accuracy")) is not None:
            parts.append(f"{split} accuracy {accuracy * 100:.2f}%")
    return "  ".join(parts)


def _beside_bar(state: State) -> str:
    loss = "" if state.running_loss is None else f"loss {state.running_loss:.3f}"
    accuracies = [line["validation_accuracy"] for line in state.history if line.get("validation_accuracy") is not None]
    return f"{loss}  validation accuracy {accuracies[-1]:.1%}" if accuracies else loss
