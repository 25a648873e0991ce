"""A search from rows to a finished run: what `lasttoken search` does.

    default settings, trained and judged ─► trials on train and validation ─► the best of them, trained and judged
                        └──────────────────────── which of the two is kept (decision.py) ─────┘
                                                                    └─► an ordinary run, with its trials

Both judgements read the test split, and nothing that is chosen depends on it. Errors that a user can cause come before
anything is written; metrics.json is written last.
"""

from __future__ import annotations

import hashlib
import importlib.util
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.backbone.pretrained import count_blocks
from lasttoken.classifier.run_dir import TRIALS, RunDir
from lasttoken.core.config import CHOSEN, Settings
from lasttoken.core.errors import RunError, SettingsError
from lasttoken.core.locks import exclusive
from lasttoken.core.lora import LORA, set_names
from lasttoken.core.metric_registry import METRICS
from lasttoken.core.process import flush_denormals, stop_on_signal
from lasttoken.core.progress import Reporter
from lasttoken.core.storage import write_text
from lasttoken.data.gather import gather_splits
from lasttoken.data.tables.cells import csv_line
from lasttoken.evaluation.verdict import signed_points
from lasttoken.runs.choice import tail_depth
from lasttoken.runs.search.decision import Decision, decide
from lasttoken.runs.search.rows import FOLDED_ROWS, affordable_rows, trial_rows, uses_validation
from lasttoken.runs.search.space import RUNGS, SEARCHED, Space, check_leaves_something, passes_of, rung_of, search_space
from lasttoken.runs.search.trials import TrialRecord, Trials, check_readable, open_trials, space_in_json
from lasttoken.runs.search.workbench import Workbench, open_workbench
from lasttoken.runs.session import completed
from lasttoken.runs.train import JudgedRun, TrainedRun, TrainingRequest, fit_and_judge
from lasttoken.training.folded import FOLDED, refits
from lasttoken.training.held_out import N_FOLDS

TRIALS_COST = 0.5  # work of all trials, to that of the default run
MEAN_COST = 0.6  # of a trial, to the largest one that is allowed
MOST_LORA = 1.0  # blocks times epochs of the first LoRA that is tried, to those of the default tail
MOST_DEPTHS = 5  # of linear heads, the best of those that the default run compared
NOTHING = "the search found nothing better than the default settings"


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """What to search on, for how long, and where to leave the run."""

    data: Path
    settings: Settings
    given: frozenset[str]  # names of settings that the user set, which are not searched
    out: Path
    n_trials: int = 40
    minutes: float | None = None  # after which no trial is started; the last training follows
    resume: bool = False  # go on with the trials in `out`
    overwrite: bool = False  # replace a finished run
    offline: bool = False
    reporter: Reporter = field(default_factory=Reporter)

    def check(self) -> None:
        """Reject what no search can do, before anything is read.

        Raises:
            SettingsError: no Optuna, no trials or no time, or flags that leave nothing to search.
        """
        if self.n_trials < 1:
            raise SettingsError(f"--trials is {self.n_trials}; it must be at least 1")
        if self.minutes is not None and not self.minutes > 0:
            raise SettingsError(f"--minutes is {self.minutes:g}; it must be above 0")
        check_leaves_something(self.settings.method, self.given)
        if importlib.util.find_spec("optuna") is None:
            raise SettingsError(
                "search needs Optuna from the extra [search]; run pip install '.[search]' in lasttoken's folder"
            )


@flush_denormals()
def run_search(request: SearchRequest) -> TrainedRun:
    """Search for better settings than the default ones, and leave the better run in `out`.

    Raises:
        UserError: see errors.py; nothing has been written then, and an earlier run in `out` is unchanged.
        FailedError: disk, network, device, or a loss of the default settings that is not finite.
    """
    request.check()
    with exclusive(request.out):
        try:
            return _Search(request).run()
        except KeyboardInterrupt:
            if (request.out / TRIALS).is_file() and not RunDir(request.out).is_finished:
                request.reporter.say(f"{request.out} is unfinished; --resume continues the search")
            raise


