"""LoRA of a classifier: what trains, what is cached, drawn, merged, saved and rejected; and equal to plain training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lora_training import losses_of, settings_of, train_plainly
from miniature import classifier_of, messages, random_gpt, run_cli, small_tokenizer, write_backbone, write_messages

from lasttoken import TextClassifier
from lasttoken.backbone.gpt2.network import GPT2Config
from lasttoken.backbone.packing import Packing
from lasttoken.backbone.quantized import QuantizedTensor
from lasttoken.classifier.checkpoint import load_classifier, save_classifier
from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.lora import LoraConfig, lora_config
from lasttoken.core.errors import RunError, SettingsError
from lasttoken.core.resolve import resolve
from lasttoken.training.features import trunk_hash

LORA = LoraConfig(rank=2, alpha=4.0, blocks=2, matrices=("qkv", "o", "up", "down"))
KINDS = {
    "all matrices": (LORA, "last"),
    "mean": (LORA, "mean"),
    "some matrices": (replace(LORA, matrices=("qkv", "down"), blocks=1), "last+mean"),
    "all blocks": (replace(LORA, blocks=3, alpha=0.5, scale="alpha"), "last"),
    "as the book's script": (replace(LORA, blocks=3, scale="alpha", like_book=True), "last"),
}
TEXTS, LABELS = messages(40)


def miniature(lora: LoraConfig | None, read: str = "last", dtype: torch.dtype = torch.float64) -> Classifier:
    gpt = random_gpt(n_embd=16, n_layer=3, n_head=4, dtype=dtype)
    return classifier_of(gpt, read=read, lora=lora, seed=7, labels=("a", "b", "c"))


def moved(classifier: Classifier) -> Classifier:
    """The classifier with updates that are not zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in classifier.trained().items():
            if name.endswith("lora_B"):
                parameter.normal_(generator=generator)
    return classifier


def batch() -> tuple[torch.Tensor, Packing]:
    return torch.randint(260, (12,), generator=torch.Generator().manual_seed(4)), Packing([5, 4, 3])


@pytest.mark.parametrize("kind", KINDS)
def test_stored_and_live_features_equal_plain_training(kind: str) -> None:
    (lora, read), settings = KINDS[kind], settings_of()
    start = miniature(lora, read)
    losses, weights = train_plainly(start, miniature(None, read), settings)
    assert len(losses) == 8
    for live in (False, True):
        classifier = miniature(lora, read)
        assert losses_of(classifier, settings, live) == pytest.approx(losses, rel=0, abs=1e-9)
        frozen = dict(start.named_parameters())
        for name, parameter in classifier.named_parameters():
            if not parameter.requires_grad:
                assert torch.equal(parameter, frozen[name]), name
        classifier.merge()
        for name, parameter in classifier.named_parameters():
            torch.testing.assert_close(parameter, weights[name], atol=1e-9, rtol=0, msg=name)


def test_what_trains_is_the_updates_the_final_norm_and_the_head() -> None:
    classifier = miniature(LORA)
    others = {name for name in classifier.trained() if ".low_rank.lora_" not in name}
    assert others == {"gpt.ln_f.weight", "gpt.ln_f.bias", "head.weight", "head.bias"}
    assert len(classifier.trained()) == 4 + 2 * 2 * len(LORA.matrices)
    assert classifier.n_trained() == sum(each.numel() for each in classifier.trained().values())
    book = miniature(replace(LORA, like_book=True))
    assert "gpt.ln_f.weight" not in book.trained()
    assert {"head.weight", "head_update.lora_A"} <= set(book.trained())
    assert book.n_trained() == sum(each.numel() for each in book.trained().values())


def test_the_trunk_is_that_of_a_tail_of_as_many_blocks() -> None:
    tail = classifier_of(random_gpt(n_embd=16, n_layer=3, n_head=4), train_blocks="2")
    assert trunk_hash(miniature(LORA, dtype=torch.float32)) == trunk_hash(tail)
    assert miniature(LORA).n_frozen == 1
    assert miniature(replace(LORA, blocks=3)).n_frozen == 0


