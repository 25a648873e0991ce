"""One training from rows to a finished run: what `lasttoken train` and `TextClassifier.train` both do.

    splits ─► token ids ─► trunk, once ─► tail, every step ─► kept weights ─► metrics and baselines ─► report

Everything that a user can get wrong is found before anything is written. metrics.json is written last.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lasttoken.checkpoint import load_classifier, save_classifier
from lasttoken.config import Settings
from lasttoken.data.encoding import FOREIGN_TOKENS_PER_CHARACTER, Encoded, encode_texts, tokens_per_character
from lasttoken.data.files import Examples
from lasttoken.data.gather import gather_splits, shared_with_train
from lasttoken.data.splits import Splits, label_counts, natural_order, read_splits, write_splits
from lasttoken.errors import RunError, SettingsError
from lasttoken.evaluation.baselines import Baseline, run_baselines
from lasttoken.evaluation.metrics import Metrics, compute_metrics
from lasttoken.model.classifier import Classifier, ClassifierConfig
from lasttoken.model.pretrained import Backbone, load_backbone
from lasttoken.predict import Predictor, log_softmax
from lasttoken.report.curves import draw_curves
from lasttoken.report.page import render_report
from lasttoken.rundir import RunDir
from lasttoken.runtime import Machine, pick_machine, quicken_cpu, stop_on_signal
from lasttoken.storage import write_text
from lasttoken.talk import Talk
from lasttoken.training.features import FeatureCache, TrunkPass
from lasttoken.training.loop import Hooks, Line, Outcome, Split, State, Trainer, tail_logits
from lasttoken.training.resume import restore_training, save_training

VERSIONS_OF = ("torch", "numpy", "tokenizers", "safetensors", "scikit-learn")
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
    """Seconds of each part of a run."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the block's time to a part."""
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


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
    checkpoint_every_s: float = 30.0,
    talk: Talk | None = None,
) -> TrainedRun:
    """Train a classifier. With `out`, leave a run directory there.

    Args:
        data: a file, a folder of splits, or examples; None only to resume a run that has its splits.
        validation, test: splits as examples, used as given.
        resume: go on with what is in `out`; settings must be those it was started with.

    Raises:
        UserError: see errors.py; nothing has been written then.
        FailedError: disk, network, device, or a loss that is not finite.
    """
    talk = talk or Talk()
    clock = Clock()
    run_dir = RunDir(out) if out is not None else None
    resuming = _can_resume(run_dir, resume, talk)
    if run_dir and not resuming:
        run_dir.check_free(overwrite)
    quicken_cpu()
    machine = pick_machine(settings.device, settings.precision)
    with clock.part("data"):
        if resuming and run_dir:
            splits = read_splits(run_dir.splits, text=("text",), label="label")
        elif data is None:
            raise SettingsError(f"there is nothing to resume in {out}; give the data to train on")
        else:
            splits = _with_given(data, settings, validation, test, talk)
    with clock.part("load"):
        backbone = load_backbone(settings.backbone, offline)
    settings = settings.with_rate_for(backbone.config.n_embd)
    job = _Job.prepare(splits, backbone, settings, machine, clock, talk)
    if run_dir and not resuming:
        run_dir.clear()
        write_splits(splits, run_dir.splits)
    trunk = job.trunk_pass(talk)
    if run_dir and not resuming:
        run_dir.write_toml(_run_toml(data, settings, machine, trunk.hash))
    outcome = job.train(trunk, run_dir, resuming, checkpoint_every_s, talk)
    return job.finish(outcome, run_dir, data, talk)


def _can_resume(run_dir: RunDir | None, resume: bool, talk: Talk) -> bool:
    if not resume:
        return False
    if run_dir is None:
        raise SettingsError("--resume needs --out, the directory of the run to go on with")
    if run_dir.is_finished:
        raise RunError(f"{run_dir.path} is finished; there is nothing to resume (pass --overwrite to train it anew)")
    if (run_dir.splits / "train.csv").is_file() and (run_dir.path / "run.toml").is_file():
        return True
    talk.say(f"nothing to resume in {run_dir.path}: training starts from the beginning")
    return False