class _Search:
    """One search, with the lock on its folder held."""

    def __init__(self, request: SearchRequest) -> None:
        self.request, self.run_dir, self.reporter = request, RunDir(request.out), request.reporter
        self.started = self.default_ended = time.monotonic()
        self.goes_on = request.resume and self._can_resume()
        if not self.goes_on:
            self.run_dir.check_free(request.overwrite)

    def _can_resume(self) -> bool:
        if self.run_dir.is_finished:
            raise RunError(
                f"{self.run_dir.path} is finished; there is nothing to resume (to search anew, pass --overwrite alone)"
            )
        if (path := self.run_dir.path / TRIALS).is_file():
            check_readable(path)
            return True
        self.reporter.say(f"nothing to resume in {self.run_dir.path}: the search starts from the beginning")
        return False

    def run(self) -> TrainedRun:
        """Train the default settings, run the trials, and train the best of them; write the run that is kept."""
        with self.reporter.working("reading and checking the data"):
            splits = gather_splits(self.request.data, self.request.settings, self.reporter.say)
        self.reporter.say("first the default settings are trained, which the search has to beat")
        default = fit_and_judge(self._training(self.request.settings, self.reporter), splits)
        self.default_ended = time.monotonic()
        if default.fitted.outcome.stopped == "interrupted":
            return self._write(default, {"sentence": "the search was interrupted before its first trial"}, [])
        space = _space(default, self.request)
        trials = self._open(default, space)
        rows = trial_rows(default.splits, trials.n_affordable, default.settings.seed)
        bench = open_workbench(
            space,
            rows,
            default.fitted.session,
            label_counts=default.fitted.session.prepared.label_counts,
            offline=self.request.offline,
            reporter=self.reporter,
        )
        with stop_on_signal() as asked:
            trials.run(bench, self.request.n_trials, self._stop(asked), self.reporter)
            interrupted = asked()
        return self._finish(default, trials, bench, interrupted)

    def _training(self, settings: Settings, reporter: Reporter) -> TrainingRequest:
        return TrainingRequest(
            data=self.request.data, settings=settings, offline=self.request.offline, reporter=reporter
        )

    def _open(self, default: JudgedRun, space: Space) -> Trials:
        """The study in the folder, which is created, or cleared of what is replaced."""
        path = self.run_dir.path / TRIALS
        if not self.goes_on:
            if path.is_file() and not self.run_dir.is_finished:
                self.reporter.say(f"{path.parent} held an unfinished search, which is replaced (--resume continues it)")
            self.run_dir.clear(keep=("run.toml",))
        facts = default.fitted.session.fingerprint() + space_in_json(space)
        trials = open_trials(
            path,
            space,
            default.settings,
            hashlib.sha256(facts.encode()).hexdigest(),
            n_affordable=_affordable(default, space, self.request.n_trials),
            resume=self.goes_on,
        )
        if self.goes_on:
            self.reporter.say(f"resumed after {len(trials.counted()):,} of {self.request.n_trials:,} trials")
        return trials

    def _stop(self, asked: Callable[[], bool]) -> Callable[[], bool]:
        """Whether no further step is to be computed: asked for, or out of time."""
        minutes = self.request.minutes
        deadline = None if minutes is None else self.started + 60 * minutes
        return lambda: asked() or (deadline is not None and time.monotonic() >= deadline)

    def _finish(self, default: JudgedRun, trials: Trials, bench: Workbench, interrupted: bool) -> TrainedRun:
        """Decide, train the settings that were found if they may be better, and write the run that is kept."""
        found, decision = self._decided(default, trials, bench)
        takes_found = found is not None and decision is not None and decision.takes_found
        record = self._record(default, trials, found, decision)
        record |= {"interrupted": interrupted, "kept": "found" if takes_found else "default"}
        for sentence in filter(None, (record["sentence"], record["evidence"])):
            self.reporter.say(sentence)
        if takes_found and found:
            for warning in found.judged.warnings:
                self.reporter.say(warning)
            return self._write(found, record, trials.records())
        default.training.clock.leave_out(time.monotonic() - self.default_ended)
        return self._write(default, record, trials.records())

    def _decided(
        self, default: JudgedRun, trials: Trials, bench: Workbench
    ) -> tuple[JudgedRun | None, Decision | None]:
        """The run of the settings found, where it was trained, and the decision; see decision.py."""
        best, ours = trials.best(), trials.default()
        if best is None or ours is None or trials.settings_of(best) == trials.settings_of(ours):
            return None, None
        decision = None
        if bench.rows.with_validation:
            decision = decide(
                trials.losses_of(ours),
                trials.losses_of(best),
                held_out="folds of train and validation",
                n_compared=len(trials.counted()) - 1,
            )
            if not decision.takes_found:
                return None, decision
        with self.reporter.working("training the settings that were found"):
            found = fit_and_judge(self._training(trials.settings_of(best), Reporter()), default.splits)
        if found.fitted.outcome.stopped == "interrupted":
            return None, decision
        return found, decision or _on_validation(default, found)

    def _record(
        self, default: JudgedRun, trials: Trials, found: JudgedRun | None, decision: Decision | None
    ) -> dict[str, Any]:
        """The entry of metrics.json."""
        records, best = trials.records(), trials.best()
        test = compare_on_test(default, found) if found and decision and decision.takes_found else None
        counts = {f"n_{state}": sum(r.state == state for r in records) for state in ("finished", "pruned", "failed")}
        return {
            "sentence": test["sentence"] if test else NOTHING,
            "evidence": decision.in_words() if decision else "",
            "metric": trials.metric,
            "n_trials": len(records),
            **counts,
            "seconds": round(time.monotonic() - self.started, 3),
            "decision": decision.to_json() if decision else None,
            "test": test,
            "best": best.number if best else None,
            "importances": trials.importances(),
            "trials": [asdict(record) for record in records],
        }

    def _write(self, kept: JudgedRun, record: dict[str, Any], records: list[TrialRecord]) -> TrainedRun:
        """Write the run that is kept, with its trials."""
        self.run_dir.clear(keep=("run.toml", TRIALS))
        if records:
            write_text(self.run_dir.path / "trials.csv", trials_table(records))
        return kept.write_into(self.run_dir, {"search": record}, (TRIALS, "trials.csv"))


