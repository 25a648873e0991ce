"""docs/book.md, executed: numbers are recomputed, commands are parsed or run, modules and flags must exist."""

from __future__ import annotations

import json
import pkgutil
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from book_script import parse_options
from miniature import messages, random_gpt, write_backbone
from numpy.typing import NDArray
from typer.testing import CliRunner

from lasttoken.backbone.catalog import BACKBONES
from lasttoken.backbone.tokenizer import END_OF_TEXT, Tokenizer
from lasttoken.classifier.classifier import Classifier, ClassifierConfig
from lasttoken.classifier.encoding import Encoded, encode_texts
from lasttoken.cli.flags import chosen_settings
from lasttoken.cli.main import app
from lasttoken.core.book_rows import BOOK_ROWS, TEST_ROWS
from lasttoken.core.config import FIELDS, Settings
from lasttoken.core.device import CPU
from lasttoken.core.resolve import resolve
from lasttoken.data.book import BOOK_SHUFFLES, book_splits, read_as_chapter
from lasttoken.data.catalog import find_dataset
from lasttoken.data.files import Examples, read_examples
from lasttoken.data.gather import gather_splits
from lasttoken.data.label_tables import label_counts
from lasttoken.data.labels import natural_order
from lasttoken.data.splitting.cutting import split_examples
from lasttoken.data.splitting.splits import Splits, count_shared_texts
from lasttoken.evaluation.baselines import fit_baselines
from lasttoken.evaluation.intervals import wilson_interval
from lasttoken.evaluation.tasks.single_label import SingleLabel
from lasttoken.runs.zero_shot import WRITTEN_TOKENS
from lasttoken.training.features import FeatureSource, TrunkPass
from lasttoken.training.loop import Trainer, TrainingInputs
from lasttoken.training.order import batches
from lasttoken.training.split_features import SplitFeatures

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "book.md").read_text("utf-8")
BOOK = resolve("book")
NOTEBOOK_SHUFFLES = 1
BASELINE_SLACK = 2  # rows of 300 by which another release of scikit-learn may differ


def table(name: str) -> list[list[str]]:
    """The rows of a marked table, cells stripped, without its head."""
    marked = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", PAGE, re.DOTALL)
    assert marked, name
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in marked[1].splitlines()]
    return rows[2:]


def words(*values: object) -> str:
    """Values as the page writes them: `1,045, 149 and 300`."""
    shown = [f"{value:,}" if isinstance(value, int) else str(value) for value in values]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]


def interval(n_correct: int, n: int) -> str:
    low, high = wilson_interval(n_correct, n)
    return f"{low * 100:.1f} to {high * 100:.1f}"


# Numbers ----------------------------------------------------------------------------------------------------------


@dataclass
class Sms:
    """The SMS collection as both versions of the chapter split it."""

    path: Path
    tokenizer: Tokenizer
    notebook: Splits = field(init=False)
    script: Splits = field(init=False)

    def __post_init__(self) -> None:
        self.notebook, self.counts = book_splits(self.path, shuffles=NOTEBOOK_SHUFFLES)
        self.script, _ = book_splits(self.path)

    def encode(self, examples: Examples, max_length: int | None = None, pad: bool = False) -> Encoded:
        end = self.tokenizer.end_of_text_id
        assert end is not None
        return encode_texts(
            self.tokenizer, examples.texts, max_length=max_length, truncate="tail", end_of_text_id=end, pad=pad
        )


def n_shared(splits: Splits) -> int:
    assert splits.test is not None
    return count_shared_texts(splits.train, splits.test)


def percent_spam(splits: Splits) -> str:
    return words(*(f"{100 * label_counts(part)['spam'] / len(part):.1f}" for part in splits.named().values()))


def n_cut(sms: Sms) -> int:
    parts = [part for splits in (sms.notebook, sms.script) for part in splits.named().values()]
    return sum(int(sms.encode(part, 120).cut.sum()) for part in parts)


def n_batches(splits: Splits) -> list[int]:
    size = BOOK.n_in_batch
    return [
        len(batches(list(range(len(part))), size, BOOK.drop_last and name == "train"))
        for name, part in splits.named().items()
    ]


def batch_shape(sms: Sms) -> str:
    train = sms.script.train
    padded = sms.encode(train, sms.encode(train).longest, pad=True)
    rows = batches(list(range(len(train))), BOOK.n_in_batch, BOOK.drop_last)
    assert {len(batch) for batch in rows} == {BOOK.n_in_batch}
    (length,) = set(padded.lengths.tolist())
    return f"{BOOK.n_in_batch} x {length}"


