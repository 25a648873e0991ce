"""Checkpoint files in every form they are published in, and in every way they can be wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from miniature import published_tensors, random_gpt, write_backbone
from safetensors.torch import save, save_file
from torch import Tensor

from lasttoken.backbone.gpt2.network import GPT2
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.backbone.weights import (
    PREFIX,
    build_gpt,
    check_finite,
    from_published,
    read_gpt_config,
    read_tensor_files,
    to_published,
    write_gpt_config,
    write_tensor_file,
)
from lasttoken.core.errors import BackboneError

Tensors = dict[str, Tensor]


def load(folder: Path) -> GPT2:
    config, _ = read_gpt_config(folder / "config.json")
    return build_gpt(config, from_published(read_tensor_files(folder)), folder)


def assert_same_weights(found: GPT2, expected: GPT2) -> None:
    assert found.config == expected.config
    theirs = expected.state_dict()
    assert found.state_dict().keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in found.state_dict().items())


def without_prefix(tensors: Tensors) -> Tensors:
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def with_lm_head(tensors: Tensors) -> Tensors:
    return {**tensors, "lm_head.weight": tensors[f"{PREFIX}wte.weight"].clone()}


def with_buffers(tensors: Tensors) -> Tensors:
    """The causal masks that transformers 4 and earlier wrote along."""
    masks = {}
    for layer in range(3):
        masks[f"{PREFIX}h.{layer}.attn.bias"] = torch.ones(1, 1, 32, 32).tril()
        masks[f"{PREFIX}h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    return {**tensors, **masks}


@pytest.mark.parametrize(
    "forms",
    [
        (),
        (without_prefix,),
        (with_lm_head,),
        (with_buffers,),
        (with_buffers, without_prefix),  # as openai-community/gpt2 is published
        (with_buffers, with_lm_head, without_prefix),
    ],
    ids=lambda forms: "+".join(form.__name__ for form in forms) or "plain",
)
@pytest.mark.parametrize("n_shards", [0, 1, 3], ids=["single", "one-shard", "three-shards"])
def test_every_published_form_gives_the_same_weights(
    forms: tuple[Callable[[Tensors], Tensors], ...], n_shards: int, tmp_path: Path
) -> None:
    gpt = random_gpt()
    tensors = published_tensors(gpt)
    for form in forms:
        tensors = form(tensors)
    write_backbone(tmp_path, gpt, tensors=tensors)
    if n_shards:
        write_shards(tmp_path, tensors, n_shards)
    assert_same_weights(load(tmp_path), gpt)


def write_shards(folder: Path, tensors: Tensors, n: int) -> None:
    """In place of model.safetensors."""
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    files = [f"model-{at + 1:05d}-of-{n:05d}.safetensors" for at in range(n)]
    for at, file in enumerate(files):
        save_file({name: tensors[name] for name in names[at::n]}, folder / file)
    index = {"metadata": {}, "weight_map": {name: files[at % n] for at, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    "shape",
    [
        {"vocab_size": 301, "n_positions": 7, "n_embd": 6, "n_layer": 1, "n_head": 3},
        {"n_embd": 5, "n_head": 5, "n_inner": 13},
        {"n_layer": 12, "n_head": 1},
        {"tied": False},
    ],
    ids=lambda shape: "-".join(shape),
)
def test_any_size_is_accepted(shape: dict[str, Any], tmp_path: Path) -> None:
    gpt = random_gpt(**shape)
    assert_same_weights(load(write_backbone(tmp_path, gpt)), gpt)


def test_what_is_loaded_is_frozen_and_owns_no_second_copy() -> None:
    given = random_gpt().state_dict()
    gpt = build_gpt(random_gpt().config, given, Path("x"))
    assert not gpt.training
    assert not any(parameter.requires_grad for parameter in gpt.parameters())
    assert gpt.wte.weight.data_ptr() == given["wte.weight"].data_ptr()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_weights_of_other_number_formats_are_read_as_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    gpt = random_gpt()
    tensors = {name: tensor.to(dtype) for name, tensor in published_tensors(gpt).items()}
    found = load(write_backbone(tmp_path, gpt, tensors=tensors))
    expected = {name: tensor.to(dtype).float() for name, tensor in gpt.state_dict().items()}
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.state_dict().items())
    assert {tensor.dtype for tensor in found.state_dict().values()} == {torch.float32}


def test_our_layout_and_the_published_one_are_each_others_inverse() -> None:
    state = random_gpt(tied=False).state_dict()
    there = to_published(state)
    linear = {"attn.c_attn": (32, 96), "attn.c_proj": (32, 32), "mlp.c_fc": (32, 128), "mlp.c_proj": (128, 32)}
    assert {name: there[f"transformer.h.1.{name}.weight"].shape for name in linear} == linear, "[in, out], as published"
    assert {"transformer.wte.weight", "lm_head.weight"} <= there.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in from_published(there).items())


def test_a_tied_output_layer_in_the_file_is_ignored_and_an_untied_one_must_be_there(tmp_path: Path) -> None:
    gpt = random_gpt()
    tensors = {**published_tensors(gpt), "lm_head.weight": torch.zeros(3)}
    assert load(write_backbone(tmp_path / "tied", gpt, tensors=tensors)).lm_head is None
    untied = write_backbone(tmp_path / "untied", gpt, config={"tie_word_embeddings": False})
    with pytest.raises(BackboneError, match=r"lacks the tensors 'lm_head\.weight'"):
        load(untied)


def change(name: str, tensor: Tensor | None) -> Callable[[Tensors], None]:
    def changed(tensors: Tensors) -> None:
        if tensor is None:
            del tensors[name]
        else:
            tensors[name] = tensor

    return changed


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (change("transformer.ln_f.bias", None), r"lacks the tensors 'ln_f\.bias'"),
        (change("transformer.h.2.mlp.c_fc.weight", None), r"lacks the tensors 'h\.2\.mlp\.c_fc\.weight'"),
        (change("transformer.h.1.ln_3.weight", torch.ones(32)), r"no GPT-2 has: 'h\.1\.ln_3\.weight'"),
        (change("transformer.h.3.ln_1.weight", torch.ones(32)), r"no GPT-2 has: 'h\.3\.ln_1\.weight'"),
        (change("score.weight", torch.ones(2, 32)), r"no GPT-2 has: 'score\.weight'"),
        (change("transformer.wte.weight", torch.ones(50, 32)), r"wte\.weight has shape \(50, 32\).*\(261, 32\)"),
        (
            change("transformer.h.0.attn.c_attn.weight", torch.ones(96, 32)),  # [out, in] in place of [in, out]
            r"h\.0\.attn\.c_attn\.weight has shape \(32, 96\).*\(96, 32\)",
        ),
        (
            change("transformer.h.0.mlp.c_fc.weight", torch.ones(1, 32, 128)),
            r"h\.0\.mlp\.c_fc\.weight has shape \(1, 32, 128\)",
        ),
        (change("transformer.h.0.attn.c_proj.weight", torch.tensor(1.0)), r"c_proj\.weight has shape \(\)"),
        (
            change("transformer.wpe.weight", torch.ones(32, 32, dtype=torch.int8)),
            r"wpe\.weight is of type torch\.int8",
        ),
    ],
    ids=[
        "missing",
        "missing-linear",
        "unknown",
        "block-too-many",
        "score",
        "shape",
        "transposed",
        "3d",
        "0d",
        "integers",
    ],
)
def test_a_tensor_that_does_not_belong_is_named(
    damage: Callable[[Tensors], None], sentence: str, tmp_path: Path
) -> None:
    tensors = published_tensors(random_gpt())
    damage(tensors)
    with pytest.raises(BackboneError, match=sentence):
        load(write_backbone(tmp_path, tensors=tensors))


def test_missing_tensors_beyond_a_dozen_are_counted(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"'h\.3\.attn\.c_attn\.bias'.*and 12 more.*config\.json"):
        load(write_backbone(tmp_path, config={"n_layer": 5}))


def test_more_blocks_than_the_file_has_tensors_are_refused_before_they_are_laid_out(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"holds 40 tensors, too few for the 2,000 blocks"):
        load(write_backbone(tmp_path, config={"n_layer": 2_000}))


WHOLE = save({"wte.weight": torch.ones(4, 4), "wpe.weight": torch.ones(4, 4)})
HEADER = 8 + int.from_bytes(WHOLE[:8], "little")


TORN = {
    "empty": b"",
    "7-bytes": WHOLE[:7],
    "length-only": WHOLE[:8],
    "cut-header": WHOLE[: HEADER - 1],
    "header-only": WHOLE[:HEADER],
    "one-byte-short": WHOLE[:-1],
    "one-byte-more": WHOLE + b"\0",
    "zeros": bytes(len(WHOLE)),
    "ones": b"\xff" * len(WHOLE),
    "random": random.Random(4).randbytes(len(WHOLE)),
    "html": b"<!doctype html><title>429 Too Many Requests</title>" * 20,
    "lfs-pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 548105171\n",
}


@pytest.mark.parametrize("content", TORN.values(), ids=TORN)
@pytest.mark.parametrize("sharded", [False, True], ids=["single", "shard"])
def test_a_torn_file_is_named_with_its_size(content: bytes, sharded: bool, tmp_path: Path) -> None:
    name = "model-1.safetensors" if sharded else "model.safetensors"
    (tmp_path / name).write_bytes(content)
    if sharded:
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"wte.weight": name}}))
    with pytest.raises(BackboneError) as caught:
        read_tensor_files(tmp_path)
    assert f"{tmp_path / name} ({len(content):,} bytes) is torn or not safetensors" in str(caught.value)
    assert str(caught.value).endswith("fetch it again")


def test_a_shard_that_is_absent_is_named(tmp_path: Path) -> None:
    gpt = random_gpt()
    write_shards(write_backbone(tmp_path, gpt), published_tensors(gpt), 3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(BackboneError, match=r"index\.json names the shard 'model-00002-of-00003\.safetensors'"):
        load(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "{}", '{"weight_map": 3}', '{"weight_map": {"wte": 3}}', '{"weight_map": {"wte": ["a"]}}'],
)
def test_an_index_that_is_none_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(
        BackboneError, match=r"model\.safetensors\.index\.json is not an index of shards; fetch it again"
    ):
        read_tensor_files(tmp_path)


def test_an_index_cannot_reach_out_of_its_folder(tmp_path: Path) -> None:
    save_file({"wte.weight": torch.ones(2)}, tmp_path / "outside.safetensors")
    inside = tmp_path / "inside"
    inside.mkdir()
    for name in ("../outside.safetensors", str(tmp_path / "outside.safetensors")):
        (inside / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"wte.weight": name}}))
        with pytest.raises(BackboneError, match=r"names the shard 'outside\.safetensors', which is not in .*inside"):
            read_tensor_files(inside)


def test_a_pickle_is_refused_with_the_way_to_convert_it_and_never_opened(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(BackboneError, match=r"only pytorch_model\.bin, a pickle.*save_pretrained\(folder\)"):
        read_tensor_files(tmp_path)
    save_file({"wte.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    assert read_tensor_files(tmp_path).keys() == {"wte.weight"}


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"holds no model\.safetensors and no model\.safetensors\.index\.json"):
        read_tensor_files(tmp_path)


# ---- config.json

GOOD: dict[str, Any] = write_gpt_config(random_gpt().config)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", r"config\.json cannot be read as JSON"),
        ('{"model_type": "gpt2"', r"config\.json cannot be read as JSON"),
        ("[1, 2]", r"holds a list where a JSON object is needed"),
        (json.dumps({**GOOD, "model_type": "llama"}), r"model of type 'llama'; only the gpt2 architecture"),
        (json.dumps({**GOOD, "activation_function": "relu"}), r"has activation_function = 'relu'; only 'gelu_new'"),
        (json.dumps({**GOOD, "scale_attn_weights": False}), r"has scale_attn_weights = False"),
        (json.dumps({**GOOD, "scale_attn_by_inverse_layer_idx": True}), r"has scale_attn_by_inverse_layer_idx = True"),
        (json.dumps({**GOOD, "add_cross_attention": True}), r"has add_cross_attention = True"),
        (json.dumps({**GOOD, "n_head": 5}), r"n_embd 32, which is not a multiple of n_head 5"),
        (
            json.dumps({**GOOD, "layer_norm_epsilon": "small"}),
            r"layer_norm_epsilon = 'small', which is no small number",
        ),
        (json.dumps({**GOOD, "layer_norm_epsilon": float("nan")}), r"layer_norm_epsilon = nan"),
        (json.dumps({"model_type": "gpt2"}), r"vocab_size or n_vocab as None, which is no size"),
        *(
            (json.dumps({**GOOD, name: value}), rf"gives {name}.* as .*, which is no size")
            for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner")
            for value in (0, -4, 1.5, "many", float("inf"), 10**30, [3])
        ),
    ],
)
def test_a_configuration_that_gives_no_gpt2_is_named_with_what_is_wrong(
    content: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(BackboneError, match=sentence) as caught:
        read_gpt_config(tmp_path / "config.json")
    assert str(tmp_path / "config.json") in str(caught.value)


def test_a_configuration_that_is_no_text_or_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"config\.json is missing; a backbone folder holds"):
        read_gpt_config(tmp_path / "config.json")
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BackboneError, match=r"config\.json cannot be read as JSON: 'utf-8' codec"):
        read_gpt_config(tmp_path / "config.json")


def test_old_and_sparse_configurations_are_read(tmp_path: Path) -> None:
    old = {"n_ctx": 32, "n_positions": None, "vocab_size": 261, "n_embd": 32, "n_layer": 3, "n_head": 4}
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert read_gpt_config(tmp_path / "config.json")[0] == random_gpt().config


def write_header(path: Path, header: bytes, content: bytes = b"") -> None:
    path.write_bytes(len(header).to_bytes(8, "little") + header + content)


@pytest.mark.parametrize(
    "header",
    [
        b"{" + b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % at for at in range(60_000)) + b"}",
        b"{" + b" " * 9_000_000 + b"}",
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
        b'{"a":{"dtype":"F32","shape":[1000000000,1000000000],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}}',
        b"[" * 100_000,
        b"\xff" * 40,
    ],
    ids=["many", "long", "overlap", "huge", "dtype", "negative", "deep", "bytes"],
)
def test_a_header_that_is_none_is_one_sentence(header: bytes, tmp_path: Path) -> None:
    write_header(tmp_path / "model.safetensors", header, bytes(12))
    with pytest.raises(BackboneError, match=r"model\.safetensors .* is torn or not safetensors") as caught:
        read_tensor_files(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_header_longer_than_memory_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(BackboneError, match=r"its header has 4,611,686,018,427,387,904 bytes"):
        read_tensor_files(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_not_finite_are_named(value: float, dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in published_tensors(random_gpt()).items()}
    tensors["transformer.h.1.mlp.c_fc.weight"][3, 4] = value
    write_backbone(tmp_path, tensors=tensors)
    with pytest.raises(BackboneError, match=r"h\.1\.mlp\.c_fc\.weight holds NaN or infinity"):
        load_backbone(str(tmp_path))


def test_large_finite_weights_are_weights() -> None:
    check_finite({"a": torch.full((4,), 3e38), "b": torch.full((4,), 6e4, dtype=torch.float16)}, Path("here"))


@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_bit_in_a_file_of_ours_is_found(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tensors = {"a": torch.randn(5, 7), "b": torch.randn(3).to(torch.bfloat16), "c": torch.tensor(1.5)}
    write_tensor_file(path, tensors)
    assert read_tensor_files(tmp_path).keys() == tensors.keys()
    raw = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(raw[:8], "little")
    draw = random.Random(seed)
    raw[draw.randrange(start, len(raw))] ^= 1 << draw.randrange(8)
    path.write_bytes(raw)
    with pytest.raises(BackboneError, match=r"model\.safetensors was changed: tensor (a|b|c) "):
        read_tensor_files(tmp_path)
