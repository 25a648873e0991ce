"""docs/scale.md and the files beside it: job files that their programs accept, a recipe for Spark that runs."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from lasttoken import TextClassifier
from lasttoken.cli.scoring import shard_of

ROOT = Path(__file__).resolve().parents[1]
FILES = ROOT / "docs" / "scale"
JOB = FILES / "kubernetes-job.yaml"


def words_of(script: Path, arguments: list[str], folder: Path, **variables: str) -> list[str]:
    """The words that a script gives to `lasttoken`."""
    stand_in = folder / "lasttoken"
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stand_in.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), **variables}
    found = subprocess.run(["bash", script, *arguments], env=environment, capture_output=True, text=True, check=True)
    return found.stdout.split()


def test_the_array_of_slurm_covers_every_shard_once(tmp_path: Path) -> None:
    script = FILES / "slurm.sbatch"
    first, last = re.search(r"#SBATCH --array=(\d+)-(\d+)", script.read_text()).groups()  # type: ignore[union-attr]
    words = words_of(script, ["s3://in", "s3://out/"], tmp_path, SLURM_ARRAY_TASK_ID=last, SLURM_CPUS_PER_TASK="4")
    shard = shard_of(words[words.index("--shard") + 1])
    assert (int(first), shard) == (0, (int(last), int(last) + 1))
    assert words[words.index("--input") + 1] == "s3://in"


def test_a_job_of_slurm_without_an_output_ends_at_once(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        words_of(FILES / "slurm.sbatch", ["s3://in"], tmp_path, SLURM_ARRAY_TASK_ID="0")


def test_the_pods_of_the_job_are_its_shards() -> None:
    job = yaml.safe_load(JOB.read_text())["spec"]
    container = job["template"]["spec"]["containers"][0]
    shard = next(word for word in container["args"] if word.startswith("--shard="))
    last = shard.removeprefix("--shard=").replace("$(JOB_COMPLETION_INDEX)", str(job["completions"] - 1))
    assert job["completionMode"] == "Indexed"
    assert shard_of(last) == (job["completions"] - 1, job["completions"])
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in job["template"]["spec"]["volumes"]}


def test_the_job_fits_the_schema_of_kubernetes() -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="needs pip install kubernetes-validate (110 MB)")
    validator.validate(yaml.safe_load(JOB.read_text()), "1.33", strict=True)


def test_the_same_number_of_rows_is_the_same_file() -> None:
    printed = [subprocess.check_output([sys.executable, FILES / "rows.py", "50"], text=True) for _ in range(2)]
    assert printed[0] == printed[1]
    assert len(printed[0].splitlines()) == 51


# Spark ------------------------------------------------------------------------------------------------------------


def test_the_page_shows_the_recipe_as_it_is() -> None:
    page = (ROOT / "docs" / "scale.md").read_text("utf-8")
    shown = re.search(r"<!-- docs/scale/spark_recipe.py -->\n```python\n(.*?)```", page, re.S)
    assert shown
    assert shown[1] == (FILES / "spark_recipe.py").read_text("utf-8")


@pytest.fixture
def spark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    sql = pytest.importorskip("pyspark.sql", reason="needs pip install 'pyspark>=4'")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FILES), os.environ.get("PYTHONPATH", "")]))
    builder = sql.SparkSession.builder.master("local[1]")
    for name, value in {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": "1",
    }.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of pyspark, about pandas 3
def test_spark_gives_the_answers_of_one_process(spark: Any, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FILES))
    recipe = importlib.import_module("spark_recipe")
    texts = [f"Win prize {number} " * (1 + number % 5) for number in range(30)]
    rows = spark.createDataFrame(list(enumerate(texts)), "id long, text string")
    found = recipe.score(rows, str(run_dir)).toPandas().sort_values("id")
    answers = TextClassifier.load(run_dir, device="cpu").predict(texts)
    expected = pd.DataFrame({"label": [a.label for a in answers], "score": [a.score for a in answers]})
    assert found["predicted_label"].tolist() == expected["label"].tolist()
    assert found["predicted_score"].tolist() == pytest.approx(expected["score"].tolist(), abs=1e-6)