def test_a_seed_draws_the_head_and_then_the_updates() -> None:
    classifier = moved(miniature(LORA, dtype=torch.float32))
    fresh = {name: each.detach().clone() for name, each in miniature(LORA, dtype=torch.float32).trained().items()}
    state = torch.get_rng_state()
    classifier.draw(7)
    assert torch.equal(torch.get_rng_state(), state)
    for name, parameter in classifier.trained().items():
        assert torch.equal(parameter, fresh[name]), name
    plain = miniature(None, dtype=torch.float32)
    assert torch.equal(classifier.head.weight, plain.head.weight)
    classifier.draw(8)
    drawn = {name for name, parameter in classifier.trained().items() if not torch.equal(parameter, fresh[name])}
    assert drawn == {name for name in fresh if name.startswith("head") or name.endswith("lora_A")}


@torch.no_grad()
@pytest.mark.parametrize("lora", [LORA, replace(LORA, like_book=True)], ids=["standard", "book"])
def test_a_saved_run_is_merged_and_answers_the_same(lora: LoraConfig, tmp_path: Path) -> None:
    classifier, folder = moved(miniature(lora, dtype=torch.float32)), tmp_path / "run"
    folder.mkdir()
    before = classifier(*batch())
    save_classifier(folder, classifier, small_tokenizer())
    loaded, _ = load_classifier(folder)
    assert not any("lora" in name for name in loaded.state_dict())
    assert loaded.config == classifier.config
    assert (loaded.n_frozen, loaded.n_trained()) == (classifier.n_frozen, classifier.n_trained())
    assert classifier.n_parameters() == sum(each.numel() for each in loaded.parameters())
    torch.testing.assert_close(loaded(*batch()), before, atol=1e-6, rtol=2e-6)
    classifier.merge()
    assert torch.equal(classifier(*batch()), before)
    save_classifier(folder, classifier, small_tokenizer())
    torch.testing.assert_close(load_classifier(folder)[0](*batch()), before, atol=1e-6, rtol=2e-6)


def test_blocks_of_few_bits_are_kept_for_matrices_that_did_not_change() -> None:
    classifier = miniature(replace(LORA, matrices=("qkv",), blocks=1))
    blocks = QuantizedTensor(np.zeros((1, 20), np.uint8), "Q4_1", (1, 32))
    names = [name for name, _ in classifier.decoder.named_parameters() if "low_rank" not in name]
    classifier.decoder.quantized = dict.fromkeys(names, blocks)
    changed = {"h.2.attn.c_attn.weight", "ln_f.weight", "ln_f.bias"}
    assert set(names) - classifier.unchanged_names() == changed
    classifier.merge()
    kept = classifier.decoder.quantized.keys() & classifier.unchanged_names()
    assert set(names) - kept == changed


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_backbone(tmp_path_factory.mktemp("gpt"), random_gpt(n_positions=64)))


@pytest.mark.parametrize("precision", ["float32", "int8", "bfloat16"])
def test_a_run_answers_after_loading_as_before(backbone: str, tmp_path: Path, precision: str) -> None:
    trained = TextClassifier.train(
        TEXTS, LABELS, backbone=backbone, lora_rank=2, lora_blocks=1, epochs=2, learning_rate=2e-2,
        precision=precision, seeds=2, out=tmp_path / "run",
    )  # fmt: skip
    probs = trained.predict_proba(TEXTS)
    assert ((probs[:, 0] > 0.5) == (np.array(LABELS) == "ham")).mean() > 0.8
    loaded = TextClassifier.load(tmp_path / "run", precision="auto" if precision == "int8" else precision)
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), probs, atol=1e-6)
    words = loaded.explain(TEXTS[0]).words
    assert words
    assert max(abs(word.value) for word in words) > 0


