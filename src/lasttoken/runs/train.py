"""One training from rows to a finished run: what `lasttoken train` and `TextClassifier.train` both do.

splits ─► token ids ─► trunk, once ─► tail, every step ─► kept weights ─► metrics and baselines ─► report

All errors that a user can cause are raised before anything is written. metrics.json is written last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lasttoken.audit.audit import Audit
from lasttoken.audit.collecting import audit_splits
from lasttoken.backbone.pretrained import check_writes
from lasttoken.classifier.adapter import save_adapter
from lasttoken.classifier.predict import Predictor
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.config import Settings
from lasttoken.core.device import Device
from lasttoken.core.errors import SettingsError
from lasttoken.core.locks import exclusive
from lasttoken.core.process import flush_denormals, stop_on_signal
from lasttoken.core.progress import Reporter
from lasttoken.data.files import Examples
from lasttoken.data.gather import gather_splits
from lasttoken.data.label_tables import label_names
from lasttoken.data.splitting.splits import Splits
from lasttoken.evaluation.baselines import Baseline, fit_baselines
from lasttoken.runs.assess import Judged, judge_training
from lasttoken.runs.calibration import Calibrated, calibrate
from lasttoken.runs.choice import Plan, plan_training
from lasttoken.runs.clock import Clock, durations_in_words
from lasttoken.runs.facts import metrics_json
from lasttoken.runs.fitting import Fitted, choose_fitted, fit_beside, repeats_trainings, start_training
from lasttoken.runs.further import run_further_trainings
from lasttoken.runs.label_flags import check_label_flags
from lasttoken.runs.processes import Processes, open_processes, say_what_is_shared
from lasttoken.runs.resume import can_resume, check_data, check_fingerprint, read_run_splits
from lasttoken.runs.session import Session, open_device, open_session
from lasttoken.runs.tracking import Tracker, open_tracker
from lasttoken.runs.write import asked_settings, begin_run, run_toml, write_results
from lasttoken.runs.zero_shot import zero_shot_baseline
from lasttoken.training.blending import in_words
from lasttoken.training.folded import FoldedTail
from lasttoken.training.linear_training import LinearTraining
from lasttoken.training.loop import (
    CHECKPOINT_EVERY_S,
    Hooks,
    Line,
    State,
    Trainer,
    TrainingOutcome,
)
from lasttoken.training.prepare import Prepared
from lasttoken.training.repeater import Repeater, pooled
from lasttoken.training.resume import restore_training, save_training
from lasttoken.training.split_features import SplitFeatures

STOPPED = {
    "interrupted": "interrupted by a signal; the run is complete with the {keep} weights until then",
    "early": "stopped early: validation had not improved for --patience evaluations",
}


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """What to train, and where to leave it."""

    data: Path | Examples | None  # a file, a folder of splits, or examples; None only to resume a run
    settings: Settings
    out: Path | None = None  # the run directory; None: nothing is written
    validation: Examples | None = None  # a split of its own; it is used unchanged
    test: Examples | None = None  # likewise
    resume: bool = False  # go on with the run in `out`, whose settings must be the same
    overwrite: bool = False  # replace a finished run
    offline: bool = False
    checkpoint_every_s: float = CHECKPOINT_EVERY_S  # between states that `resume` goes on from
    workers: int = 1  # processes of this machine that share the trunk and the tail's training
    reporter: Reporter = field(default_factory=Reporter)

    @property
    def source(self) -> str:
        """The name of the data."""
        name = self.data.name if isinstance(self.data, Path) else self.data.source if self.data else ""
        return name or "a table"


@dataclass(frozen=True)
class TrainedRun:
    """A finished training."""

    predictor: Predictor
    metrics: dict[str, Any]  # the content of metrics.json
    history: list[Line]
    out: Path | None


@flush_denormals()
def train_run(request: TrainingRequest) -> TrainedRun:
    """Train a classifier. With `out`, leave a run directory there.

    Raises:
        UserError: see errors.py; nothing has been written then, and an earlier run in `out` is unchanged.
        RunError: among them, when another process trains into `out`.
        FailedError: disk, network, device, or a loss that is not finite.
    """
    with exclusive(request.out) if request.out is not None else nullcontext():
        try:
            return fit_and_judge(request).write()
        except KeyboardInterrupt:
            if request.out is not None and RunDir(request.out).is_resumable:
                request.reporter.say(f"{request.out} is unfinished; --resume continues it")
            raise


@dataclass(frozen=True)
class JudgedRun:
    """A training that has been judged and is not written yet; only one process may work on its output."""

    training: _Training
    splits: Splits
    fitted: Fitted
    judged: Judged
    repeats: dict[str, Any]

    @property
    def settings(self) -> Settings:
        """The settings that were trained, with nothing left open."""
        return self.fitted.session.settings

    def write(self) -> TrainedRun:
        """Write the results, if the run has a folder."""
        metrics = self.training.finish(self.fitted, self.judged, self.repeats)
        self.training.request.reporter.say(durations_in_words(metrics["durations_s"], self.training.resuming))
        out = self.training.run_dir.path if self.training.run_dir else None
        return TrainedRun(self.fitted.session.prepared.predictor, metrics, self.fitted.outcome.history, out)

    def write_into(self, run_dir: RunDir, added: Mapping[str, Any], keep: Collection[str]) -> TrainedRun:
        """Write a run that was trained without a folder into this one.

        Args:
            added: further entries of metrics.json.
            keep: names of files in the folder that are not removed.
        """
        training, request = self.training, self.training.request
        content = run_toml(request.data, self.fitted.session, self.splits, training.plan)
        begin_run(run_dir, self.splits, content, request.reporter, keep)
        training.run_dir = run_dir
        return replace(self, repeats={**self.repeats, **added}).write()


def fit_and_judge(request: TrainingRequest, splits: Splits | None = None) -> JudgedRun:
    """Train and judge a classifier. With `request.out`, whose lock the caller holds, the run is begun there.

    `splits`: those of the data, where they are known.

    Raises:
        UserError, FailedError: see `train_run`.
    """
    clock, reporter = Clock(), request.reporter
    with open_processes(request.workers) as processes:
        training, splits, audited, fitted = _fit(request, splits, processes, clock)
    outcome = fitted.outcome
    if outcome.stopped:
        reporter.say(
            f"{STOPPED[outcome.stopped].format(keep=fitted.session.settings.keep)} (step {outcome.kept_step:,})"
        )
    judged = _judge(fitted.session, fitted.features, outcome, audited, request, clock)
    for sentence in [*(result.sentence() for result in judged.targets), *judged.warnings]:
        reporter.say(sentence)
    repeats = {}
    if fitted.repeater and outcome.stopped != "interrupted":
        with clock.part("repeats"):
            repeats = run_further_trainings(fitted.repeater, fitted.session, judged, reporter)
    return JudgedRun(training, splits, fitted, judged, repeats)


def _fit(
    request: TrainingRequest, splits: Splits | None, processes: Processes, clock: Clock
) -> tuple[_Training, Splits, Audit, Fitted]:
    """Read the data, choose what is trained, and train; the part of a run that several processes share."""
    reporter = request.reporter
    run_dir = RunDir(request.out) if request.out is not None else None
    resuming = request.resume and can_resume(run_dir, reporter)
    if run_dir and not resuming:
        run_dir.check_free(request.overwrite)
    device = open_device(request.settings, reporter)
    with clock.part("data"), reporter.working("reading and checking the data"):
        splits = splits or _read_splits(request, run_dir if resuming else None)
        audited = audit_splits(splits.named())
        for finding in audited.findings():
            reporter.say(finding)
    check_label_flags(request.settings, label_names(splits.train))
    if request.settings.answers is not None:
        check_writes(request.settings.backbone, request.offline, reporter)
    processes.check(splits, request.settings)
    with reporter.working("connecting the processes"):
        device = processes.on(device)
    plan = _plan(request, splits, device, run_dir if resuming else None, clock)
    session = open_session(splits, plan.main, device, offline=request.offline, reporter=reporter, clock=clock)
    training = _Training(request, plan, session, run_dir, resuming, clock)
    return training, splits, audited, training.fit(splits)


def _read_splits(request: TrainingRequest, resumed: RunDir | None) -> Splits:
    """The splits of the run that is resumed, or those of the data."""
    data, settings, reporter = request.data, request.settings, request.reporter
    if resumed:
        check_data(resumed, data, settings, reporter)
        return read_run_splits(resumed, settings)
    if data is None:
        raise SettingsError("there is nothing to resume; give the data to train on")
    if request.validation is None and request.test is None:
        return gather_splits(data, settings, reporter.say)
    if isinstance(data, Path):
        raise SettingsError("give validation and test as files too when the training data is a file")
    return gather_splits(Splits(data, request.validation, request.test), settings, reporter.say)


def _plan(request: TrainingRequest, splits: Splits, device: Device, resumed: RunDir | None, clock: Clock) -> Plan:
    """What is trained: chosen now, or as the run that is resumed chose it."""
    recorded = resumed.read_toml().get("choice") if resumed else None
    if recorded:
        return Plan.recorded(request.settings, recorded)
    with clock.part("choice") if request.settings.leaves_choices else nullcontext():
        return plan_training(splits, request.settings, device, offline=request.offline, reporter=request.reporter)


class _Training:
    """The part of a run that writes: its folder, its tracker, and the loop that reports to both."""

    def __init__(
        self,
        request: TrainingRequest,
        plan: Plan,
        session: Session,
        run_dir: RunDir | None,
        resuming: bool,
        clock: Clock,
    ) -> None:
        self.request, self.plan, self.session, self.clock = request, plan, session, clock
        self.run_dir, self.resuming = run_dir, resuming
        track = session.settings.track
        self.tracker = open_tracker(track, request.out or Path()) if track else None

    def fit(self, splits: Splits) -> Fitted:
        """Compute the features and train by the plan; where it has two methods, the better one on held-out rows."""
        request, session, run_dir, plan = self.request, self.session, self.run_dir, self.plan
        content = run_toml(request.data, session, splits, plan)
        replaces = run_dir is not None and run_dir.is_finished
        if run_dir and self.resuming:
            check_fingerprint(run_dir, content["fingerprint"])
        elif run_dir and not replaces:
            begin_run(run_dir, splits, content, request.reporter)
        with self.clock.part("trunk"):
            features = session.features(request.reporter, plan.features)
        beside = None
        if plan.tail and plan.linear:
            with self.clock.part("linear"), request.reporter.working("fitting a linear head"):
                beside = fit_beside(plan, session, features, offline=request.offline)
        repeater = Repeater(session.prepared, features) if repeats_trainings(session.settings) else None
        trainer = start_training(plan, session, features, request.checkpoint_every_s)
        if session.trunk.shared is not None:
            say_what_is_shared(plan, isinstance(trainer, FoldedTail), request.reporter)
        if run_dir and replaces:  # only now, so that an earlier run outlives every error of the user's
            begin_run(run_dir, splits, content, request.reporter)
        if self.tracker:
            asked = asked_settings(session, plan)
            self.tracker.start(asked.to_toml(), request.out.name if request.out else request.source)
        started = time.monotonic()
        with self.clock.part("tail" if plan.tail else "linear"):
            if isinstance(trainer, LinearTraining):
                outcome = self._run_path(trainer)
            elif isinstance(trainer, FoldedTail):
                outcome = self._run_folds(trainer)
            else:
                outcome = self._run_loop(trainer, content["fingerprint"])
        fitted = Fitted(session, features, outcome, repeater)
        if not plan.candidates:
            return fitted
        chosen = choose_fitted(plan, fitted, beside, time.monotonic() - started)
        request.reporter.say(chosen.choice_in_words())
        return chosen

    def _run_path(self, training: LinearTraining) -> TrainingOutcome:
        """Solve for the head; its path has lines of history as the loop's evaluations have."""
        run_dir, reporter = self.run_dir, self.request.reporter
        if run_dir:
            run_dir.write_history([])
        with stop_on_signal() as should_stop, reporter.working("fitting the linear head"):
            training.hooks = Hooks(on_line=_report_lines(run_dir, self.tracker, reporter), should_stop=should_stop)
            return training.run()

    def _run_folds(self, training: FoldedTail) -> TrainingOutcome:
        """Train in folds and on all rows; a killed one starts from the beginning, because it takes little time."""
        run_dir, reporter = self.run_dir, self.request.reporter
        if self.resuming:
            reporter.say("a training on so few rows saves no state: it starts from the beginning")
        if run_dir:
            run_dir.write_history([])
        with stop_on_signal() as should_stop, reporter.bar("training", training.total_steps) as advance:
            training.hooks = Hooks(
                on_line=_report_lines(run_dir, self.tracker, reporter),
                on_step=lambda state: advance(1, _beside_bar(state)),
                should_stop=should_stop,
            )
            return training.run()

    def _run_loop(self, trainer: Trainer, fingerprint: str) -> TrainingOutcome:
        """Run the loop, from the beginning or from the last saved state."""
        reporter, run_dir = self.request.reporter, self.run_dir
        if run_dir and self.resuming and run_dir.resume_file.is_file():
            restore_training(trainer, run_dir.resume_file, fingerprint)
            reporter.say(f"resumed after step {trainer.state.step:,} of {trainer.total_steps:,}")
        elif self.resuming:
            reporter.say(
                "the run was killed before a state was saved (--checkpoint-every): its training starts from the "
                "beginning"
            )
        if run_dir:
            run_dir.write_history(trainer.state.history)
        remaining = trainer.total_steps - trainer.state.step
        with stop_on_signal() as should_stop, reporter.bar("training", remaining) as advance:
            trainer.hooks = Hooks(
                on_line=_report_lines(run_dir, self.tracker, reporter),
                on_step=lambda state: advance(1, _beside_bar(state)),
                should_stop=should_stop,
                save=(lambda trained: save_training(trained, run_dir.resume_file, fingerprint)) if run_dir else None,
            )
            return trainer.run()

    def finish(self, fitted: Fitted, judged: Judged, repeats: dict[str, Any]) -> dict[str, Any]:
        """Write the results and close the tracker; the content of metrics.json."""
        run_dir, clock, session, outcome = self.run_dir, self.clock, fitted.session, fitted.outcome
        metrics = metrics_json(session.prepared, outcome, judged, clock.seconds, repeats)
        if fitted.choice:
            metrics["choice"] = fitted.choice
        classifier = session.prepared.classifier
        if run_dir and session.settings.keep_adapter and classifier.config.lora is not None:
            save_adapter(run_dir.adapter, classifier)
        classifier.merge()
        metrics["durations_s"] = clock.durations_s()
        if run_dir:
            with clock.part("report"), self.request.reporter.working("writing the report"):
                write_results(run_dir, session, outcome, judged, metrics, self.request.source, self.plan)
            metrics["durations_s"] = clock.durations_s()
            run_dir.write_metrics(metrics)
        if self.tracker:
            self.tracker.finish(metrics, run_dir.path / "report.html" if run_dir else None)
        return metrics