def shape_of(name: str) -> str:
    shape = BACKBONES[name].shape
    assert shape is not None
    return f"{shape.n_embd:,}, {shape.n_layer}, {shape.n_head}"


def texts_and_context() -> str:
    shapes = [entry.shape for entry in BACKBONES.values() if entry.shape and entry.hub_id]
    (shape,) = {(shape.vocab_size, shape.n_positions) for shape in shapes}
    return words(*shape)


class RecordingTrainer(Trainer):
    """Records how many rows each metric was computed from, in order."""

    rows_read: list[int]

    def logits(self, source: FeatureSource, rows: list[int] | None = None) -> NDArray[np.float32]:
        self.rows_read = [*getattr(self, "rows_read", []), len(rows or [])]
        return super().logits(source, rows)


@pytest.fixture(scope="session")
def trainer() -> RecordingTrainer:
    """The book's recipe on as many rows as the chapter has, of one token each, with a head on a tiny GPT."""
    settings = resolve("book", {"train_blocks": "head", "read": "last"})
    config = ClassifierConfig(
        labels=("ham", "spam"),
        read="last",
        causal_mask=True,
        max_length=1,
        truncate="tail",
        train_blocks="head",
        end_of_text_id=0,
        backbone="tiny",
    )
    classifier = Classifier(random_gpt(n_embd=8, n_layer=1, n_head=1), config, seed=BOOK.seed)
    trunk = TrunkPass(classifier, CPU, cache=None, say=lambda sentence: None)
    splits = {}
    for name, n in {"train": 1045, "validation": 149, "test": 300}.items():
        label_ids = np.arange(n, dtype=np.int64) % 2
        encoded = Encoded(label_ids.astype(np.int32), np.ones(n, dtype=np.int64), np.zeros(n, dtype=np.bool_), 0)
        splits[name] = SplitFeatures(trunk.source(encoded, name), label_ids)
    trainer = RecordingTrainer(classifier, TrainingInputs(splits, settings, CPU))
    trainer.run()
    return trainer


def lines(trainer: Trainer, kind: str) -> list[dict[str, Any]]:
    return [line for line in trainer.state.history if line["kind"] == kind]


def spaced(steps: list[int]) -> str:
    """`1, 51, ..., 601`, for steps that are 50 apart."""
    assert {b - a for a, b in pairwise(steps)} == {BOOK.eval_every}
    return f"{steps[0]}, {steps[1]}, ..., {steps[-1]}"


def rows_at(trainer: RecordingTrainer, kind: str) -> list[int]:
    """Rows of each metric in the first evaluation of a kind: "start" reads six, "step" and "epoch" two."""
    position = 0
    for line in trainer.state.history:
        width = 6 if line["kind"] == "start" else 2
        if line["kind"] == kind:
            return trainer.rows_read[position : position + width]
        position += width
    raise AssertionError(kind)


