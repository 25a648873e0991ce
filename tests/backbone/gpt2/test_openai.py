"""OpenAI's own release in miniature: written by TensorFlow here, read by us, equal to the Hugging Face form.

hparams.json  checkpoint  model.ckpt.index  model.ckpt.data-00000-of-00001  encoder.json  vocab.bpe
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from miniature import MERGES, random_gpt, small_tokenizer, small_vocabulary, write_backbone
from torch import Tensor

from lasttoken.backbone.gpt2.network import GPT2
from lasttoken.backbone.gpt2.openai import published_name
from lasttoken.backbone.packing import Packing
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.core.errors import BackboneError

HPARAMS = {"n_vocab": 261, "n_ctx": 32, "n_embd": 32, "n_head": 4, "n_layer": 3}


@pytest.fixture(scope="module")
def tensorflow() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")  # it greets on stderr as it is imported
        found: ModuleType = pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install '.[openai]'")
    return found


def openai_arrays(gpt: GPT2) -> dict[str, Tensor]:
    """A GPT's tensors under OpenAI's names: linear weights are [1, in, out], a norm's are g and b."""
    state = gpt.state_dict()
    found = {"model/wte": state["wte.weight"], "model/wpe": state["wpe.weight"]}
    norms = {"model/ln_f": "ln_f"}
    for layer in range(gpt.config.n_layer):
        for norm in ("ln_1", "ln_2"):
            norms[f"model/h{layer}/{norm}"] = f"h.{layer}.{norm}"
        for linear in ("attn/c_attn", "attn/c_proj", "mlp/c_fc", "mlp/c_proj"):
            ours = f"h.{layer}.{linear.replace('/', '.')}"
            found[f"model/h{layer}/{linear}/w"] = state[f"{ours}.weight"].t()[None]
            found[f"model/h{layer}/{linear}/b"] = state[f"{ours}.bias"]
    for theirs, ours in norms.items():
        found[f"{theirs}/g"], found[f"{theirs}/b"] = state[f"{ours}.weight"], state[f"{ours}.bias"]
    return found


def write_hparams(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "hparams.json").write_text(json.dumps({**HPARAMS, **changes}))
    (folder / "encoder.json").write_text(json.dumps(small_vocabulary()))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGES), ""]
    (folder / "vocab.bpe").write_text("\n".join(lines), "utf-8")
    return folder


def write_openai(tensorflow: ModuleType, folder: Path, arrays: dict[str, Tensor]) -> Path:
    """A folder as OpenAI published them."""
    write_hparams(folder)
    tensorflow.raw_ops.SaveV2(
        prefix=str(folder / "model.ckpt"),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=[array.numpy() for array in arrays.values()],
    )
    (folder / "checkpoint").write_text(
        'model_checkpoint_path: "model.ckpt"\nall_model_checkpoint_paths: "model.ckpt"\n'
    )
    return folder


@pytest.mark.slow
def test_openais_folder_gives_the_logits_and_tokens_of_the_hugging_face_form(
    tensorflow: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    gpt = random_gpt()
    theirs = load_backbone(str(write_backbone(tmp_path / "hugging-face", gpt)))
    folder = write_openai(tensorflow, tmp_path / "124M", openai_arrays(gpt))
    capfd.readouterr()
    ours = load_backbone(str(folder))
    assert capfd.readouterr() == ("", ""), "what TensorFlow has to say is no talk of ours"
    assert ours.config == theirs.config
    assert ours.end_of_text_id == theirs.end_of_text_id
    ids = ours.tokenizer.encode("in the end, ünd\n")
    assert ids == theirs.tokenizer.encode("in the end, ünd\n") == small_tokenizer().encode("in the end, ünd\n")
    hidden = [b.decoder(torch.tensor(ids), Packing([len(ids)])) for b in (ours, theirs)]
    assert torch.equal(ours.decoder.logits(hidden[0]), theirs.decoder.logits(hidden[1]))
    assert not any(parameter.requires_grad for parameter in ours.decoder.parameters())

    (folder / "checkpoint").unlink()  # which only says that the file is called model.ckpt
    assert load_backbone(str(folder)).config == theirs.config


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "gone", "index-cut", "index-gone", "index-random"])
def test_a_truncated_checkpoint_is_one_sentence(damage: str, tensorflow: ModuleType, tmp_path: Path) -> None:
    folder = write_openai(tensorflow, tmp_path / "124M", openai_arrays(random_gpt()))
    index = folder / "model.ckpt.index"
    path = index if damage.startswith("index") else folder / "model.ckpt.data-00000-of-00001"
    if damage.endswith("cut"):
        path.write_bytes(path.read_bytes()[:-100])
    elif damage.endswith("random"):
        path.write_bytes(b"\x07" * path.stat().st_size)
    else:
        path.unlink()
    with pytest.raises(
        BackboneError, match=r"TensorFlow checkpoint .*model\.ckpt cannot be read: .*fetch it again$"
    ) as caught:
        load_backbone(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_tensors_that_are_not_gpt2s_are_named(tensorflow: ModuleType, tmp_path: Path) -> None:
    arrays = openai_arrays(random_gpt())
    extra = write_openai(tensorflow, tmp_path / "extra", {**arrays, "model/h0/ln_3/g": torch.ones(2)})
    with pytest.raises(BackboneError, match=r"'h\.0\.ln_3\.weight'"):
        load_backbone(str(extra))
    del arrays["model/h2/mlp/c_fc/b"]
    lacking = write_openai(tensorflow, tmp_path / "lacking", arrays)
    with pytest.raises(BackboneError, match=r"lacks the tensors 'h\.2\.mlp\.c_fc\.bias'"):
        load_backbone(str(lacking))
    foreign = write_openai(tensorflow, tmp_path / "foreign", {"other/wte": torch.ones(3, 3)})
    with pytest.raises(BackboneError, match=r"holds no tensor named model/\.\.\.; is it GPT-2\?"):
        load_backbone(str(foreign))


def test_without_tensorflow_the_sentence_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorflow", "tensorflow.train"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackboneError, match=r"124M is a TensorFlow checkpoint; .*pip install '\.\[openai\]'"):
        load_backbone(str(write_hparams(tmp_path / "124M")))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"n_vocab": None}, r"hparams\.json has vocab_size or n_vocab = None"),
        ({"n_ctx": "many"}, r"hparams\.json has n_positions or n_ctx = 'many'"),
        ({"n_head": 5}, r"hparams\.json has n_embd 32, which is not a multiple of n_head 5"),
        ({"n_layer": 0}, r"hparams\.json has n_layer = 0"),
    ],
)
def test_hparams_that_give_no_shape_are_named(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=sentence):
        load_backbone(str(write_hparams(tmp_path / "124M", **changes)))


@pytest.mark.parametrize("content", ["", "{", "[1]", "7"])
def test_hparams_that_are_not_a_json_object_are_named(content: str, tmp_path: Path) -> None:
    write_hparams(tmp_path / "124M")
    (tmp_path / "124M" / "hparams.json").write_text(content)
    with pytest.raises(BackboneError, match=r"hparams\.json"):
        load_backbone(str(tmp_path / "124M"))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("model/wte", "wte.weight"),
        ("model/h0/ln_1/g", "h.0.ln_1.weight"),
        ("model/h11/attn/c_attn/w", "h.11.attn.c_attn.weight"),
        ("model/h47/mlp/c_proj/b", "h.47.mlp.c_proj.bias"),
        ("model/ln_f/b", "ln_f.bias"),
    ],
)
def test_openais_names_become_the_published_ones(theirs: str, ours: str) -> None:
    assert published_name(theirs) == ours
