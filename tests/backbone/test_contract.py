"""The contract of a decoder, checked for each registered family on a miniature; and no family's words outside backbone.

A new family adds a line to `MINIATURES` here. Its twin in transformers is made of its own config.json.
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_training import losses_of, settings_of, train_plainly
from miniature import classifier_of, random_decoder, small_tokenizer, write_folder
from rotary_miniatures import ROTARY_MINIATURES
from torch import Tensor, nn
from twins import twin_of

from lasttoken.backbone import pretrained
from lasttoken.backbone.decoder import Block, DecoderConfig, KeyValues
from lasttoken.backbone.families import FAMILIES, family_of, read_config
from lasttoken.backbone.family import Family
from lasttoken.backbone.gpt2.network import GPT2Config
from lasttoken.backbone.packing import Packing
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.backbone.rotary.config import Rope
from lasttoken.backbone.weights import write_tensor_file
from lasttoken.classifier.checkpoint import load_classifier, save_classifier
from lasttoken.classifier.lora import LoraConfig
from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import SettingsError
from lasttoken.core.lora import WORDS
from lasttoken.export.hf import check_exportable
from lasttoken.training.features import trunk_hash

SOURCE = Path(__file__).resolve().parents[2] / "src" / "lasttoken"
LENGTHS = [7, 1, 24, 5, 24, 2]
SIZES: dict[str, Any] = {"vocab_size": 261, "n_positions": 24, "n_embd": 32, "n_layer": 3, "n_head": 4}
MINIATURES: dict[str, DecoderConfig] = {
    "gpt2": GPT2Config(**SIZES, n_inner=48, layer_norm_epsilon=1e-3),
    **ROTARY_MINIATURES,
}


def another(value: Any) -> Any:
    """Another value of a field."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, Rope) or value is None:
        return Rope(theta=77.0)
    if isinstance(value, tuple):
        return (*value, 7)
    return value * 2 + type(value)(1)


