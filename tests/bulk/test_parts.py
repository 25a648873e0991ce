"""The parts of a scoring job: a part that is not what its marker says is computed again; no input is replaced."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bulk.conftest import WINDOW, N, interrupted

from lasttoken.bulk import parts
from lasttoken.bulk.job import Source, score_file
from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import RunError, SettingsError, StorageError
from lasttoken.data.tables.options import DEFAULT, ReadOptions


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# Parts that are not what they were ----------------------------------------------------------------------------------


def all_done(predictor: Predictor, big: Path, output: Path) -> Path:
    """The folder of parts of a job that was killed when all of them were done, before they were joined."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts.Parts, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            score_file(lambda: predictor, Source(big), output)
    return parts.Parts.beside(output, None).folder  # type: ignore[arg-type]


@pytest.fixture
def whole(predictor: Predictor, big: Path, tmp_path: Path) -> dict[str, bytes]:
    """What an undisturbed job writes, by format."""
    with big.open("a") as file:
        file.write("".join(f"too,many,fields,{at}\n" for at in range(WINDOW)))
    found = {}
    for suffix in (".csv", ".parquet"):
        score_file(lambda: predictor, Source(big), tmp_path / "whole" / f"whole{suffix}")
        found[suffix] = (tmp_path / "whole" / f"whole{suffix}").read_bytes()
    found["rejects"] = (tmp_path / "whole" / "whole.rejects.csv").read_bytes()
    return found


def lose(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [lose, cut, change, empty])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_part_that_does_not_match_its_marker_is_computed_again(
    suffix: str,
    damage: Callable[[Path], None],
    predictor: Predictor,
    big: Path,
    whole: dict[str, bytes],
    tmp_path: Path,
) -> None:
    for name in (f"000002{suffix}", "000000.json", "000003.json", "000008.rejects.csv"):
        output = tmp_path / name / f"scored{suffix}"
        folder = all_done(predictor, big, output)
        damage(folder / name)
        score_file(lambda: predictor, Source(big), output)
        assert output.read_bytes() == whole[suffix], name
        assert output.with_name("scored.rejects.csv").read_bytes() == whole["rejects"], name
        assert not folder.exists()


def test_a_part_that_vanishes_before_it_is_joined_is_an_error(
    predictor: Predictor, big: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "scored.csv"
    output.write_text("an earlier output")
    finish = parts.Parts.finish

    def without_one(self: parts.Parts, done: Any, path: Path) -> Any:
        (self.folder / "000001.csv").unlink()
        return finish(self, done, path)

    with monkeypatch.context() as patched:
        patched.setattr(parts.Parts, "finish", without_one)
        with pytest.raises(StorageError, match=r"000001\.csv"):
            score_file(lambda: predictor, Source(big), output)
    assert output.read_text() == "an earlier output"
    score_file(lambda: predictor, Source(big), output)
    assert output.read_bytes() == whole[".csv"]


def test_markers_are_removed_before_their_parts_in_any_order_of_the_folder(
    predictor: Predictor, big: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = all_done(predictor, big, tmp_path / "scored.csv")
    unlink, gone = Path.unlink, []

    def noted(self: Path, missing_ok: bool = False) -> None:
        if self.parent == folder:
            gone.append(self.name)
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", noted)
    parts.Parts.beside(tmp_path / "scored.csv", None).remove()  # type: ignore[arg-type]
    markers = [f"{number:06d}.json" for number in reversed(range(9))]
    assert gone[: len(markers)] == markers


def test_rejects_of_a_window_that_is_full_are_written_once(predictor: Predictor, tmp_path: Path) -> None:
    lines = ["a,b,c" if at % 3 == 0 else f"text {at},{at}" for at in range(4 * WINDOW)]
    (tmp_path / "in.csv").write_text("text,n\n" + "".join(f"{line}\n" for line in lines))
    found = score_file(lambda: predictor, Source(tmp_path / "in.csv"), tmp_path / "out.csv")
    rejected = [int(row["row"]) for row in rows_of(tmp_path / "out.rejects.csv")]
    assert rejected == [at + 1 for at in range(len(lines)) if at % 3 == 0]
    assert found.counts.n_rejected == len(rejected)


def test_a_job_without_finished_parts_is_replaced(predictor: Predictor, big: Path, tmp_path: Path) -> None:
    output = tmp_path / "scored.csv"
    folder = parts.Parts.beside(output, None).folder  # type: ignore[arg-type]
    folder.mkdir()
    for name in ("job.json.tmp-12-ab12cd34", "job.json", "000000.csv"):
        (folder / name).write_text("{}")
    found = score_file(lambda: predictor, Source(big), output)
    assert found.counts.n_rows == N
    assert not folder.exists()


def test_a_killed_first_write_does_not_block_the_output(predictor: Predictor, big: Path, tmp_path: Path) -> None:
    folder = parts.Parts.beside(tmp_path / "scored.csv", None).folder  # type: ignore[arg-type]
    folder.mkdir()
    (folder / "job.json.tmp-12-ab12cd34").write_text("{")
    assert score_file(lambda: predictor, Source(big), tmp_path / "scored.csv").counts.n_rows == N


@pytest.mark.parametrize("changed", [{"strict": True}, {"options": ReadOptions(max_row_bytes=10**6)}])
def test_parts_are_not_joined_with_those_of_another_way_of_reading(
    changed: dict[str, Any], predictor: Predictor, big: Path, tmp_path: Path
) -> None:
    output = tmp_path / "scored.csv"
    interrupted(predictor, big, output)
    strict, options = changed.get("strict", False), changed.get("options", DEFAULT)
    with pytest.raises(RunError, match="another settings"):
        score_file(lambda: predictor, Source(big, options=options), output, strict=strict)


def test_an_output_that_would_replace_the_input_is_rejected(predictor: Predictor, big: Path, tmp_path: Path) -> None:
    before = big.read_bytes()
    (tmp_path / "link.csv").symlink_to(big)
    big.rename(tmp_path / "in.rejects.csv")
    (tmp_path / "big.csv").symlink_to(tmp_path / "in.rejects.csv")
    for output in (tmp_path / "in.rejects.csv", tmp_path / "link.csv", tmp_path / "in.csv"):
        with pytest.raises(SettingsError, match="would replace"):
            score_file(lambda: predictor, Source(tmp_path / "in.rejects.csv"), output)
    assert (tmp_path / "in.rejects.csv").read_bytes() == before


def test_a_folder_as_output_is_rejected(predictor: Predictor, big: Path, tmp_path: Path) -> None:
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(SettingsError, match=r"out\.csv"):
        score_file(lambda: pytest.fail("loaded"), Source(big), tmp_path / "out.csv")


def test_rejects_have_the_name_of_their_output(predictor: Predictor, tmp_path: Path) -> None:
    assert [parts.rejects_of(Path(name)).name for name in ("a.csv", "day.2.jsonl.gz", "plain")] == [
        "a.rejects.csv", "day.2.rejects.csv", "plain.rejects.csv",
    ]  # fmt: skip