DATA: dict[str, Callable[[Sms], str]] = {
    "bytes of the file `SMSSpamCollection`": lambda sms: words(sms.path.stat().st_size),
    "lines of the file": lambda sms: words(len(read_examples(sms.path))),
    "rows as the chapter reads them": lambda sms: words(sms.counts.n_rows),
    "ham and spam rows": lambda sms: words(*sms.counts.labels.values()),
    "ham and spam rows, balanced": lambda sms: words(*sms.counts.balanced.values()),
    "train, validation and test rows": lambda sms: words(*map(len, sms.script.named().values())),
    "rows whose text repeats an earlier row's": lambda sms: words(
        sms.counts.n_rows - len(set(read_as_chapter(sms.path).texts))
    ),
    "test texts that are also in train, the notebook's split": lambda sms: words(n_shared(sms.notebook)),
    "test texts that are also in train, the script's split (`--recipe book`)": lambda sms: words(n_shared(sms.script)),
    "test texts that are also in train, the default recipe's split": lambda sms: words(
        n_shared(split_examples(read_examples(sms.path), 0.7, 0.1, Settings().seed))
    ),
    "percent spam in train, validation and test, the notebook's split": lambda sms: percent_spam(sms.notebook),
    "percent spam in train, validation and test, the script's split": lambda sms: percent_spam(sms.script),
    "id of the end-of-text token, which pads": lambda sms: str(sms.tokenizer.end_of_text_id),
    "tokens of the longest train text, the notebook's split": lambda sms: str(sms.encode(sms.notebook.train).longest),
    "tokens of the longest train text, the script's split": lambda sms: str(sms.encode(sms.script.train).longest),
    "validation and test texts that are cut to 120 tokens": lambda sms: str(n_cut(sms)),
    "batches of 8: train, validation and test": lambda sms: words(*n_batches(sms.script)),
    "shape of a train batch": batch_shape,
    'token ids of "Do you have time"': lambda sms: " ".join(map(str, sms.tokenizer.encode("Do you have time"))),
    "label ids of ham and spam": lambda sms: words(
        *map(natural_order(sms.script.train.labels or []).index, ("ham", "spam"))
    ),
}
SETTINGS: dict[str, Callable[[], str]] = {
    "vocabulary and context": texts_and_context,
    "`gpt2`: n_embd, n_layer, n_head": lambda: shape_of("gpt2"),
    "`gpt2-medium`: n_embd, n_layer, n_head": lambda: shape_of("gpt2-medium"),
    "`gpt2-large`: n_embd, n_layer, n_head": lambda: shape_of("gpt2-large"),
    "`gpt2-xl`: n_embd, n_layer, n_head": lambda: shape_of("gpt2-xl"),
    "tokens that `ask` lets the backbone write": lambda: words(WRITTEN_TOKENS),
    "seed of the head and of the order": lambda: words(BOOK.seed),
    "learning rate and weight decay": lambda: words(BOOK.learning_rate, BOOK.weight_decay),
}
TRAINING: dict[str, Callable[[RecordingTrainer], str]] = {
    "rows in an accuracy before training: train, validation, test": lambda t: words(*rows_at(t, "start")[:3]),
    "rows in a loss before training: train, validation, test": lambda t: words(*rows_at(t, "start")[3:]),
    "epochs and steps": lambda t: words(t.state.epoch, t.state.step),
    "steps after which losses are printed, counted as here": lambda t: spaced([x["step"] for x in lines(t, "step")]),
    "the same, counted as in the chapter": lambda t: spaced([x["step"] - 1 for x in lines(t, "step")]),
    "lines of losses": lambda t: words(len(lines(t, "step"))),
    "rows in such a loss: train and validation": lambda t: words(*rows_at(t, "step")),
    "rows in an accuracy at the end of an epoch: train and validation": lambda t: words(*rows_at(t, "epoch")),
    "examples seen": lambda t: words(t.state.examples_seen),
}
NUMBERS = {name: value for name, value, _ in table("numbers")}


@pytest.fixture(scope="session")
def sms(sms_file: Path, shared_dir: Path) -> Sms:
    return Sms(sms_file, Tokenizer.load(shared_dir / "gpt2-tokenizer"))


def test_every_number_is_recomputed_below() -> None:
    assert set(NUMBERS) == {*DATA, *SETTINGS, *TRAINING}
    assert len(NUMBERS) == len(table("numbers")) == len(DATA) + len(SETTINGS) + len(TRAINING)


@pytest.mark.parametrize("name", DATA)
def test_numbers_of_the_data(name: str, sms: Sms) -> None:
    assert DATA[name](sms) == NUMBERS[name]


@pytest.mark.parametrize("name", SETTINGS)
def test_numbers_of_the_settings(name: str) -> None:
    assert SETTINGS[name]() == NUMBERS[name]


@pytest.mark.parametrize("name", TRAINING)
def test_numbers_of_the_training(name: str, trainer: RecordingTrainer) -> None:
    assert TRAINING[name](trainer) == NUMBERS[name]


def test_the_head_starts_as_the_chapters(trainer: RecordingTrainer) -> None:
    fresh = Classifier(random_gpt(n_embd=8, n_layer=1, n_head=1), trainer.classifier.config, seed=BOOK.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)
        expected = torch.nn.Linear(8, 2)
    assert torch.equal(fresh.head.weight, expected.weight)
    assert torch.equal(fresh.head.bias, expected.bias)


def test_prose_says_what_the_tables_say(sms: Sms) -> None:
    prose = " ".join(PAGE.split())
    assert BOOK_SHUFFLES == 2
    assert f"{n_shared(sms.notebook)} of the 300 test texts of the notebook also occur" in prose
    assert f"and {n_shared(sms.script)} of the script's" in prose
    assert f"| it is text, {len(sms.tokenizer.encode(END_OF_TEXT))} tokens |" in prose
    entry = find_dataset("sms-spam")
    assert words(entry.member_bytes) == NUMBERS["bytes of the file `SMSSpamCollection`"]
    whole = label_counts(read_examples(sms.path))
    assert f"the file has {100 * whole['spam'] / sum(whole.values()):.0f} %" in prose
    n_train = len(sms.script.train)
    kept = n_train - n_train % BOOK.n_in_batch
    assert f"leaves out the {n_train - kept} rows that do not fill a batch ({kept:,} rows); ours is of all" in prose


