"""The trials of a search: proposed by Optuna, ended early where others were better, kept in SQLite.

    the default settings first ──► TPE proposes ──► trained step by step ──► not among the best quarter? pruned
                                       ▲                                   └──► scored ─┐
                                       └──────────────── trials.sqlite3 ◄───────────────┘

A killed search goes on from the file: finished trials are kept, and one that was cut off is not counted.
"""

from __future__ import annotations

import json
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lasttoken.core.config import Settings
from lasttoken.core.errors import DivergedError, RunError, StorageError
from lasttoken.core.metric_registry import METRICS
from lasttoken.core.progress import Reporter
from lasttoken.runs.search.rows import KEPT, UNPRUNED
from lasttoken.runs.search.space import SEARCHED, Choice, Range, Space, Value, rung_of
from lasttoken.runs.search.workbench import StoppedError, Workbench
from lasttoken.training.held_out import Score

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

NAME = "search"
FEWEST_FOR_IMPORTANCES = 10  # finished trials
MOST_PROPOSALS = 60  # in turn that cost too much or were tried before; then the search ends
LOCK_WAIT_S = 20.0  # for another program that writes the file
BY_TPE = 2  # of them; the others are drawn at random
FINGERPRINT, LOSSES, SCORE, SECONDS, FAULT = "fingerprint", "losses", "score", "seconds", "fault"
AFFORDABLE, DEFAULT = "affordable_rows", "default"


@dataclass(frozen=True)
class TrialRecord:
    """A trial as metrics.json and trials.csv hold it."""

    number: int
    state: str  # finished, pruned or failed
    value: float | None  # of --metric on the held-out rows of the last step that was reached
    loss: float | None  # at the best temperature
    seconds: float
    settings: dict[str, Any]  # those that were searched
    is_default: bool


