"""A study: rows of settings trained with the same seeds on the same splits, and compared with the first row.

rows ─► checked, opened ─► in the order in which they share most ─► features, once ─► every seed ─► a file each
                                                                                         table ◄──────┘

All errors that a user can cause are raised before anything is trained. study.json is written last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lasttoken.audit.collecting import audit_splits
from lasttoken.backbone.pretrained import locate_backbone
from lasttoken.core.config import CHOSEN, Settings
from lasttoken.core.errors import DivergedError, NetworkError, SettingsError, UserError
from lasttoken.core.locks import exclusive
from lasttoken.core.metric_registry import METRICS, headline_of
from lasttoken.core.process import flush_denormals
from lasttoken.core.progress import Reporter
from lasttoken.data.gather import gather_splits
from lasttoken.data.label_tables import label_names
from lasttoken.data.splitting.splits import Splits
from lasttoken.report.study_page import render_study
from lasttoken.runs.facts import hash_of
from lasttoken.runs.label_flags import check_label_flags
from lasttoken.runs.session import open_device
from lasttoken.runs.study_dir import StudyDir, TrainingResult, training_key
from lasttoken.runs.study_file import Study, StudyRow
from lasttoken.runs.study_table import study_csv, study_table
from lasttoken.runs.study_training import chosen_settings, train_open_row, train_row
from lasttoken.runs.study_trunks import OpenRow, Trunks, in_order


@dataclass(frozen=True, kw_only=True)
class StudyRequest:
    """What to train, and where to leave the results."""

    study: Study
    out: Path
    resume: bool = False  # keep the trainings that are in `out`
    overwrite: bool = False
    offline: bool = False
    reporter: Reporter = field(default_factory=Reporter)


@flush_denormals()
def run_study(request: StudyRequest) -> dict[str, Any]:
    """Train what is missing, and write the table; the content of study.json.

    Raises:
        UserError: see errors.py; nothing has been trained then. Among them RunError: another process works on `out`.
        FailedError: disk, network or device.
    """
    with exclusive(request.out):
        try:
            return _Runner(request).run()
        except KeyboardInterrupt:
            if StudyDir(request.out).is_begun:
                request.reporter.say(f"{request.out} is unfinished; --resume continues it")
            raise


class _Runner:
    """A study that is running, with the lock on its folder held."""

    def __init__(self, request: StudyRequest) -> None:
        self.study, self.reporter = request.study, request.reporter
        self.folder, self.request = StudyDir(request.out), request
        self.offline = request.offline or request.study.skips_missing
        self.folder.check_free(resume=request.resume, overwrite=request.overwrite)
        first = self.study.rows[0].settings
        with self.reporter.working("reading and checking the data"):
            self.splits: Splits = gather_splits(self.study.data, first, self.reporter.say)
            for finding in audit_splits(self.splits.named()).findings():
                self.reporter.say(finding)
        self.trunks = Trunks(self.splits, self.offline, self.reporter)
        self.results: dict[str, TrainingResult] = {}  # by `training_key`
        self.weights: dict[str, str] = {}  # hashes of backbones, by their names and numbers of blocks
        self.reasons: dict[str, str] = {}  # why a row has no results, by its name
        self.n_done = self.n_all = 0

    def run(self) -> dict[str, Any]:
        """Open all rows, train what is missing, write the table."""
        rows = self._rows_at_hand()
        opened = self._open(rows)
        content = {**_record(self.study), "weights": self.weights}
        resumes = self.folder.begin(content, self.splits, _hash_of(self.splits), resume=self.request.resume)
        if self.request.resume and not resumes:
            self.reporter.say(f"nothing to resume in {self.folder.path}: the study starts from the beginning")
        self._read_results(rows)
        ready = [row for row in rows if row.name in opened]
        for place in in_order([opened[row.name] for row in ready]):
            row = ready[place]
            self._train(row, opened.pop(row.name), list(opened.values()))
        for row in rows:
            if row.settings.leaves_choices:
                self._train_open(row)
        table = study_table(self.study, self.splits, self.results, self.reasons)
        self.folder.finish(table, study_csv(table), render_study(table))
        return table

    # ------------------------------------------------------------------ before anything is trained

    def _rows_at_hand(self) -> list[StudyRow]:
        """The rows to train: those whose backbone is not at hand are left out where the study allows it.

        Raises:
            SettingsError: there is none.
        """
        absent: dict[tuple[str, bool], bool] = {}
        for row in self.study.rows if self.study.skips_missing else ():
            name, is_drawn = row.settings.backbone, row.settings.random_weights is not None
            if (name, is_drawn) not in absent:
                with _naming(row):
                    absent[name, is_drawn] = not self._is_at_hand(row.settings)
            if absent[name, is_drawn]:
                reason = f"its backbone {name} is not on this machine; lasttoken fetch {name} brings it"
                self.reasons[row.name] = f"skipped: {reason}"
                self.reporter.say(f"row {row.name!r} is skipped: {reason}")
        rows = [row for row in self.study.rows if row.name not in self.reasons]
        if not rows:
            raise SettingsError(
                f"no row of the study {self.study.name!r} can be trained, because no backbone is on this machine; "
                f"fetch one (lasttoken fetch {next(iter(absent))[0]}), or name a folder with --backbone"
            )
        return rows

    def _is_at_hand(self, settings: Settings) -> bool:
        """Whether the backbone of the settings needs no network; drawn weights need only a tokenizer."""
        try:
            if settings.random_weights is None:
                locate_backbone(settings.backbone, offline=True)
            else:
                self.trunks.backbone(settings)
        except NetworkError:
            return False
        return True

    def _open(self, rows: list[StudyRow]) -> dict[str, OpenRow]:
        """Check every row, and open those that leave nothing to be chosen, by name. Equal rows are opened once.

        Raises:
            UserError: names the row.
        """
        opened: dict[str, OpenRow] = {}
        labels, keys = label_names(self.splits.train), set()
        for row in rows:
            key = training_key(row.settings, row.settings.seed)
            if key in keys:
                continue
            keys.add(key)
            with _naming(row):
                check_label_flags(row.settings, labels)
                is_open = row.settings.leaves_choices
                opened_row = self.trunks.open(_whole_tail(row.settings) if is_open else row.settings)
                if not is_open:
                    opened[row.name] = opened_row
                if row.settings.random_weights is None:
                    name = f"{row.settings.backbone}, {opened_row.backbone.config.n_layer} blocks"
                    self.weights[name] = self.trunks.weights_of(opened_row)
        notes = dict.fromkeys(note for each in opened.values() for note in each.prepared.notes)
        for note in notes:
            self.reporter.say(note)
        return opened

    def _read_results(self, rows: list[StudyRow]) -> None:
        """The trainings that are there already."""
        keys = {training_key(row.settings, seed) for row in rows for seed in self.study.seeds}
        for key in sorted(keys):
            if (result := self.folder.read(key)) is not None:
                self.results[key] = result
        self.n_all, self.n_done = len(keys), len(self.results)
        if self.results:
            self.reporter.say(f"{self.n_done} of {self.n_all} trainings are there already")

    # ------------------------------------------------------------------ training

    def _missing(self, row: StudyRow) -> list[int]:
        return [seed for seed in self.study.seeds if training_key(row.settings, seed) not in self.results]

    def _train(self, row: StudyRow, opened: OpenRow, later: list[OpenRow], label_words: float | None = None) -> None:
        """Train the seeds of a row that are missing, then let go of what no later row needs."""

        def train(seed: int) -> TrainingResult:
            session, features, trunk_s = self.trunks.session(opened, seed)
            return train_row(session, features, label_words, trunk_s, self._title(row, seed), self.reporter)

        self._train_seeds(row, train)
        self.trunks.keep_levels(later)
        self.trunks.keep_backbones(later)

    def _train_open(self, row: StudyRow) -> None:
        """Train a row that leaves something to be chosen: the first seed chooses for the others."""
        seeds = self.study.seeds

        def choose(seed: int) -> TrainingResult:
            device = open_device(row.settings, Reporter())
            title = self._title(row, seed)
            return train_open_row(self.splits, row.settings, device, self.offline, title, self.reporter)

        if seeds[0] in self._missing(row):
            self._train_seeds(row, choose, [seeds[0]])
        first = self.results.get(training_key(row.settings, seeds[0]))
        if first is not None and self._missing(row):
            assert first.choice is not None
            opened = self.trunks.open(chosen_settings(row.settings, first.choice))
            self._train(row, opened, [], first.choice["label_words"])

    def _train_seeds(
        self, row: StudyRow, train: Callable[[int], TrainingResult], seeds: list[int] | None = None
    ) -> None:
        for seed in self._missing(row) if seeds is None else seeds:
            title = self._title(row, seed)
            try:
                result = train(seed)
            except DivergedError as error:
                self.reasons[row.name] = f"failed with seed {seed}: {error}"
                self.reporter.say(f"row {row.name!r} {self.reasons[row.name]}")
                return
            key = training_key(row.settings, seed)
            self.folder.write(key, result)
            self.results[key] = result
            self.n_done += 1
            self.reporter.say(f"{title}: {_in_words(result)}")

    def _title(self, row: StudyRow, seed: int) -> str:
        return f"training {self.n_done + 1} of {self.n_all}, {row.name}, seed {seed}"


class _naming:  # noqa: N801 - read as a word: with _naming(row)
    """Put the name of a row before the sentence of a user's error."""

    def __init__(self, row: StudyRow) -> None:
        self.name = row.name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, UserError | NetworkError):
            raise type(error)(f"row {self.name!r}: {error}") from error


def _whole_tail(settings: Settings) -> Settings:
    """Settings that leave something open as a tail of the whole backbone, which has to be valid too."""
    depth = None if settings.depth == CHOSEN else settings.depth
    return replace(settings, method="tail", depth=depth)


def _record(study: Study) -> dict[str, Any]:
    """The content of study.toml."""
    return {
        "data": str(study.data),
        "seeds": list(study.seeds),
        "rows": {row.name: row.settings.to_toml() for row in study.rows},
    }


def _hash_of(splits: Splits) -> str:
    """The hash of the rows of every split, of their labels, and of how train was made."""
    digest = hashlib.sha256(repr((splits.validation_is_cut, splits.label_counts, splits.train.separator)).encode())
    for name, examples in splits.named().items():
        digest.update(f"{name}{hash_of(examples)}".encode())
    return digest.hexdigest()


def _in_words(result: TrainingResult) -> str:
    metric = METRICS[headline_of(result.metrics)]
    value, loss = metric.formatted({metric.name: result.metrics[metric.name]}), result.validation["loss"]
    return f"{metric.title} {value}, validation loss {loss:.3f} ({result.seconds + result.trunk_s:.1f} s)"