# Published results ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", table("published"), ids=lambda row: row[0])
def test_published_accuracies_are_counts(row: list[str]) -> None:
    _, published, rows, correct, bounds = row
    n, n_correct = (int(cell.replace(",", "")) for cell in (rows, correct))
    assert f"{100 * n_correct / n:.2f}" == published
    assert interval(n_correct, n) == bounds


def test_the_headline_interval() -> None:
    assert interval(287, 300) == "92.7 to 97.5"
    assert ["95.67", "300", "287", "92.7 to 97.5"] in [row[1:] for row in table("published")]


@pytest.mark.slow
@pytest.mark.parametrize(("column", "which"), [(1, "notebook"), (2, "script")])
def test_baselines(sms: Sms, column: int, which: str) -> None:
    splits: Splits = getattr(sms, which)
    assert splits.test is not None
    task = SingleLabel(("ham", "spam"))
    baselines = fit_baselines(task, Splits(splits.train, None, splits.test), BOOK.seed)
    page = {row[0]: int(row[column]) for row in table("baselines")}
    assert {*page, "length-only"} == set(baselines)
    for name, n_correct in page.items():
        slack = 0 if name == "majority" else BASELINE_SLACK
        assert abs(round(baselines[name].metrics["test"].accuracy * 300) - n_correct) <= slack, name


# Commands ---------------------------------------------------------------------------------------------------------


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def commands() -> list[list[str]]:
    """The arguments of each `lasttoken` command in a code block, those inside $( ) too."""
    commands = []
    for line in "".join(blocks("sh")).splitlines():
        inner = re.search(r"\$\((lasttoken [^)]*)\)", line)
        program, *arguments = shlex.split(inner[1] if inner else line, comments=True)
        assert program == "lasttoken", line
        commands.append(arguments)
    return commands


def experiment(row: list[str]) -> list[str]:
    """The arguments of a row of the table of experiments: the common command, then its flags."""
    return ["train", "SMSSpamCollection", "--recipe", "book", "--precision", "float32", *shlex.split(row[2].strip("`"))]


def parse(arguments: list[str]) -> dict[str, Any]:
    """The values that the command line reads from arguments; raises for arguments that it would reject."""
    group: Any = typer.main.get_command(app)
    with group.commands[arguments[0]].make_context(arguments[0], arguments[1:]) as context:
        values: dict[str, Any] = context.params
    return values


def settings_of(arguments: list[str]) -> Settings:
    known = set(Settings.__dataclass_fields__)
    flags = chosen_settings({name: value for name, value in parse(arguments).items() if name in known})
    return resolve(flags.get("recipe") or "default", flags)


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_every_command_is_accepted(arguments: list[str]) -> None:
    parse(arguments)
    if arguments[0] in ("train", "split"):
        settings_of(arguments)


def test_the_page_has_these_commands_and_a_wrong_flag_is_rejected() -> None:
    shown = commands()
    assert {command[0] for command in shown} == {
        "fetch", "split", "info", "generate", "ask", "train", "evaluate", "predict",
    }  # fmt: skip
    assert experiment(["", "", "``"]) in shown
    with pytest.raises(Exception, match="No such option"):
        parse([*shown[-1], "--wrong"])


@pytest.mark.parametrize("row", table("experiments"), ids=lambda row: f"row {row[0]}")
def test_the_table_of_experiments(row: list[str]) -> None:
    """Each row is the one of the data, and its flags give the settings that tests/training/test_book_rows.py trains."""
    number, change, flags, here, published, correct, bounds = row
    known = BOOK_ROWS[int(number) - 1]
    assert (known.number, known.change, f"{known.test_percent:.2f}") == (int(number), change, published)
    assert here == "same"
    assert int(correct) == known.n_correct
    assert interval(known.n_correct, TEST_ROWS) == bounds
    assert shlex.split(flags.strip("`")) == list(known.flags)
    settings = settings_of(experiment(row))
    changed = {
        name: value
        for name, value in settings.to_toml().items()
        if value != BOOK.to_toml().get(name) and name not in ("precision", "backbone")
    }
    assert settings.backbone == known.backbone
    assert settings.backbone in BACKBONES
    assert settings == resolve("book", known.settings, {"precision": "float32"})
    defaults = {name for name in known.settings if known.settings[name] == FIELDS[name].default}
    assert changed.keys() | defaults | {"backbone"} == known.settings.keys()