class Trials:
    """The study of one search."""

    def __init__(self, study: Study, path: Path, space: Space, metric: str, seed: int) -> None:
        """See `open_trials`; `path` is the file of the study."""
        from optuna.samplers import RandomSampler

        self.study, self.path, self.space, self.metric = study, path, space, metric
        self.samplers = (study.sampler, RandomSampler(seed=seed))
        self.higher_is_better = METRICS[metric].direction == "max"

    @property
    def n_affordable(self) -> int:
        """The rows that a step of a trial can fit."""
        return int(self.study.user_attrs[AFFORDABLE])

    def queue_defaults(self) -> None:
        """End the trials that a killed search left, and queue the default settings that have none."""
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.tell(trial.number, state=TrialState.FAIL)
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        tried = {t.user_attrs.get(DEFAULT) for t in (*self.counted(), *waiting)}
        for method in self.space.rungs:
            if method not in tried:
                own = self.space.parameters_of(method).items()
                values = {name if name == "method" else f"{method}.{name}": value for name, value in own}
                self.study.enqueue_trial(values, user_attrs={DEFAULT: method})

    # ------------------------------------------------------------------ the loop

    def run(self, bench: Workbench, n_trials: int, should_stop: Callable[[], bool], reporter: Reporter) -> None:
        """Run trials until there are `n_trials`, or a stop is asked for.

        Raises:
            StorageError: the file of the study cannot be written.
        """
        with reporter.bar("trials", n_trials) as advance, _database_errors(self.path):
            advance(len(self.counted()), "")
            while len(self.counted()) < n_trials and not should_stop() and self._run_one(bench, should_stop):
                best = self.best()
                advance(1, f"best {self.metric} {self._value(best):.3f}" if best else "")

    def _run_one(self, bench: Workbench, should_stop: Callable[[], bool]) -> bool:
        """Run a trial; False: nothing new is proposed."""
        from optuna.trial import TrialState

        proposed = self._proposed()
        if proposed is None:
            return False
        trial, settings = proposed
        started = time.monotonic()

        def report(step: int, score: Score) -> bool:
            trial.report(self._objective(score), step)
            trial.set_user_attr(SCORE, [score.value, score.loss])
            return trial.should_prune()

        try:
            scored = bench.run(settings, report, should_stop)
        except StoppedError:
            self.study.tell(trial, state=TrialState.FAIL)
            return True
        except DivergedError as error:
            trial.set_user_attr(FAULT, str(error))
            trial.set_user_attr(SECONDS, time.monotonic() - started)
            self.study.tell(trial, state=TrialState.FAIL)
            return True
        trial.set_user_attr(SECONDS, time.monotonic() - started)
        if scored is None:
            self.study.tell(trial, state=TrialState.PRUNED)
            return True
        trial.set_user_attr(SCORE, [scored.score.value, scored.score.loss])
        trial.set_user_attr(LOSSES, [round(float(loss), 6) for loss in scored.losses])
        self.study.tell(trial, self._objective(scored.score))
        return True

    def _proposed(self) -> tuple[Trial, Settings] | None:
        """A trial with its settings; None: many proposals in turn were tried before, or cost too much.

        Those that cost too much are told to be poor, so that they become rare; those that were tried keep their value.
        """
        from optuna.trial import TrialState

        tried = {self.settings_of(trial): trial for trial in self.counted()}
        for place in range(MOST_PROPOSALS if len(tried) < self.space.size else 0):
            self.study.sampler = self.samplers[place >= BY_TPE]
            trial = self.study.ask()
            settings = self._settings(self._suggested(trial))
            if earlier := tried.get(settings):
                known = {"values": earlier.value} if earlier.state == TrialState.COMPLETE else {"state": earlier.state}
                self.study.tell(trial, **known)
            elif self.space.cost(settings) <= self.space.most_cost or DEFAULT in trial.user_attrs:
                return trial, settings
            else:
                self.study.tell(trial, state=TrialState.PRUNED)
        return None

    def _suggested(self, trial: Trial) -> dict[str, Value]:
        """The parameters of a trial, method first."""
        methods = self.space.rungs
        method = methods[0] if len(methods) == 1 else trial.suggest_categorical("method", methods)
        values: dict[str, Value] = {"method": str(method)}
        for name, parameter in self.space.parameters[str(method)].items():
            values[name] = _suggest(trial, f"{method}.{name}", parameter)
        return values

    def _settings(self, parameters: dict[str, Value]) -> Settings:
        return self.space.settings(parameters)

    def _objective(self, score: Score) -> float:
        """What Optuna minimizes."""
        return -score.value if self.higher_is_better else score.value

    # ------------------------------------------------------------------ what there is

    def counted(self) -> list[FrozenTrial]:
        """The trials that ended and were not rejected or cut off."""
        from optuna.trial import TrialState

        ended = [t for t in self.study.get_trials(deepcopy=False) if t.state.is_finished() and SECONDS in t.user_attrs]
        return [t for t in ended if t.state != TrialState.FAIL or FAULT in t.user_attrs]

    def finished(self) -> list[FrozenTrial]:
        """The trials that were scored at their last step."""
        from optuna.trial import TrialState

        return [t for t in self.counted() if t.state == TrialState.COMPLETE]

    def best(self) -> FrozenTrial | None:
        """The best finished trial; of equal ones the first."""
        return min(self.finished(), key=lambda t: (t.value, t.number), default=None)

    def default(self) -> FrozenTrial | None:
        """The trial of the default run's settings, if it was finished."""
        method = self.space.rungs[0]
        return next((t for t in self.finished() if t.user_attrs.get(DEFAULT) == method), None)

    def settings_of(self, trial: FrozenTrial) -> Settings:
        """The settings of a trial."""
        methods = self.space.rungs
        method = str(trial.params.get("method", methods[0]))
        prefix = f"{method}."
        own = {name.removeprefix(prefix): v for name, v in trial.params.items() if name.startswith(prefix)}
        return self._settings({"method": method, **own})

    def losses_of(self, trial: FrozenTrial) -> NDArray[np.float64]:
        """The loss of each held-out row under a finished trial."""
        return np.array(trial.user_attrs[LOSSES], dtype=np.float64)

    def _value(self, trial: FrozenTrial) -> float:
        return float(trial.user_attrs[SCORE][0])

    def records(self) -> list[TrialRecord]:
        """All trials that count, in the order in which they ran."""
        names = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
        records = []
        for trial in self.counted():
            value, loss = trial.user_attrs.get(SCORE, (None, None))
            settings = self.settings_of(trial)
            shown = {name: getattr(settings, name) for name in SEARCHED if _matters(name, settings)}
            seconds, is_default = round(trial.user_attrs[SECONDS], 3), DEFAULT in trial.user_attrs
            records.append(TrialRecord(trial.number, names[trial.state.name], value, loss, seconds, shown, is_default))
        return records

    def importances(self) -> dict[str, float]:
        """How much each parameter decides whether a trial is among the best; empty where too few were finished."""
        from optuna.importance import get_param_importances

        if len(self.finished()) < FEWEST_FOR_IMPORTANCES:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a parameter of a rung with few trials
            shares = get_param_importances(self.study)
        return {name: round(float(share), 4) for name, share in shares.items()}