def _judge(
    session: Session,
    features: dict[str, SplitFeatures],
    outcome: TrainingOutcome,
    audited: Audit,
    request: TrainingRequest,
    clock: Clock,
) -> Judged:
    """Calibrate the kept weights, and compare the classifier with the baselines."""
    prepared, settings, reporter = session.prepared, session.settings, request.reporter
    prepared.classifier.requires_grad_(False).eval().zero_grad(set_to_none=True)
    with reporter.working("evaluating the classifier"):
        calibrated = calibrate(prepared, features, settings, outcome, clock)
    if calibrated.ngrams:
        reporter.say(in_words(calibrated.ngrams.record))
    with clock.part("baselines"), reporter.working("training the baselines"):
        baselines = _baselines(prepared, calibrated, outcome, settings)
        baselines |= zero_shot_baseline(prepared, settings, request.offline)
    with clock.part("judge"), reporter.working("computing metrics and intervals"):
        return judge_training(prepared, features, calibrated, outcome, baselines, audited, settings)


def _baselines(
    prepared: Prepared, calibrated: Calibrated, outcome: TrainingOutcome, settings: Settings
) -> dict[str, Baseline]:
    """The baselines; n-gram models that the classifier fitted to the same rows are not fitted again."""
    rows = _rows_of_baselines(prepared, outcome)
    are_same = outcome.held_out is None or rows.validation is None
    fitted = calibrated.ngrams.fitted if calibrated.ngrams and are_same else None
    return fit_baselines(prepared.classifier.config.task, rows, settings.seed, fitted)