def test_the_table_of_experiments_has_every_row() -> None:
    assert [int(row[0]) for row in table("experiments")] == [row.number for row in BOOK_ROWS] == list(range(1, 20))


def test_every_option_of_the_script_has_a_flag() -> None:
    options = table("options")
    assert [row[0].strip("`") for row in options] == list(vars(parse_options("")))
    assert len(options) == 14
    assert all("`--" in flags for _, flags in options)
    named = set(re.findall(r"`(\w+)`", " ".join(row[0] for row in table("imdb-options"))))
    assert named == {row[0].strip("`") for row in options[:6]} - {"lora_rank", "lora_alpha"} | {
        "average_embeddings", "context_length", "num_epochs", "learning_rate", "compile",
    }  # fmt: skip


def test_the_imdb_table_and_the_rows_whose_logs_say_otherwise() -> None:
    rows = table("imdb")
    for _, published, _, bounds in rows:
        assert interval(round(float(published) * 100), 10_000) == bounds
    assert [name.split()[0] for name, published, log, _ in rows if published != log] == ["RoBERTa", "DeBERTa-v3"]
    settings = next(settings_of(words) for words in commands() if words[1] == "imdb")
    assert (settings.n_epochs, settings.max_length, settings.eval_batches, settings.n_in_batch) == (1, 256, 20, 8)


def skipped(arguments: list[str]) -> bool:
    """Commands that the next test does not run: those that use the network, and all trainings but one."""
    return arguments[0] == "fetch" or (arguments[0] == "train" and "runs/book" not in arguments)


@pytest.mark.slow
def test_the_page_runs_on_small_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands in order, with a tiny GPT in the place of gpt2 and 80 messages."""
    monkeypatch.chdir(tmp_path)
    write_backbone(tmp_path / "gpt2", random_gpt(n_embd=16, n_layer=2, n_head=2, n_positions=256))
    texts, labels = messages(80)
    rows = "".join(f"{label}\t{text}\n" for text, label in zip(texts, labels, strict=True))
    (tmp_path / "SMSSpamCollection").write_text(rows, "utf-8")
    for arguments in commands():
        if skipped(arguments):
            continue
        small = [*arguments, *(["--epochs", "1", "--device", "cpu"] if arguments[0] == "train" else [])]
        small = ["./gpt2" if word == "gpt2" else word for word in small]
        result = CliRunner().invoke(app, small)
        assert result.exit_code == 0, (small, result.output, result.exception)
    assert (tmp_path / "splits/train.csv").read_text("utf-8").startswith("Label,Text\n")
    history = [json.loads(line) for line in (tmp_path / "runs/book/history.jsonl").read_text("utf-8").splitlines()]
    assert [(line["kind"], line["step"]) for line in history] == [("start", 0), ("step", 1), ("epoch", 7)]
    for name in ("metrics.json", "report.html", "curves/loss.pdf", "curves/accuracy.pdf"):
        assert (tmp_path / "runs/book" / name).is_file(), name
    assert (tmp_path / "scored.csv").is_file()


def test_the_notebooks_split_is_trained_on_as_written(
    sms: Sms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the page's Python writes, `train notebook-splits --recipe book` reads: same rows, order and labels."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "SMSSpamCollection").symlink_to(sms.path)
    (code,) = blocks("python")
    exec(code, {})
    arguments = next(words for words in commands() if "notebook-splits" in words)
    read = gather_splits(Path("notebook-splits"), settings_of(arguments), lambda sentence: None)
    for name, expected in sms.notebook.named().items():
        assert read.named()[name].texts == expected.texts
        assert read.named()[name].labels == expected.labels


# Names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(lasttoken\.[\w.]+)`", PAGE))))
def test_every_module_named_exists(name: str) -> None:
    pkgutil.resolve_name(name)


def test_every_flag_named_exists() -> None:
    group: Any = typer.main.get_command(app)
    known = {flag for command in group.commands.values() for option in command.params for flag in option.opts}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", re.sub(r"<!--.*?-->", "", PAGE)))
    assert named <= known, named - known
    assert "--recipe" in named
