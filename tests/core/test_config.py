"""Settings: which layer wins, which values are rejected, and what a TOML file may hold."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from lasttoken.core.config import INFOS, Settings, flag_of
from lasttoken.core.errors import SettingsError
from lasttoken.core.recipes import RECIPES
from lasttoken.core.resolve import read_config, resolve
from lasttoken.core.tail_recipe import TrainSize, tail_recipe

# A value other than the default for every setting, as a user may give it.
OTHER: dict[str, Any] = {
    "text": ["a", "b"],
    "label": ["kind"],
    "label_separator": ";",
    "id": "key",
    "group": "who",
    "encoding": "cp1252",
    "field_separator": ";",
    "no_header": True,
    "format": "csv",
    "max_row_bytes": "1MB",
    "skip_unreadable": True,
    "validation": "v.csv",
    "test": "t.csv",
    "balance": "undersample",
    "train_fraction": 0.6,
    "validation_fraction": 0.15,
    "backbone": "gpt2",
    "random_weights": "gpt2",
    "method": "auto",
    "depth": "3",
    "train_blocks": "lora",
    "lora_rank": 5,
    "lora_alpha": 7.0,
    "lora_blocks": "2",
    "lora_matrices": "q,v",
    "lora_scale": "alpha",
    "keep_adapter": True,
    "read": "mean",
    "prompt": "{text}\nTopic:",
    "ngrams": "words",
    "causal_mask": False,
    "head_bias": False,
    "max_length": 77,
    "truncate": "head",
    "epochs": 11,
    "batch_size": 13,
    "learning_rate": 3e-4,
    "accumulate": 4,
    "ignore_index": 50256,
    "schedule": "cosine",
    "warmup_fraction": 0.25,
    "weight_decay": 0.7,
    "clip_norm": 2.5,
    "label_smoothing": 0.1,
    "drop_last": True,
    "strict": True,
    "min_rows": 7,
    "eval_every": 9,
    "eval_batches": 4,
    "keep": "last",
    "metric": "accuracy",
    "patience": 8,
    "seed": 99,
    "start_head": "linear",
    "calibrate": False,
    "threshold": "0.9",
    "cost": "spam:ham=5",
    "seeds": 3,
    "folds": 4,
    "learning_curve": True,
    "slice_by": "shop",
    "answers": "spam=yes,ham=no",
    "track": "mlflow",
    "device": "cpu",
    "precision": "float32",
    "checkpoint_activations": "on",
    "shard_weights": "on",
    "cache_limit": "3GB",
    "no_cache": True,
}


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def other_than(current: Any, name: str) -> Any:
    """The value of OTHER, or one more where the default has come to be the same."""
    if plain(current) != OTHER[name]:
        return OTHER[name]
    choices = INFOS[name].valid_choices()
    if choices:
        return next(choice for choice in choices if choice != current)
    return not current if isinstance(current, bool) else current / 2 if isinstance(current, float) else current + 1


def test_every_setting_is_tried_here() -> None:
    assert {*OTHER, "recipe", "multi_label"} == {item.name for item in fields(Settings)}


# Which wins -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", OTHER)
def test_a_layer_wins_over_the_recipe_and_a_later_layer_over_that(name: str, recipe: str) -> None:
    base = getattr(resolve(recipe), name)
    value = other_than(base, name)
    first = {name: value, **({"read": "last"} if name == "prompt" else {})}  # the book's pooling allows no prompt
    assert plain(getattr(resolve(recipe, first), name)) == value
    if base not in (None, ()):  # which a layer cannot say: they mean "not given"
        assert getattr(resolve(recipe, first, {name: base}), name) == base


def test_the_recipe_wins_over_the_defaults() -> None:
    for recipe, differences in RECIPES.items():
        settings = resolve(recipe)
        assert settings.recipe == recipe
        assert {name: getattr(settings, name) for name in differences} == differences


def test_the_book_is_chapter_6() -> None:
    """Batch 8, 5 epochs, AdamW at 5e-5 with decay 0.1, an evaluation of 5 batches every 50 steps, seed 123."""
    book = resolve("book")
    assert (book.batch_size, book.epochs, book.learning_rate, book.weight_decay) == (8, 5, 5e-5, 0.1)
    assert (book.eval_every, book.eval_batches, book.seed) == (50, 5, 123)
    assert (book.train_fraction, book.validation_fraction, book.balance) == (0.7, 0.1, "undersample")
    assert (book.read, book.train_blocks, book.keep, book.drop_last) == ("padded-last", "1", "last", True)
    assert (book.schedule, book.warmup_fraction, book.clip_norm, book.patience) == ("constant", 0.0, 0.0, 0)


def test_a_layer_may_not_change_the_recipe() -> None:
    assert resolve("book", {"recipe": "default"}).recipe == "book"


def test_none_means_not_given() -> None:
    assert resolve("book", {"epochs": 2}, {"epochs": None}).epochs == 2


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("text", "body", ("body",)),
        ("train_blocks", 2, "2"),
        ("cache_limit", 1000, "1000"),
        ("learning_rate", 1, 1.0),
        ("weight_decay", 0, 0.0),
    ],
)
def test_values_are_taken_as_toml_and_python_give_them(name: str, value: Any, expected: Any) -> None:
    found = getattr(resolve("default", {name: value}), name)
    assert found == expected
    assert type(found) is type(expected)


# What is rejected -------------------------------------------------------------------------------------------------

# The setting, a value that is not valid, and what the message must name: the flag, the value, what is allowed.
REJECTED: list[tuple[str, Any, list[str]]] = [
    ("epochs", 0, ["--epochs", "0", "at least 1"]),
    ("batch_size", -8, ["--batch-size", "-8", "at least 1"]),
    ("max_length", 0, ["--max-length", "0", "at least 1"]),
    ("min_rows", 0, ["--min-rows", "0", "at least 1"]),
    ("eval_every", -1, ["--eval-every", "-1", "at least 0"]),
    ("eval_batches", -1, ["--eval-batches", "-1"]),
    ("patience", -1, ["--patience", "-1"]),
    ("weight_decay", -0.1, ["--weight-decay", "-0.1"]),
    ("weight_decay", float("nan"), ["--weight-decay", "nan"]),
    ("clip_norm", float("inf"), ["--clip-norm", "inf"]),
    ("seed", -1, ["--seed", "-1", "at least 0"]),
    ("seed", 2**32, ["--seed", "4294967296", "4,294,967,296"]),
    ("seeds", 0, ["--seeds", "0", "at least 1"]),
    ("folds", 1, ["--folds", "1", "2 or more"]),
    ("folds", -1, ["--folds", "-1"]),
    ("learning_rate", 0.0, ["--learning-rate", "0.0", "above 0", "5e-5"]),
    ("learning_rate", -5e-5, ["--learning-rate", "-5e-05"]),
    ("learning_rate", float("inf"), ["--learning-rate", "inf"]),
    ("warmup_fraction", 1.0, ["--warmup-fraction", "1.0", "at least 0 and below 1"]),
    ("train_fraction", 1.0, ["--train-fraction", "1.0", "above 0 and below 1"]),
    ("validation_fraction", 0.0, ["--validation-fraction", "0.0", "above 0 and below 1"]),
    ("validation_fraction", 0.3, ["--train-fraction 0.7", "--validation-fraction 0.3", "test split"]),
    ("train_blocks", "0", ["--train-blocks", "'0'", "head", "all"]),
    ("train_blocks", "-1", ["--train-blocks", "'-1'"]),
    ("train_blocks", "last", ["--train-blocks", "'last'"]),
    ("train_blocks", "²", ["--train-blocks", "'²'"]),
    ("cache_limit", "lots", ["--cache-limit", "'lots'", "20GB"]),
    ("cache_limit", "-1", ["--cache-limit", "'-1'"]),
    ("max_row_bytes", "lots", ["--max-row-bytes", "'lots'"]),
    ("max_row_bytes", "0", ["--max-row-bytes", "'0'", "at least 1"]),
    ("max_row_bytes", "2GB", ["--max-row-bytes", "'2GB'", "1,000,000,000 bytes"]),
    ("field_separator", "ab", ["--separator", "'ab'", "';'"]),
    ("read", "lst", ["--read", "'lst'", "'last', 'first'", "did you mean 'last'"]),
    ("device", "gpu", ["--device", "'gpu'", "'auto', 'cpu', 'cuda', 'mps'"]),
    ("metric", "f1", ["--metric", "'f1'", "'loss'", "'accuracy'"]),
    ("causal_mask", "no", ["--no-causal-mask", "'no'", "bool"]),
    ("epochs", "3", ["--epochs", "'3'", "int"]),
    ("epochs", 3.0, ["--epochs", "3.0", "int"]),
    ("epochs", True, ["--epochs", "True", "int"]),
    ("learning_rate", "1e-3", ["--learning-rate", "'1e-3'", "float"]),
    ("learning_rate", True, ["--learning-rate", "True"]),
    ("no_cache", 1, ["--no-cache", "1", "bool"]),
    ("backbone", 2, ["--backbone", "2", "str"]),
    ("label", 1.5, ["--label", "1.5"]),
    ("label", ["a", "b"], ["--label", "'a', 'b'", "--multi-label"]),
    ("text", 5, ["--text", "5"]),
    ("text", ["a", 5], ["--text", "['a', 5]"]),
    ("text", ["a", "a"], ["--text", "'a'", "twice"]),
    ("epocs", 3, ["'epocs'", "did you mean 'epochs'"]),
]


@pytest.mark.parametrize(("name", "value", "named"), REJECTED)
def test_an_invalid_value_is_rejected_with_its_flag_and_what_is_allowed(
    name: str, value: Any, named: list[str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve("default", {"train_fraction": 0.7, name: value})
    for part in named:
        assert part in str(caught.value)


@pytest.mark.parametrize("name", [name for name, info in INFOS.items() if info.single_label_only])
def test_a_setting_for_single_labels_is_rejected_with_multi_label(name: str) -> None:
    other = {"recipe": "book", "answers": "spam=yes,ham=no", "cost": "spam:ham=5", "folds": 4}
    value = other.get(name, OTHER.get(name))
    recipe = "book" if name == "recipe" else "default"
    with pytest.raises(SettingsError, match=f"{flag_of(name)} .*--multi-label"):
        resolve(recipe, {**RECIPES["default"], "balance": "none"}, {name: value, "multi_label": True})


def test_int8_needs_a_frozen_trunk() -> None:
    with pytest.raises(SettingsError, match=r"--precision int8 .*--train-blocks all"):
        resolve("default", {"precision": "int8", "train_blocks": "all"})


@pytest.mark.parametrize("recipe", ["bok", 5, ["book"]])
def test_an_unknown_recipe_is_rejected(recipe: Any) -> None:
    with pytest.raises(SettingsError, match=r"--recipe .*'default', 'book'"):
        resolve(recipe)


def test_flags_are_the_settings_names() -> None:
    assert flag_of("batch_size") == "--batch-size"
    assert flag_of("causal_mask") == "--no-causal-mask"


def test_a_method_implies_what_the_user_did_not_give() -> None:
    linear = resolve("default", {"method": "linear"})
    assert (linear.train_blocks, linear.depth, linear.read) == ("head", "auto", "auto")
    given = resolve("default", {"method": "linear", "depth": 4, "read": "mean"})
    assert (given.n_blocks, given.read, given.leaves_choices) == (4, "mean", False)
    assert resolve("default", {"method": "linear", "depth": "all"}).n_blocks is None
    assert resolve("default", {"method": "auto", "train_blocks": 1}).train_blocks == "1"
    assert resolve("book").method == "tail"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": "half"}, "--depth is 'half'"),
        ({"depth": 0}, "--depth is '0'"),
        ({"method": "lora"}, "--method is 'lora'"),
        ({"method": "linear", "train_blocks": 2}, "--train-blocks is 2"),
        ({"method": "linear", "epochs": 3}, "--epochs has no effect with --method linear"),
        ({"method": "linear", "learning_rate": 1e-3}, "--learning-rate has no effect"),
        ({"method": "linear", "label_smoothing": 0.1}, "--label-smoothing has no effect"),
        ({"label_smoothing": 1}, "--label-smoothing is 1.0; it must be at least 0 and below 1"),
        ({"method": "linear", "head_bias": False}, "--method linear .*--no-head-bias"),
        ({"method": "auto", "head_bias": False}, "--method auto .*--no-head-bias"),
        ({"start_head": "linear", "head_bias": False}, "--start-head linear .*--no-head-bias"),
        ({"balance": "weights", "head_bias": False}, "--balance weights .*--no-head-bias"),
    ],
)
def test_settings_that_contradict_the_method_are_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        resolve("default", changes)


def test_a_head_without_a_bias_makes_a_tail_that_starts_from_a_drawn_head() -> None:
    recipe = tail_recipe("rotary", 576, 16, TrainSize(n_rows=96, n_characters=4_800))
    assert recipe.start_head == "linear"
    settings = resolve("default", {"head_bias": False})
    assert settings.method == "tail"
    assert settings.completed(recipe).start_head == "drawn"
    assert resolve("default", {"method": "tail"}).completed(recipe).start_head == "linear"


def test_a_resumed_run_may_differ_only_in_settings_without_effect_on_training() -> None:
    base = resolve("default")
    for name, info in INFOS.items():
        if name in ("recipe", "multi_label"):
            continue
        changed = resolve("default", {name: other_than(getattr(base, name), name)})
        is_same = changed.that_change_training() == base.that_change_training()
        assert is_same is not info.changes_training, name


# TOML -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        'data = "a.csv"\nepochs = 2\nbatch-size = 4\n',
        'data = "a.csv"\nepochs = 2\nbatch_size = 4\n',
        'created = 2026-01-01\n[settings]\ndata = "a.csv"\nepochs = 2\nbatch_size = 4\n[versions]\ntorch = "2"\n',
    ],
)
def test_a_config_file_is_flat_or_a_runs_own(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(content, "utf-8")
    assert read_config(tmp_path / "a.toml") == {"data": "a.csv", "epochs": 2, "batch_size": 4}


def test_what_a_run_records_resolves_to_the_same_settings(tmp_path: Path) -> None:
    import tomli_w

    given = {
        name: other_than(getattr(resolve("book"), name), name)
        for name in OTHER
        if name not in ("random_weights", "head_bias")
    }
    for settings in (resolve("default"), resolve("book"), resolve("book", given)):
        (tmp_path / "run.toml").write_text(tomli_w.dumps({"settings": settings.to_toml()}), "utf-8")
        found = read_config(tmp_path / "run.toml")
        assert resolve(found["recipe"], found) == settings


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"epochs = ", "a.toml cannot be read as TOML"),
        (b'label = "caf\xe9"', "a.toml cannot be read as TOML"),
        (b"epocs = 2", "a.toml .*'epocs'.*did you mean 'epochs'"),
        (b"settings = 2", r"\[settings\] in .*a.toml must be a table"),
        (b"data = 5", "a.toml sets data to 5; it must be a path"),
    ],
)
def test_a_config_file_that_cannot_be_used_is_named(content: bytes, match: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=match):
        read_config(tmp_path / "a.toml")


def test_a_config_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--config: there is no file .*none.toml"):
        read_config(tmp_path / "none.toml")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_config(tmp_path)