def _matters(name: str, settings: Settings) -> bool:
    if settings.method == "linear":
        return name in ("method", "depth", "read")
    return rung_of(settings) == "lora" or not name.startswith("lora_")


def _suggest(trial: Trial, name: str, parameter: Choice | Range) -> Value:
    """A value of a parameter; each method has its own in the study, which is what `name` says."""
    if isinstance(parameter, Choice):
        chosen = trial.suggest_categorical(name, parameter.values)
        assert chosen is not None  # Optuna's type allows it
        return chosen
    if parameter.step is not None:
        return trial.suggest_int(name, int(parameter.low), int(parameter.high), step=parameter.step)
    return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log)


def open_trials(
    path: Path, space: Space, settings: Settings, fingerprint: str, *, n_affordable: int, resume: bool
) -> Trials:
    """The study in a SQLite file: a new one, or the one that is there. What is left of the default settings is queued.

    Args:
        settings: of the run; their seed is the sampler's.
        n_affordable: rows that a step of a trial can fit; a search that goes on keeps the number that it began with.

    Raises:
        RunError: the study in the file is of other data, settings or weights, or is not a study.
    """
    import optuna
    from optuna.pruners import PercentilePruner
    from optuna.samplers import TPESampler
    from optuna.storages import RDBStorage
    from sqlalchemy import URL, event

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if not resume:
        path.unlink(missing_ok=True)
    with _database_errors(path):
        address = URL.create("sqlite", database=str(path)).render_as_string()
        storage = RDBStorage(address, engine_kwargs={"connect_args": {"timeout": LOCK_WAIT_S}})
        # A killed process leaves a whole file all the same; only waiting for the disk after each value is left out.
        event.listen(storage.engine, "connect", lambda opened, _: opened.execute("PRAGMA synchronous=OFF"))
        storage.engine.dispose()
        study = optuna.create_study(
            storage=storage,
            sampler=TPESampler(seed=settings.seed),
            pruner=PercentilePruner(100 * KEPT, n_startup_trials=UNPRUNED, n_min_trials=UNPRUNED - 1),
            study_name=NAME,
            load_if_exists=True,
        )
        recorded = study.user_attrs.get(FINGERPRINT)
    if recorded is None:
        study.set_user_attr(AFFORDABLE, n_affordable)
        study.set_user_attr(FINGERPRINT, fingerprint)
    elif recorded != fingerprint:
        raise RunError(
            f"{path} holds a search with other data, settings or weights than these; resume with those it was started "
            "with, or search into another --out"
        )
    trials = Trials(study, path, space, settings.metric, settings.seed)
    trials.queue_defaults()
    return trials


def check_readable(path: Path) -> None:
    """Reject a file that cannot be the trials of a search, before the default settings are trained.

    Raises:
        RunError: it is damaged, or not a database.
        StorageError: another program holds its lock.
    """
    with _database_errors(path), closing(sqlite3.connect(path, timeout=LOCK_WAIT_S)) as database:
        (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise sqlite3.DatabaseError(answer)


@contextmanager
def _database_errors(path: Path) -> Iterator[None]:
    """Name the file in errors of SQLite, which Optuna and SQLAlchemy wrap.

    Raises:
        RunError: it is damaged, or not a study.
        StorageError: it is locked, or the disk is full.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (sqlite3.Error, SQLAlchemyError, StorageInternalError) as error:
        cause: BaseException = error
        while not isinstance(cause, sqlite3.Error) and cause.__cause__:
            cause = cause.__cause__
        if isinstance(cause, sqlite3.OperationalError):
            raise StorageError(
                f"{path} cannot be used: {cause}; close other programs that use it, or free some space, and run again "
                "with --resume"
            ) from error
        raise RunError(
            f"{path} cannot be read as the trials of a search ({cause}); search again without --resume"
        ) from error


def space_in_json(space: Space) -> str:
    """Everything that defines a space, for a fingerprint."""
    defaults = {method: settings.that_change_training() for method, settings in space.defaults.items()}
    return json.dumps([defaults, repr(space.parameters), space.n_blocks], sort_keys=True)