def _space(default: JudgedRun, request: SearchRequest) -> Space:
    """The space around what the default run trained, and around a tail and LoRA where it trained none."""
    plan, main, splits, asked = default.training.plan, default.settings, default.splits, request.settings
    config = default.fitted.session.prepared.classifier.decoder.config
    n_blocks = count_blocks(asked.backbone, request.offline, None, asked.random_weights is None)
    whole = replace(config, n_layer=n_blocks)
    planned = [completed(each, config, splits.train) for each in (plan.tail, plan.linear) if each is not None]
    rungs = {rung_of(each): each for each in (*planned, main)}
    tried = {"linear": ("linear",), "tail": ("tail", "lora")}.get(asked.method, RUNGS)
    if "train_blocks" in request.given or set_names(vars(asked)):
        tried = tuple(rung for rung in tried if rung in rungs)
    after = main.n_blocks or n_blocks
    if "tail" in tried and "tail" not in rungs:
        tail = completed(replace(asked, method="tail"), whole, splits.train)
        rungs["tail"] = replace(tail, depth=_depth(asked) or str(tail_depth(after, tail.train_blocks, n_blocks)))
    if "lora" in tried and "lora" not in rungs:
        tail = rungs["tail"]
        lora = completed(replace(asked, method="tail", train_blocks=LORA), whole, splits.train)
        most = max(1, round(MOST_LORA * passes_of(tail, n_blocks) / lora.n_epochs))
        n_updated = min(int(lora.lora_blocks), most, tail.n_blocks or n_blocks)
        rungs["lora"] = replace(lora, depth=tail.depth, lora_blocks=str(n_updated))
    order = sorted(rungs, key=rung_of(main).__ne__)
    defaults = {rung: replace(rungs[rung], prompt=main.prompt) for rung in order}
    return search_space(defaults, request.given, n_blocks, _depths(default), len(splits.train))


