"""Which process this is, from torchrun's environment; and the commands that do not share work."""

from __future__ import annotations

import pytest

from lasttoken.core.errors import SettingsError
from lasttoken.core.ranks import Rank, check_command, is_silent


def test_without_the_variables_there_is_one_process() -> None:
    assert Rank.from_environment({}) is None
    assert Rank.from_environment({"RANK": "0", "WORLD_SIZE": "1"}) is None
    assert Rank.from_environment({"WORLD_SIZE": "8"}) is None


def test_a_rank_survives_the_environment() -> None:
    rank = Rank(5, 8, 1, 4)
    assert Rank.from_environment(rank.to_environment()) == rank
    assert not rank.leads
    assert Rank(0, 8).leads


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"RANK": "two", "WORLD_SIZE": "2"}, "RANK"),
        ({"RANK": "0", "WORLD_SIZE": "-2"}, "WORLD_SIZE"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2"),
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": ""}, "LOCAL_RANK"),
    ],
)
def test_numbers_that_cannot_be_are_named(variables: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        Rank.from_environment(variables)


def test_only_train_is_for_torchrun() -> None:
    torchrun = {"RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}
    check_command("train", torchrun)
    check_command("predict", {"RANK": "1", "WORLD_SIZE": "2"})  # a cluster may set these for its own reasons
    check_command("predict", {**torchrun, "WORLD_SIZE": "1", "RANK": "0"})
    with pytest.raises(SettingsError, match="predict"):
        check_command("predict", torchrun)
    assert is_silent(torchrun)
    assert not is_silent({**torchrun, "RANK": "0"})
    assert not is_silent({"RANK": "1"})