def _with_given(
    data: Path | Examples, settings: Settings, validation: Examples | None, test: Examples | None, talk: Talk
) -> Splits:
    if validation is None and test is None:
        return gather_splits(data, settings, talk.say)
    if not isinstance(data, Examples):
        raise SettingsError("give validation and test as files too when the training data is a file")
    return gather_splits(Splits(data, validation, test), settings, talk.say)


def read_settings(run_dir: RunDir) -> dict[str, Any]:
    """The settings that a run was started with."""
    found = dict(run_dir.read_toml().get("settings", {}))
    found.pop("data", None)
    return found


def _run_toml(data: Path | Examples | None, settings: Settings, machine: Machine, trunk: str | None) -> dict[str, Any]:
    where = {"data": str(data)} if isinstance(data, Path) else {}
    return {
        "created": datetime.now(UTC).replace(microsecond=0),
        "settings": {**where, **settings.to_toml()},
        "machine": {"device": machine.device.type, "precision": machine.precision, "threads": torch.get_num_threads()},
        "trunk": {"hash": trunk} if trunk else {},
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    return {"lasttoken": version("lasttoken"), "python": platform.python_version()} | {
        name: version(name) for name in VERSIONS_OF
    }


@dataclass
class _Job:
    """A training under way: what each part hands to the next."""

    splits: Splits
    settings: Settings
    machine: Machine
    backbone: Backbone
    classifier: Classifier
    predictor: Predictor
    encoded: dict[str, Encoded]
    label_ids: dict[str, np.ndarray[Any, np.dtype[np.int64]]]
    clock: Clock
    notes: list[str]

    @classmethod
    def prepare(
        cls, splits: Splits, backbone: Backbone, settings: Settings, machine: Machine, clock: Clock, talk: Talk
    ) -> _Job:
        """Encode the texts and put the head on; the last place where a user's mistake is found."""
        notes: list[str] = []

        def say(sentence: str) -> None:
            notes.append(sentence)
            talk.say(sentence)

        labels = natural_order(splits.train.labels or [])
        with clock.part("encode"):
            config = _classifier_config(splits, labels, backbone, settings, say)
            classifier = Classifier(backbone.gpt, config, settings.seed)
            predictor = Predictor(classifier, backbone.tokenizer, machine)
            encoded = {name: predictor.encode(examples.texts) for name, examples in splits.named().items()}
        n_train = len(splits.train)
        if settings.drop_last and n_train < settings.batch_size:
            raise SettingsError(
                f"--batch-size is {settings.batch_size}, but train has {n_train} rows and incomplete batches "
                "are dropped"
            )
        _say_cuts(encoded, splits, config, say)
        ids = {label: label_id for label_id, label in enumerate(labels)}
        label_ids = {
            name: np.array([ids[label] for label in examples.labels or []], dtype=np.int64)
            for name, examples in splits.named().items()
        }
        return cls(splits, settings, machine, backbone, classifier, predictor, encoded, label_ids, clock, notes)

    def trunk_pass(self, talk: Talk) -> TrunkPass:
        """The trunk, ready to run."""
        cache = None if self.settings.no_cache else FeatureCache(self.settings.cache_limit_bytes)
        with self.clock.part("trunk"):
            return TrunkPass(self.classifier, self.machine, cache=cache, say=talk.say)

    def train(
        self, trunk: TrunkPass, run_dir: RunDir | None, resuming: bool, checkpoint_every_s: float, talk: Talk
    ) -> Outcome:
        """Run the trunk once and the loop over the tail."""
        self.loop_splits = self._features(trunk, talk)
        fingerprint = self._fingerprint(trunk.hash)
        with self.clock.part("tail"), stop_on_signal() as should_stop:
            trainer = Trainer(
                self.classifier, self.loop_splits, self.settings, self.machine, checkpoint_every_s=checkpoint_every_s
            )
            if resuming and run_dir and run_dir.resume_file.is_file():
                restore_training(trainer, run_dir.resume_file, fingerprint)
                talk.say(f"going on after step {trainer.state.step:,} of {trainer.total_steps:,}")
            if run_dir:
                run_dir.write_history(trainer.state.history)
            with talk.bar("training", trainer.total_steps - trainer.state.step) as advance:
                trainer.hooks = Hooks(
                    on_line=_tell_lines(run_dir, talk),
                    on_step=lambda state: advance(1, _beside_bar(state)),
                    should_stop=should_stop,
                    save=(lambda at: save_training(at, run_dir.resume_file, fingerprint)) if run_dir else None,
                )
                return trainer.run()

    def _features(self, trunk: TrunkPass, talk: Talk) -> dict[str, Split]:
        found = {}
        with self.clock.part("trunk"), talk.bar("trunk", sum(e.n_tokens for e in self.encoded.values())) as advance:
            for name, encoded in self.encoded.items():
                source = trunk.source(encoded, name, lambda done: advance(done, ""))
                found[name] = Split(source, self.label_ids[name])
        return found

    def _fingerprint(self, trunk: str | None) -> str:
        """What a checkpoint belongs to: everything that changes the course of a training."""
        settings = self.settings.to_toml()
        for name in (
            "cache_limit",
            "no_cache",
            "device",
            "text",
            "label",
            "id",
            "group",
            "encoding",
            "validation",
            "test",
        ):
            settings.pop(name, None)
        digest = hashlib.sha256(
            json.dumps([settings, trunk, self.machine.device.type, self.machine.precision], sort_keys=True).encode()
        )
        for name, encoded in self.encoded.items():
            digest.update(encoded.lengths.tobytes())
            digest.update(encoded.token_ids.tobytes())
            digest.update(self.label_ids[name].tobytes())
        return digest.hexdigest()

    def finish(self, outcome: Outcome, run_dir: RunDir | None, data: Path | Examples | None, talk: Talk) -> TrainedRun:
        """Evaluate the kept weights, run the baselines, write everything that is left to write."""
        if outcome.stopped:
            talk.say(f"{STOPPED[outcome.stopped]} (step {outcome.kept_step:,})")
        self.classifier.requires_grad_(False).eval()
        if run_dir:
            save_classifier(run_dir.path, self.classifier, self.backbone.tokenizer)
        with self.clock.part("evaluate"):
            measured = {name: self._measure(split) for name, split in self.loop_splits.items()}
        with self.clock.part("baselines"):
            baselines = self._baselines()
        metrics = self._metrics(outcome, measured, baselines)
        if run_dir:
            run_dir.write_history(outcome.history)
            curves = draw_curves(outcome.history, run_dir.path / "curves", len(self.splits.train))
            facts = self._facts(outcome, metrics, baselines, curves, data)
            write_text(run_dir.path / "report.html", render_report(facts))
            run_dir.write_metrics(metrics)
        return TrainedRun(self.predictor, metrics, outcome.history, run_dir.path if run_dir else None)

    def _measure(self, split: Split) -> Metrics:
        logits = tail_logits(self.classifier, split.source, self.machine)
        return compute_metrics(split.label_ids, self.classifier.config.labels, log_probs=log_softmax(logits))

    def _baselines(self) -> dict[str, Baseline]:
        train = self.splits.train
        rows = {name: (e.texts, e.labels or []) for name, e in self.splits.named().items() if name != "train"}
        return run_baselines(
            train.texts, train.labels or [], rows, list(self.classifier.config.labels), self.settings.seed
        )

    def _metrics(
        self, outcome: Outcome, measured: Mapping[str, Metrics], baselines: Mapping[str, Baseline]
    ) -> dict[str, Any]:
        return {
            "splits": {name: metrics.to_json() for name, metrics in measured.items()},
            "baselines": {
                name: {split: metrics.to_json() for split, metrics in baseline.metrics.items()}
                for name, baseline in baselines.items()
            },
            "timing_s": {name: round(seconds, 3) for name, seconds in self.clock.seconds.items()},
            "examples": {name: len(split) for name, split in self.loop_splits.items()},
            "shared_with_train": shared_with_train(self.splits),
            "labels": list(self.classifier.config.labels),
            "kept_step": outcome.kept_step,
            "stopped": outcome.stopped,
        }

    def _facts(
        self,
        outcome: Outcome,
        metrics: Mapping[str, Any],
        baselines: Mapping[str, Baseline],
        curves: Mapping[str, str],
        data: Path | Examples | None,
    ) -> dict[str, Any]:
        headline = "test" if "test" in metrics["splits"] else "validation"
        rule = (
            f"lowest validation {self.settings.metric}"
            if self.settings.metric == "loss"
            else f"highest validation {self.settings.metric}"
        )
        kept = f"the weights of step {outcome.kept_step:,} ({rule if self.settings.keep == 'best' else 'the last'})"
        source = data.name if isinstance(data, Path) else (data.source if data else "") or "a table"
        return {
            "title": f"{source} with {self.backbone.name}",
            "run": {
                "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
                "lasttoken": version("lasttoken"),
                "backbone": self.backbone.name,
                "data": source,
                "stopped": outcome.stopped,
                "kept": kept,
            },
            "headline": {"split": headline, "metrics": metrics["splits"][headline]},
            "splits": metrics["splits"],
            "baselines": metrics["baselines"],
            "baseline_notes": [baseline.note for baseline in baselines.values() if baseline.note],
            "data": {
                "counts": {name: label_counts(examples) for name, examples in self.splits.named().items()},
                "notes": [*self.splits.notes, *self.notes],
                "shared_with_train": metrics["shared_with_train"],
                "tokens": {
                    "longest_train": self.encoded["train"].longest,
                    "cut_texts": int(sum(encoded.cut.sum() for encoded in self.encoded.values())),
                    "cut_tokens": sum(encoded.n_cut_tokens for encoded in self.encoded.values()),
                },
            },
            "settings": self.settings.to_toml(),
            "versions": _versions(),
            "timing_s": metrics["timing_s"],
            "curves": dict(curves),
        }


def _classifier_config(
    splits: Splits, labels: list[str], backbone: Backbone, settings: Settings, say: Callable[[str], None]
) -> ClassifierConfig:
    max_length = settings.max_length or backbone.max_length
    if settings.read == "padded-last" and settings.max_length is None:
        whole = encode_texts(
            backbone.tokenizer,
            splits.train.texts,
            max_length=backbone.config.n_positions,
            truncate=settings.truncate,
            end_of_text_id=backbone.end_of_text_id,
        )
        max_length = whole.longest
        say(f"every text is padded to {max_length} tokens, the longest of train, with token {backbone.end_of_text_id}")
    if settings.read == "first" and settings.causal_mask:
        say(
            "--read first under the causal mask sees one token of each text; add --no-causal-mask to let it "
            "see the text"
        )
    return ClassifierConfig(
        labels=tuple(labels),
        read=settings.read,
        causal_mask=settings.causal_mask,
        max_length=max_length,
        truncate=settings.truncate,
        train_blocks=settings.train_blocks,
        end_of_text_id=backbone.end_of_text_id,
        backbone=backbone.name,
    )


def _say_cuts(
    encoded: Mapping[str, Encoded], splits: Splits, config: ClassifierConfig, say: Callable[[str], None]
) -> None:
    for name, split in encoded.items():
        if n := int(split.cut.sum()):
            say(
                f"{n:,} of {len(split):,} {name} texts were cut to {config.max_length} tokens "
                f"({split.n_cut_tokens:,} tokens lost)"
            )
    ratio = tokens_per_character(encoded["train"], splits.train.texts)
    if ratio > FOREIGN_TOKENS_PER_CHARACTER and not config.pads:
        say(
            f"the train texts take {ratio:.2f} tokens a character (English: about 0.25); {config.backbone} "
            "was trained on English"
        )


def _tell_lines(run_dir: RunDir | None, talk: Talk) -> Callable[[Line], None]:
    def tell(line: Line) -> None:
        if run_dir:
            run_dir.append_history(line)
        talk.say(line_in_words(line))

    return tell


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


def load_predictor(folder: Path, device: str = "auto", precision: str = "auto") -> Predictor:
    """A finished run's classifier, on a machine.

    Raises:
        RunError: not a finished run.
    """
    RunDir(folder).read_metrics()
    quicken_cpu()
    return Predictor(*load_classifier(folder), pick_machine(device, precision))