def test_the_command_line_trains_it_keeps_the_adapter_and_resumes(backbone: str, tmp_path: Path) -> None:
    data, out = write_messages(tmp_path / "m.csv", TEXTS, LABELS), tmp_path / "run"
    flags = ("--backbone", backbone, "--lora-blocks", 1, "--lora-rank", 3, "--keep-adapter", "--epochs", 1)
    answer = run_cli("train", data, "--out", out, *flags)
    assert answer.code == 0, answer.err
    assert "LoRA of rank 3 and alpha 6 in qkv,o,up,down of the last 1 block" in answer.err
    assert (out / "adapter" / "adapter_model.safetensors").is_file()
    assert "LoRA of rank 3" in (out / "README.md").read_text("utf-8")
    facts = run_cli("info", out).out
    assert "trained_parameters" in facts
    assert "LoRA of rank 3" in facts
    again = run_cli("train", data, "--out", out, "--overwrite", "--backbone", backbone, "--epochs", 1)
    assert again.code == 0, again.err
    assert not (out / "adapter").exists()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"train_blocks": "2", "lora_rank": 8}, "--train-blocks is 2.*--lora-rank"),
        ({"method": "linear", "lora_alpha": 8}, "--method linear.*--lora-alpha"),
        ({"method": "linear", "train_blocks": "lora"}, "--method linear.*lora"),
        ({"lora_rank": 0}, "--lora-rank"),
        ({"lora_alpha": 0.0}, "--lora-alpha"),
        ({"lora_blocks": "half"}, "--lora-blocks.*half"),
        ({"lora_blocks": "0"}, "--lora-blocks"),
        ({"lora_matrices": "q,w"}, "--lora-matrices.*'w'"),
        ({"lora_matrices": "q,q"}, "--lora-matrices.*'q' twice"),
        ({"lora_matrices": ""}, "--lora-matrices"),
        ({"lora_scale": "rank"}, "--lora-scale"),
        ({"lora_blocks": "all", "precision": "int8"}, "--precision int8.*--lora-blocks all"),
    ],
)
def test_settings_that_contradict_each_other_are_rejected(given: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        resolve("default", given)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"lora_matrices": "q,v"}, "'q', 'v'.*qkv,o,up,down"),
        ({"lora_rank": 17}, "--lora-rank is 17.*16"),
        ({"lora_blocks": "4"}, "--lora-blocks is 4.*3 blocks"),
    ],
)
def test_what_the_backbone_does_not_have_is_rejected(given: dict[str, Any], named: str) -> None:
    settings = replace(resolve("default", {"lora_blocks": "2", **given}), lora_alpha=8.0)
    settings = settings if settings.lora_rank else replace(settings, lora_rank=2)
    with pytest.raises(SettingsError, match=named):
        lora_config(settings, GPT2Config(vocab_size=261, n_positions=24, n_embd=16, n_layer=3, n_head=4))


def test_any_setting_of_lora_means_lora_whatever_the_recipe_trains() -> None:
    assert resolve("default", {"lora_rank": 4}).train_blocks == "lora"
    assert resolve("default", {"lora_rank": 4}).method == "tail"
    assert resolve("book", {"lora_blocks": "all"}).train_blocks == "lora"
    assert resolve("book").train_blocks == "1"
    assert resolve("default", {"method": "auto", "lora_rank": 4}).method == "auto"


def test_a_changed_record_is_rejected(tmp_path: Path) -> None:
    save_classifier(tmp_path, miniature(LORA, dtype=torch.float32), small_tokenizer())
    path = tmp_path / "config.json"
    written = path.read_text("utf-8")
    for old, new in (('"train_blocks": "lora"', '"train_blocks": "2"'), ('"blocks": 2', '"blocks": 9')):
        assert old in written
        path.write_text(written.replace(old, new), "utf-8")
        with pytest.raises(RunError, match="lora"):
            load_classifier(tmp_path)