def _depth(asked: Settings) -> str | None:
    """The depth that the user gave; None: it is searched."""
    return None if asked.depth in (None, CHOSEN) else asked.depth


def _depths(default: JudgedRun) -> list[int]:
    """The depths at which linear heads were best in the default run."""
    candidates = (default.fitted.choice or {}).get("candidates", [])
    linear = sorted((each for each in candidates if each["method"] == "linear"), key=lambda each: float(each["loss"]))
    return list(dict.fromkeys(int(each["depth"]) for each in linear))[:MOST_DEPTHS]


def _affordable(default: JudgedRun, space: Space, n_trials: int) -> int:
    """The rows that a step of a trial can fit if all trials together cost `TRIALS_COST` default runs."""
    splits, features, n_blocks = default.splits, default.fitted.features, space.n_blocks
    tail = next((settings for rung, settings in space.defaults.items() if rung != "linear"), None)
    n_rows = sum(map(len, splits.named().values()))
    if tail is None:
        return n_rows
    n_trainings = 1
    if splits.validation_is_cut and refits(features, tail):
        n_tokens = sum(features[name].source.encoded.n_tokens for name in ("train", "validation"))
        n_trainings = N_FOLDS if tail.n_epochs * n_tokens <= FOLDED else 2
    per_row = 3 * passes_of(tail, n_blocks)  # a row's backward pass costs two forward ones
    work = n_rows * n_blocks + len(splits.train) * per_row * n_trainings
    pool = len(splits.train) + (len(splits.named()["validation"]) if uses_validation(splits) else 0)
    return affordable_rows(
        TRIALS_COST * work, n_trials, MEAN_COST * space.most_cost * per_row, in_folds=pool <= FOLDED_ROWS
    )


def _on_validation(default: JudgedRun, found: JudgedRun) -> Decision:
    """The decision on rows that no trial has seen."""
    ours, theirs = (run.judged.scored["validation"] for run in (default, found))
    metric = METRICS[default.settings.metric]
    before, after = (float(scored.metrics.value(metric.name) or 0.0) for scored in (ours, theirs))
    agrees = metric.name == "loss" or (after > before if metric.direction == "max" else after < before)
    return decide(_losses(default), _losses(found), held_out="validation", metric_agrees=agrees)


def _losses(run: JudgedRun) -> NDArray[np.float64]:
    scored = run.judged.scored["validation"]
    return scored.task.row_losses(scored.log_probs, scored.truth)


def compare_on_test(default: JudgedRun, found: JudgedRun) -> dict[str, Any]:
    """The paired difference of both on the test rows, or on validation where there is no test, with its sentence."""
    split = default.judged.headline
    ours, theirs = (run.judged.on_headline for run in (found, default))
    groups = default.judged.audit.split_rows()[split]
    task = ours.task
    difference = task.difference(ours.truth, ours.predicted, theirs.predicted, groups)
    low, high = difference.ci95
    interval = f"{signed_points(low)} to {signed_points(high)}"
    if low > 0:
        sentence = (
            f"the settings found are better than the default by {difference.value * 100:.1f} {task.points} "
            f"({low * 100:.1f} to {high * 100:.1f}) on {split}"
        )
    else:
        sentence = (
            f"the settings found have a smaller loss on held-out rows and are kept; on {split} they differ from the "
            f"default by {signed_points(difference.value)} {task.points} ({interval}), which may be chance"
        )
    return {
        "split": split,
        "n": len(ours.truth),
        "measure": task.headline,
        "difference": difference.value,
        "ci95": list(difference.ci95),
        "p_value": difference.p_value,
        "sentence": sentence,
    }


def trials_table(records: list[TrialRecord]) -> str:
    """trials.csv: a line for each trial."""
    lines: list[tuple[str, ...]] = [("trial", "state", "default", "value", "loss", "seconds", *SEARCHED)]
    for record in records:
        own = [record.number, record.state, int(record.is_default), record.value, record.loss, record.seconds]
        cells = [*own, *(record.settings.get(name) for name in SEARCHED)]
        lines.append(tuple("" if cell is None else str(cell) for cell in cells))
    return "".join(map(csv_line, lines))