def _rows_of_baselines(prepared: Prepared, outcome: TrainingOutcome) -> Splits:
    """The splits for the baselines: they learn from the same rows as the classifier, which may include validation.

    With several labels a text, thresholds need validation.
    """
    splits = prepared.splits
    if outcome.held_out is None or splits.test is None or splits.validation is None or splits.train.separator:
        return splits
    return replace(splits, train=pooled([splits.train, splits.validation]), validation=None)


def _report_lines(run_dir: RunDir | None, tracker: Tracker | None, reporter: Reporter) -> Callable[[Line], None]:
    def report(line: Line) -> None:
        if run_dir:
            run_dir.append_history(line)
        if tracker:
            tracker.line(line)
        reporter.say(line_in_words(line))

    return report


def line_in_words(line: Line) -> str:
    """An evaluation as one line.

    >>> line_in_words({"epoch": 1.0, "step": 130, "train_loss": 0.25, "validation_accuracy": 0.975})
    'epoch 1.00  step    130  train loss 0.250  validation accuracy 97.50%'
    >>> line_in_words({"C": 0.01, "step": 4, "train_loss": 0.25})
    'C 0.01  train loss 0.250'
    """
    parts = [f"C {line['C']:g}"] if "C" in line else [f"epoch {line['epoch']:.2f}  step {line['step']:6,}"]
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
