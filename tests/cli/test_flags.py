"""Flags: each one is read by its command, and those of settings follow the settings' own facts."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
from miniature import run_cli

from lasttoken.cli.flags import Device, Precision, chosen_settings, with_settings
from lasttoken.cli.main import COMMANDS, app
from lasttoken.cli.suspects import FOLDS
from lasttoken.core.config import DEVICES, FIELDS, INFOS, PRECISIONS, flag_of, settings_of
from lasttoken.core.setting import kind_of


def command_of(name: str) -> Any:
    return typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]


def own_parameters(function: Callable[..., None]) -> tuple[set[str], set[str]]:
    """The names of a function's parameters, and the names that its body reads."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    arguments = tree.args
    names = {item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    names |= {arguments.kwarg.arg} if arguments.kwarg else set()
    read = {node.id for line in tree.body for node in ast.walk(line) if isinstance(node, ast.Name)}
    return names, read


@pytest.mark.parametrize("function", COMMANDS, ids=lambda function: function.__name__)
def test_a_command_reads_every_flag_that_it_accepts(function: Callable[..., None]) -> None:
    names, read = own_parameters(function)
    assert names - read == set()


def test_an_unused_flag_would_be_seen() -> None:
    def command(data: str, offline: bool = False) -> None:
        print(data)  # noqa: T201

    names, read = own_parameters(command)
    assert names - read == {"offline"}


def test_each_file_of_a_command_is_named_after_it() -> None:
    for function in COMMANDS:
        assert function.__module__ == f"lasttoken.cli.{function.__name__}"


@pytest.mark.parametrize(
    ("command", "flag"),
    [("predict", "--offline"), ("evaluate", "--offline"), ("split", "--offline"), ("info", "--quiet"),
     ("push", "--quiet")],
)  # fmt: skip
def test_a_flag_without_effect_is_rejected_by_name(command: str, flag: str) -> None:
    answer = run_cli(command, flag)
    assert (answer.code, flag in answer.err) == (2, True)


def test_the_choices_of_shared_flags_are_those_of_the_settings() -> None:
    for annotated, choices in ((Device, DEVICES), (Precision, PRECISIONS)):
        assert get_args(get_args(annotated)[0]) == choices


# Flags of settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({command for info in INFOS.values() for command in info.commands}))
def test_settings_name_commands_that_exist_and_take_them(name: str) -> None:
    flags = {flag for parameter in command_of(name).params for flag in parameter.opts}
    assert {flag_of(setting) for setting in settings_of(name)} <= flags


def test_train_has_a_flag_for_every_setting() -> None:
    parameters = {parameter.name: parameter for parameter in command_of("train").params}
    for name, info in INFOS.items():
        assert flag_of(name) in parameters[name].opts
        assert parameters[name].default is None, "so that --config and the recipe can decide"
        assert info.help in parameters[name].help


@pytest.mark.parametrize(("command", "setting"), [(c, n) for n, info in INFOS.items() for c in info.help_of])
def test_a_setting_with_another_meaning_in_a_command_has_its_own_help_there(command: str, setting: str) -> None:
    parameter = next(item for item in command_of(command).params if item.name == setting)
    assert INFOS[setting].help_of[command] in parameter.help
    assert parameter.help.count("[default:") <= 1


def test_the_default_of_folds_in_suspects_is_the_one_of_its_help() -> None:
    assert f"[default: {FOLDS}]" in INFOS["folds"].help_of["suspects"]


@pytest.mark.parametrize("command", ["predict", "serve", "compare", "verify", "audit", "fetch"])
def test_the_help_shows_no_types_of_python_lists(command: str) -> None:
    assert "list[" not in run_cli(command, "--help").out


def test_pooling_is_another_name_of_read() -> None:
    parameter = next(item for item in command_of("train").params if item.name == "read")
    assert parameter.opts == ["--read", "--pooling"]


def test_flags_have_the_types_of_their_settings() -> None:
    @with_settings("train")
    def command(**flags: Any) -> None:
        raise AssertionError(flags)

    for name, annotation in get_type_hints(command).items():
        kind = kind_of(FIELDS[name])
        if INFOS[name].choices is None and name != "format":  # whose choices are the registered formats
            assert annotation == ((list[str] if kind is tuple else kind) | None), name


def test_only_flags_that_are_given_become_settings() -> None:
    assert chosen_settings({"epochs": None, "text": [], "seed": 0, "no_cache": False}) == {"seed": 0, "no_cache": False}
    assert chosen_settings({"causal_mask": True}) == {"causal_mask": False}, "--no-causal-mask"


def test_a_prompt_may_have_newlines_and_tabs_on_one_line() -> None:
    assert chosen_settings({"prompt": r"\t{text}\nTopic:"}) == {"prompt": "\t{text}\nTopic:"}


def test_defaults_of_flags_are_those_of_the_functions_below() -> None:
    from lasttoken.runs.evaluate import FirstBatches
    from lasttoken.runs.train import TrainingRequest

    defaults = {parameter.name: parameter.default for parameter in command_of("train").params}
    assert defaults["checkpoint_every"] == TrainingRequest.checkpoint_every_s
    batch_size = next(item for item in command_of("evaluate").params if item.name == "batch_size")
    assert f"[default: {FirstBatches.size}]" in batch_size.help


# Texts as arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["-5 stars", "-5", "--great, buy it", "- a list", "-$100", "-🙂", "--x y=1", "-v is bad"]
)
def test_a_text_may_begin_with_a_dash(text: str, run_dir: Path) -> None:
    answer = run_cli("predict", run_dir, text, "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["text"] == text
    assert run_cli("predict", run_dir, "--", text, "--json").out.count("\n") == 2, "what follows -- is a text"


@pytest.mark.parametrize("flag", ["--jsn", "-j", "--top_k=3"])
def test_a_mistyped_flag_is_rejected_with_the_way_to_pass_a_text(flag: str, run_dir: Path) -> None:
    answer = run_cli("predict", run_dir, "text", flag)
    assert answer.code == 2
    assert flag.partition("=")[0] in answer.err
    assert " -- " in answer.err
