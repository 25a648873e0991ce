"""A saved classifier: the same logits anywhere, readable by transformers, and never half trusted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf_files import write_gguf
from miniature import (
    N_SMALL_TOKENS,
    classifier_of,
    messages,
    random_encoded,
    random_gpt,
    small_tokenizer,
    write_backbone,
)
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import GPT2Model

from lasttoken.backbone.gpt2.family import from_published, to_published
from lasttoken.backbone.packing import Packing
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.classifier.checkpoint import load_classifier, save_classifier
from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import BackboneError, DivergedError, LastTokenError, RunError

TEXTS = [*messages(12)[0], "", "<|endoftext|>", "né 🙂 \x00"]


def logits_of(folder: Path) -> NDArray[np.float32]:
    predictor = Predictor(*load_classifier(folder))
    return predictor.logits(predictor.encode(TEXTS))


def saved(folder: Path, **changes: Any) -> Classifier:
    gpt = random_gpt()
    gpt.load_state_dict(
        from_published(to_published(gpt.state_dict())), assign=True
    )  # laid out as if it had been loaded
    classifier = classifier_of(gpt, **changes)
    save_classifier(folder, classifier, small_tokenizer())
    return classifier


def test_a_head_without_a_bias_is_stored_without_one_and_must_have_none(tmp_path: Path) -> None:
    classifier = saved(tmp_path, head_bias=False)
    tensors = load_file(tmp_path / "model.safetensors")
    assert {name for name in tensors if name.startswith("score.")} == {"score.weight"}
    predictor = Predictor(classifier.requires_grad_(False), small_tokenizer())
    np.testing.assert_array_equal(logits_of(tmp_path), predictor.logits(predictor.encode(TEXTS)))
    save_file(tensors | {"score.bias": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(BackboneError, match=r"score\.bias.*head_bias"):
        load_classifier(tmp_path)


@pytest.mark.parametrize("read", ["last", "first", "mean", "last+mean", "padded-last", "padded-mean"])
@pytest.mark.parametrize("causal_mask", [True, False])
@pytest.mark.parametrize("train_blocks", ["head", "2", "all"])
def test_loading_gives_equal_logits_bit_for_bit(
    read: str, causal_mask: bool, train_blocks: str, tmp_path: Path
) -> None:
    labels = ("né", "2", '10 \n"x"')
    classifier = saved(tmp_path, read=read, causal_mask=causal_mask, train_blocks=train_blocks, labels=labels)
    predictor = Predictor(classifier, small_tokenizer())
    expected = predictor.logits(predictor.encode(TEXTS))
    assert np.array_equal(logits_of(tmp_path), expected)
    assert np.ptp(expected, axis=0).min() > 0
    assert load_classifier(tmp_path)[0].config == classifier.config


def test_a_run_without_a_recorded_frame_has_none(tmp_path: Path) -> None:
    saved(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text("utf-8"))
    for name in ("prefix_ids", "suffix_ids"):
        assert content["lasttoken"].pop(name) == []
    (tmp_path / "config.json").write_text(json.dumps(content), "utf-8")
    config = load_classifier(tmp_path)[0].config
    assert (config.prefix_ids, config.suffix_ids) == ((), ())


def test_the_folder_works_after_a_move_with_the_backbone_gone(tmp_path: Path) -> None:
    backbone = load_backbone(str(write_backbone(tmp_path / "backbone")))
    save_classifier(tmp_path / "run", classifier_of(backbone.decoder), backbone.tokenizer)
    expected = logits_of(tmp_path / "run")
    shutil.rmtree(tmp_path / "backbone")
    (tmp_path / "else").mkdir()
    shutil.move(tmp_path / "run", tmp_path / "else" / "where")
    assert np.array_equal(logits_of(tmp_path / "else" / "where"), expected)


def test_loading_does_not_wake_torchs_compiler(tmp_path: Path) -> None:
    """Importing it takes longer than everything else that `predict` does for one text."""
    saved(tmp_path)
    program = (
        "import sys; from pathlib import Path; from lasttoken.classifier.predict import Predictor, load_classifier; "
        "Predictor(*load_classifier(Path(sys.argv[1]))).predict(['a']); print('torch._dynamo' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


def test_an_untied_output_layer_is_left_behind(tmp_path: Path) -> None:
    classifier = classifier_of(random_gpt(tied=False))
    save_classifier(tmp_path, classifier, small_tokenizer())
    assert not any("lm_head" in name for name in load_file(tmp_path / "model.safetensors"))
    predictor = Predictor(classifier, small_tokenizer())
    assert np.array_equal(logits_of(tmp_path), predictor.logits(predictor.encode(TEXTS)))


def test_transformers_reads_the_folder_and_computes_the_same_hidden_states_and_logits(tmp_path: Path) -> None:
    classifier = saved(tmp_path)
    theirs = GPT2Model.from_pretrained(tmp_path)
    theirs.train(False)
    encoded = random_encoded(6, 20, vocab_size=N_SMALL_TOKENS)
    score = load_file(tmp_path / "model.safetensors")
    for ids in np.split(encoded.token_ids, encoded.offsets[1:-1]):
        token_ids, packing = torch.from_numpy(ids.astype(np.int64)), Packing([len(ids)])
        with torch.no_grad():
            hidden = theirs(token_ids[None]).last_hidden_state[0]
            torch.testing.assert_close(classifier.decoder(token_ids, packing), hidden, rtol=0, atol=1e-5)
            logits = hidden[-1] @ score["score.weight"].T + score["score.bias"]
            torch.testing.assert_close(classifier(token_ids, packing)[0], logits, rtol=0, atol=1e-5)


def change_config(folder: Path, **changes: Any) -> None:
    """Change what is ours in config.json; None takes a name away."""
    path = folder / "config.json"
    content = json.loads(path.read_text("utf-8"))
    ours = {**content["lasttoken"], **changes}
    content["lasttoken"] = {name: value for name, value in ours.items() if value is not None}
    path.write_text(json.dumps(content), "utf-8")


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)


def lose(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def drop_tensor(name: str) -> Callable[[Path], None]:
    def drop(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        del tensors[name]
        save_file(tensors, folder / "model.safetensors")

    return drop


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        pytest.param(
            cut("model.safetensors"), BackboneError, r"model\.safetensors \([\d,]+ bytes\) is corrupt", id="torn"
        ),
        pytest.param(cut("config.json"), BackboneError, r"config\.json cannot be read as JSON", id="torn config"),
        pytest.param(cut("tokenizer.json"), BackboneError, r"tokenizer\.json cannot be read", id="torn tokenizer"),
        pytest.param(lose("model.safetensors"), RunError, r"holds no model\.safetensors", id="no weights"),
        pytest.param(lose("config.json"), RunError, r"holds no config\.json", id="no config"),
        pytest.param(lose("tokenizer.json"), RunError, r"holds no tokenizer\.json", id="no tokenizer"),
        pytest.param(drop_tensor("score.bias"), BackboneError, r"no tensor score\.bias of shape \(2,\)", id="no bias"),
        pytest.param(drop_tensor("transformer.ln_f.bias"), BackboneError, r"lacks .*'ln_f\.bias'", id="no ln_f"),
        pytest.param(
            lambda folder: change_config(folder, labels=["a", "b", "c"]),
            BackboneError,
            r"no tensor score\.weight of shape \(3, 32\)",
            id="more labels",
        ),
        pytest.param(
            lambda folder: change_config(folder, format=2),
            RunError,
            r"config\.json.*format 2.*format 1",
            id="future",
        ),
        pytest.param(
            lambda folder: change_config(folder, labels=None),
            RunError,
            r"config\.json.*labels is missing",
            id="no labels",
        ),
        pytest.param(lambda folder: change_config(folder, wings=2), RunError, r"config\.json.*wings", id="unknown"),
    ],
)
def test_a_damaged_folder_is_rejected_in_one_sentence(
    damage: Callable[[Path], None], error: type[LastTokenError], says: str, tmp_path: Path
) -> None:
    saved(tmp_path)
    logits_of(tmp_path)
    damage(tmp_path)
    with pytest.raises(error, match=says) as caught:
        load_classifier(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_plain_backbone_is_no_classifier(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"config\.json.*format None.*lasttoken train"):
        load_classifier(write_backbone(tmp_path))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no run directory .*nowhere"):
        load_classifier(tmp_path / "nowhere")


def test_labels_can_be_renamed_and_keep_their_order(tmp_path: Path) -> None:
    saved(tmp_path)
    expected = logits_of(tmp_path)
    change_config(tmp_path, labels=["good", "bad"])
    assert load_classifier(tmp_path)[0].config.labels == ("good", "bad")
    assert np.array_equal(logits_of(tmp_path), expected)


def test_the_weights_may_be_read_by_whoever_may_read_the_rest(tmp_path: Path) -> None:
    saved(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "config.json").stat().st_mode


def test_a_disk_that_fills_up_leaves_the_old_weights_and_says_so(tmp_path: Path) -> None:
    saved(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    code = (
        "import resource, sys; from pathlib import Path; "
        "from lasttoken.backbone.weights import write_tensor_file; import torch, signal; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); "
        "write_tensor_file(Path(sys.argv[1]), {'a': torch.ones(1000)})"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.safetensors")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "StorageError" in found.stderr
    assert "model.safetensors" in found.stderr
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if ".tmp-" in path.name] == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0),
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", 1e-300),
        ("temperature", "1.0"),
        ("temperature", True),
        ("labels", ["spam", "spam"]),
        ("labels", ["ham", ""]),
        ("labels", [0, 1]),
        ("labels", "ab"),
        ("labels", []),
        ("labels", {"ham": 0}),
        ("max_length", 0),
        ("max_length", "20"),
        ("max_length", 20.5),
        ("max_length", 33),
        ("max_length", 10**12),
        ("read", "penultimate"),
        ("read", 1),
        ("truncate", "middle"),
        ("train_blocks", "4"),
        ("train_blocks", "0"),
        ("train_blocks", "most"),
        ("train_blocks", "9" * 5000),
        ("train_blocks", 1),
        ("causal_mask", "yes"),
        ("causal_mask", 1),
        ("int8_trunk", "no"),
        ("end_of_text_id", -1),
        ("end_of_text_id", N_SMALL_TOKENS),
        ("end_of_text_id", 3.0),
        ("prefix_ids", [N_SMALL_TOKENS]),
        ("prefix_ids", [-1]),
        ("prefix_ids", 3),
        ("prefix_ids", [5] * 32),
        ("suffix_ids", [2.0]),
        ("suffix_ids", [N_SMALL_TOKENS]),
        ("separator", ""),
        ("separator", 5),
        ("backbone", 7),
        ("decision", {"thresholds": [[2, 0.5]], "costs": [], "abstain_below": 0.0}),
        ("decision", {"thresholds": [[-1, 0.5]], "costs": [], "abstain_below": 0.0}),
        ("decision", {"thresholds": [[0, float("nan")]], "costs": [], "abstain_below": 0.0}),
        ("decision", {"thresholds": [], "costs": [[0, 5, 1.0]], "abstain_below": 0.0}),
        ("decision", {"thresholds": [], "costs": [], "abstain_below": 7}),
        ("decision", []),
        ("wings", 2),
    ],
)
def test_a_wrong_value_of_ours_in_config_json_is_named(field: str, value: Any, tmp_path: Path) -> None:
    saved(tmp_path)
    change_config(tmp_path, **{field: value})
    with pytest.raises(RunError, match=rf"config\.json.*{field}") as caught:
        load_classifier(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", ["vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner"])
@pytest.mark.parametrize("value", [0, -1, 10**9, 10**18, "32", 32.0, True, [32]])
def test_sizes_that_are_not_those_of_the_tensors_are_rejected_at_once(name: str, value: Any, tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), name: value}), "utf-8")
    with pytest.raises(BackboneError, match=str(tmp_path)):
        load_classifier(tmp_path)


def test_nan_is_never_an_answer(tmp_path: Path) -> None:
    saved(tmp_path)
    classifier, tokenizer = load_classifier(tmp_path)
    with torch.no_grad():
        classifier.head.bias[0] = float("nan")
    with pytest.raises(DivergedError):
        Predictor(classifier, tokenizer).predict(["a"])


def test_a_head_that_is_not_finite_is_named(tmp_path: Path) -> None:
    saved(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["score.weight"][1, 2] = float("nan")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(BackboneError, match=r"score\.weight"):
        load_classifier(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_file_of_a_run_is_copied_or_trained_again_and_not_fetched(name: str, tmp_path: Path) -> None:
    saved(tmp_path)
    cut(name)(tmp_path)
    with pytest.raises(BackboneError, match=rf"{name}.*train it again") as caught:
        load_classifier(tmp_path)
    assert "fetch" not in str(caught.value)


def test_the_blocks_of_a_frozen_trunk_are_saved_as_they_came(tmp_path: Path) -> None:
    write_gguf(tmp_path / "small.gguf", random_gpt(n_inner=64), "Q4_0")
    backbone = load_backbone(str(tmp_path / "small.gguf"))
    classifier = classifier_of(backbone.decoder, train_blocks="1")
    with torch.no_grad():
        classifier.decoder.get_parameter("h.2.attn.c_attn.weight").add_(0.01)  # as training does
    run = tmp_path / "run"
    run.mkdir()
    save_classifier(run, classifier, backbone.tokenizer)
    stored = load_file(run / "model.safetensors")
    packed = {name for name in stored if name.startswith("quantized.")}
    assert {name for name in packed if "Q8_0" in name} == {"quantized.Q8_0.wte.weight"}
    assert len(packed) == 1 + 2 * 4, "four matrices in each of two frozen blocks"
    assert "transformer.h.2.attn.c_attn.weight" in stored
    assert "transformer.h.1.attn.c_attn.weight" not in stored

    loaded, _ = load_classifier(run)
    for name, tensor in classifier.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    (tmp_path / "again").mkdir()
    save_classifier(tmp_path / "again", loaded, backbone.tokenizer)
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()

    content = bytearray((run / "model.safetensors").read_bytes())
    start = content.index(stored["quantized.Q4_0.h.1.mlp.c_fc.weight"].numpy().tobytes())
    content[start + 100] ^= 4
    (run / "model.safetensors").write_bytes(content)
    with pytest.raises(BackboneError, match=r"quantized\.Q4_0\.h\.1\.mlp\.c_fc\.weight"):
        load_classifier(run)


def test_a_network_that_trains_as_a_whole_is_saved_in_float32(tmp_path: Path) -> None:
    write_gguf(tmp_path / "small.gguf", random_gpt(n_inner=64), "Q8_0")
    backbone = load_backbone(str(tmp_path / "small.gguf"))
    (tmp_path / "run").mkdir()
    save_classifier(tmp_path / "run", classifier_of(backbone.decoder, train_blocks="all"), backbone.tokenizer)
    stored = load_file(tmp_path / "run" / "model.safetensors")
    assert not [name for name in stored if name.startswith("quantized.")]