@pytest.fixture(params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture
def config(family: Family) -> DecoderConfig:
    return MINIATURES[family.model_type]


def random_texts(config: DecoderConfig, lengths: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(config.vocab_size, (length,), generator=generator) for length in lengths]


def test_every_family_has_a_miniature() -> None:
    assert set(MINIATURES) == set(FAMILIES)
    for model_type, config in MINIATURES.items():
        assert FAMILIES[model_type].model_type == config.model_type == model_type
        assert family_of(config) is FAMILIES[model_type]


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_transformers(family: Family, config: DecoderConfig, tied: bool) -> None:
    decoder = random_decoder(replace(config, tied=tied), torch.float32)
    content = family.write_config(decoder.config)
    twin = twin_of(content)
    missing, unknown = twin.load_state_dict(family.to_published(decoder.state_dict()), strict=False)
    assert not unknown
    assert set(missing) <= {"lm_head.weight", "decoder.weight"}
    twin.tie_weights()
    texts = random_texts(config, LENGTHS)
    ours = decoder.logits(decoder(torch.cat(texts), Packing(LENGTHS)))
    theirs = torch.cat([twin(text[None]).logits[0] for text in texts])
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("causal", [True, False])
def test_a_block_at_one_token_is_the_full_block_there(config: DecoderConfig, causal: bool) -> None:
    decoder, packing = random_decoder(config), Packing(LENGTHS)
    x = decoder.embed(torch.cat(random_texts(config, LENGTHS)), packing.positions)
    for position in (torch.zeros_like(packing.lengths), packing.lengths // 2, packing.lengths - 1):
        for block in decoder.blocks:
            at_token = block.forward_at(x, packing, position, causal)
            torch.testing.assert_close(
                at_token, Block.forward_at(block, x, packing, position, causal), atol=1e-9, rtol=0
            )


@pytest.mark.parametrize("steps", [[24], [1] * 24, [5, 1, 14, 4]], ids=str)
def test_extending_a_text_equals_the_forward_pass(config: DecoderConfig, steps: list[int]) -> None:
    decoder, cache = random_decoder(config), KeyValues(config.n_layer)
    (text,) = random_texts(config, [24])
    hidden = [decoder.extend(text[start:end], cache) for start, end in pairwise(accumulate(steps, initial=0))]
    assert cache.n_tokens == 24
    torch.testing.assert_close(torch.cat(hidden), decoder(text, Packing([24])), atol=1e-9, rtol=0)


def test_a_fork_does_not_change_the_cache(config: DecoderConfig) -> None:
    decoder, cache = random_decoder(config), KeyValues(config.n_layer)
    start, one, other = random_texts(config, [6, 4, 3])
    decoder.extend(start, cache)
    decoder.extend(one, cache.fork())
    expected = decoder(torch.cat((start, other)), Packing([9]))[6:]
    torch.testing.assert_close(decoder.extend(other, cache.fork()), expected, atol=1e-9, rtol=0)
    assert cache.n_tokens == 6


def test_a_folder_loads_as_the_decoder_that_was_written(config: DecoderConfig, tmp_path: Path) -> None:
    decoder = random_decoder(config, torch.float32)
    folder = write_folder(tmp_path, decoder)
    assert read_config(folder / "config.json")[0] == config
    loaded = load_backbone(str(folder)).decoder
    assert type(loaded) is type(decoder)
    assert loaded.state_dict().keys() == decoder.state_dict().keys()
    assert all(torch.equal(tensor, decoder.state_dict()[name]) for name, tensor in loaded.state_dict().items())


def test_a_classifier_on_it_is_saved_and_loaded(family: Family, config: DecoderConfig, tmp_path: Path) -> None:
    classifier = classifier_of(random_decoder(config, torch.float32))
    (tmp_path / "run").mkdir()
    save_classifier(tmp_path / "run", classifier, small_tokenizer())
    loaded, tokenizer = load_classifier(tmp_path / "run")
    assert loaded.decoder.config == config.without_lm_head()
    assert tokenizer.end_of_text == small_tokenizer().end_of_text
    text = torch.cat(random_texts(config, LENGTHS))
    with torch.no_grad():
        assert torch.equal(loaded(text, Packing(LENGTHS)), classifier(text, Packing(LENGTHS)))


def test_the_tensor_names_of_files_and_modules_are_each_others_inverse(family: Family, config: DecoderConfig) -> None:
    state = random_decoder(replace(config, tied=False), torch.float32).state_dict()
    back = family.from_published(family.to_published(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in back.items())
    assert not any(family.not_weights.search(name) for name in family.to_published(state))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_matrices_in_16_bits_stay_so_and_give_what_float32_copies_give(
    config: DecoderConfig, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "SMALL_BYTES", 0)  # miniatures count as large
    family = family_of(config)
    published = family.to_published(random_decoder(replace(config, tied=False), torch.float32).state_dict())
    folder = write_folder(tmp_path, random_decoder(replace(config, tied=False), torch.float32))
    write_tensor_file(folder / "model.safetensors", {name: tensor.to(dtype) for name, tensor in published.items()})
    mapped, float32 = load_backbone(str(folder)).decoder, load_backbone(str(folder)).decoder.float()
    is_matrix = {name: tensor.dim() > 1 for name, tensor in mapped.state_dict().items()}
    assert {name: tensor.dtype == dtype for name, tensor in mapped.state_dict().items()} == is_matrix
    packing, position = Packing(LENGTHS), torch.tensor(LENGTHS) // 2
    ids = torch.cat(random_texts(config, LENGTHS))
    results = []
    for decoder in (mapped, float32):
        x = decoder.embed(ids, packing.positions)
        at_token = decoder.blocks[0].forward_at(x, packing, position, True)
        extended = decoder.extend(ids[:5], KeyValues(config.n_layer))
        results.append([at_token, extended, decoder(ids, packing), decoder.logits(decoder(ids, packing))])
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


@pytest.mark.parametrize("read", ["mean", "last+mean"])
@pytest.mark.parametrize("train_blocks", ["head", "1", "all"])
@torch.no_grad()
def test_a_mean_is_over_the_tokens_inside_the_frame(config: DecoderConfig, read: str, train_blocks: str) -> None:
    frame, lengths = ((7, 8, 9), (5, 6)), [5, 9, 24, 6, 9]
    classifier = classifier_of(random_decoder(config), read=read, train_blocks=train_blocks, frame=frame)
    texts = random_texts(config, lengths)
    hidden = [classifier.decoder(text, Packing([len(text)])) for text in texts]  # each by itself
    means = torch.stack([text[3:-2].mean(0) if len(text) > 5 else text.mean(0) for text in hidden])
    last = torch.stack([text[-1] for text in hidden])
    expected = classifier.head.double()(torch.cat((last, means), dim=1) if read == "last+mean" else means)
    packed, packing = torch.cat(texts), Packing(lengths)
    torch.testing.assert_close(classifier(packed, packing), expected, atol=1e-9, rtol=0)
    embedded = classifier.decoder.embed(packed, packing.positions)
    torch.testing.assert_close(classifier.read_embedded(embedded, packing), expected, atol=1e-9, rtol=0)


def test_the_fingerprint_and_the_key_of_features_change_with_every_field(config: DecoderConfig) -> None:
    decoder = random_decoder(config, torch.float32)
    fingerprint, key = decoder.fingerprint(), trunk_hash(classifier_of(decoder))
    assert fingerprint["model_type"] == config.model_type, "two architectures may have the same fields"
    for field in fields(config):
        value = getattr(config, field.name)
        other = replace(config, **{field.name: another(value)})
        decoder.config = other
        assert decoder.fingerprint() != fingerprint, field.name
        decoder.config = replace(config, **{field.name: value})
        assert decoder.fingerprint() == fingerprint, field.name
        if field.name not in ("n_layer", "n_positions"):  # they say which blocks are the trunk, and what fits
            decoder.config = other
            assert trunk_hash(classifier_of(decoder)) != key, field.name
            decoder.config = config


def test_lora_of_all_its_matrices_trains_like_the_sum_of_weights_and_updates(
    family: Family, config: DecoderConfig
) -> None:
    assert set(family.matrices) <= set(WORDS)
    layers = [module for module in random_decoder(config).blocks[-1].modules() if isinstance(module, nn.Linear)]
    assert len(layers) == len(family.matrices), "every linear layer of a block has a word"
    lora = LoraConfig(rank=2, alpha=4.0, blocks=2, matrices=tuple(family.matrices))
    start, bare = (classifier_of(random_decoder(config), lora=each, seed=7) for each in (lora, None))
    losses, weights = train_plainly(start, bare, settings_of(epochs=1))
    assert losses_of(start, settings_of(epochs=1)) == pytest.approx(losses, rel=0, abs=1e-9)
    start.merge()
    for name, parameter in start.named_parameters():
        torch.testing.assert_close(parameter, weights[name], atol=1e-9, rtol=0, msg=name)


def test_the_front_can_be_shared_and_nothing_else_is(config: DecoderConfig) -> None:
    lead, other = random_decoder(config), random_decoder(config, seed=2)
    own = {name: tensor.data_ptr() for name, tensor in other.named_parameters()}
    other.share_front(lead, 2)
    shared = {name for name, tensor in other.named_parameters() if tensor.data_ptr() != own[name]}
    assert shared == set(lead.front_tensors(2))
    theirs = dict(lead.named_parameters())
    assert all(other.get_parameter(name) is theirs[name] for name in shared)
    with_norm = set(lead.front_tensors(2, with_final_norm=True)) - shared
    assert with_norm
    assert all(name.startswith(lead.FINAL_NORM) for name in with_norm)
    with torch.no_grad():
        for embedding in lead.embeddings:
            for parameter in embedding.parameters():
                parameter.zero_()
    assert not other.embed(torch.tensor([3]), torch.tensor([0])).any(), "`EMBEDDINGS` names all that `embed` reads"


def test_exports_find_the_bias_that_the_family_names_or_say_what_to_do(family: Family, config: DecoderConfig) -> None:
    decoder = random_decoder(config, torch.float32)
    predictor = Predictor(classifier_of(decoder), small_tokenizer())
    without_bias = Predictor(classifier_of(decoder, head_bias=False), small_tokenizer())
    if family.final_bias is not None:
        check_exportable(predictor)
        assert decoder.get_parameter(family.final_bias).shape == (config.n_embd,)
        return
    if family.classifier_architecture is not None:
        check_exportable(without_bias)
        with pytest.raises(SettingsError, match=rf"{family.title}.*--no-head-bias.*--to onnx"):
            check_exportable(predictor)
        return
    for each in (predictor, without_bias):
        with pytest.raises(SettingsError, match=rf"{family.title}.*--to onnx"):
            check_exportable(each)


FAMILY_WORDS = re.compile(
    r"\b(wte|wpe|c_attn|c_proj|c_fc|ln_f|ln_1|ln_2|gelu|GELU|GPT2\w*)\b|backbone\.gpt2|model_type"
)


def test_the_words_of_a_family_stay_in_the_backbone_package() -> None:
    files = [path for path in SOURCE.rglob("*.py") if SOURCE / "backbone" not in path.parents]
    assert len(files) > 50
    places = [
        f"{path.relative_to(SOURCE)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if FAMILY_WORDS.search(line)
    ]
    assert not places, "\n".join(places)
