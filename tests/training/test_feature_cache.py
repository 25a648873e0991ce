"""The feature cache: which entries it keeps, which it does not trust, and that losing it costs only time."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniature import classifier_of, labels_of, plain_settings, random_encoded, random_gpt
from torch import Tensor

from lasttoken.classifier.classifier import Classifier
from lasttoken.classifier.encoding import Encoded
from lasttoken.core.device import CPU, Device
from lasttoken.core.errors import StorageError
from lasttoken.training import feature_cache
from lasttoken.training.feature_cache import FeatureCache, FeatureFile, entry_key
from lasttoken.training.features import FeatureSource, LiveFeatures, StoredFeatures, TrunkPass, trunk_hash
from lasttoken.training.loop import Trainer, TrainingInputs
from lasttoken.training.split_features import SplitFeatures

LIMIT = 10**9
TEXTS = random_encoded(20)
C = 32
TEXTS_BYTES = TEXTS.n_tokens * C * 4


def trunk_pass(cache: FeatureCache | None, said: list[str] | None = None, **changes: Any) -> TrunkPass:
    say = pytest.fail if said is None else said.append
    return TrunkPass(classifier_of(random_gpt(n_embd=C), **changes), CPU, cache=cache, say=say)


def content(source: FeatureSource) -> Tensor:
    return source.batch(list(range(len(source.encoded))))[0]


def entries(cache: FeatureCache) -> set[str]:
    return {path.name for path in cache.folder.iterdir()} if cache.folder.is_dir() else set()


def losses(source: FeatureSource, classifier: Classifier) -> list[float]:
    """The validation losses of a short training."""
    splits = {name: SplitFeatures(source, labels_of(source.encoded)) for name in ("train", "validation")}
    outcome = Trainer(classifier, TrainingInputs(splits, plain_settings(eval_every=1), CPU)).run()
    return [line["validation_loss"] for line in outcome.history]


@pytest.fixture
def trunk_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of texts whenever a trunk runs."""
    calls: list[int] = []
    trunk = Classifier.trunk

    def counted(self: Classifier, token_ids: Tensor, packing: Any) -> Tensor:
        calls.append(packing.n_texts)
        return trunk(self, token_ids, packing)

    monkeypatch.setattr(Classifier, "trunk", counted)
    return calls


@pytest.mark.parametrize("blocks", ["head", "1", "3"])
def test_a_second_run_reads_the_entry_and_does_not_run_the_trunk(blocks: str, trunk_calls: list[int]) -> None:
    first = trunk_pass(FeatureCache(LIMIT), train_blocks=blocks).source(TEXTS, "train")
    assert sum(trunk_calls) == len(TEXTS)
    trunk_calls.clear()
    n_tokens_done: list[int] = []
    again = trunk_pass(FeatureCache(LIMIT), train_blocks=blocks).source(TEXTS, "train", n_tokens_done.append)
    assert isinstance(again, StoredFeatures)
    assert isinstance(again.array, FeatureFile)
    assert not trunk_calls
    assert sum(n_tokens_done) == TEXTS.n_tokens
    assert torch.equal(content(again), content(first))
    assert len(content(again)) == (len(TEXTS) if blocks == "head" else TEXTS.n_tokens)


def key_of(device: Device = CPU, texts: Encoded = TEXTS, classifier: Classifier | None = None, **changes: Any) -> str:
    return entry_key(trunk_hash(classifier or classifier_of(random_gpt(n_embd=C), **changes)), texts, device)


def other_tensor() -> Classifier:
    classifier = classifier_of(random_gpt(n_embd=C))
    with torch.no_grad():
        classifier.decoder.get_parameter("h.1.mlp.c_proj.bias")[5] += 1e-6
    return classifier


def other_shape(**changes: Any) -> Classifier:
    gpt = random_gpt(n_embd=C)
    blocks = random_gpt(n_embd=C, **{name: value for name, value in changes.items() if name == "n_head"})
    blocks.load_state_dict(gpt.state_dict())
    blocks.config = replace(gpt.config, **changes)
    return classifier_of(blocks)


def reordered() -> Encoded:
    """The same texts, the last one first."""
    start = int(TEXTS.offsets[-2])
    return replace(TEXTS, token_ids=np.roll(TEXTS.token_ids, TEXTS.n_tokens - start), lengths=np.roll(TEXTS.lengths, 1))


def other_borders() -> Encoded:
    """The same token ids end to end, cut into texts at another place."""
    lengths = TEXTS.lengths.copy()
    lengths[:2] = lengths[:2].sum() - 1, 1
    return replace(TEXTS, lengths=lengths)


def padded() -> Encoded:
    last = np.append(TEXTS.token_ids, np.int32(3))
    return replace(TEXTS, token_ids=last, lengths=TEXTS.lengths + (np.arange(len(TEXTS)) == len(TEXTS) - 1))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: key_of(texts=reordered()), id="order of the texts"),
        pytest.param(lambda: key_of(texts=other_borders()), id="borders of the texts"),
        pytest.param(lambda: key_of(texts=padded()), id="padding"),
        pytest.param(lambda: key_of(classifier=other_tensor()), id="a trunk tensor"),
        pytest.param(lambda: key_of(classifier=other_shape(n_head=8)), id="heads"),
        pytest.param(lambda: key_of(classifier=other_shape(layer_norm_epsilon=1e-6)), id="epsilon"),
        pytest.param(lambda: key_of(classifier=classifier_of(random_gpt(n_embd=C).double())), id="dtype"),
        pytest.param(lambda: key_of(train_blocks="2"), id="k"),
        pytest.param(lambda: key_of(causal_mask=False), id="causal mask"),
        pytest.param(lambda: key_of(Device(torch.device("cpu"), "bfloat16")), id="precision"),
        pytest.param(lambda: key_of(Device(torch.device("cuda"), "float32")), id="device kind"),
    ],
)
def test_the_key_changes_with_everything_that_features_depend_on(make: Callable[[], str]) -> None:
    assert make() != key_of()


@pytest.mark.parametrize(("where", "name"), [(torch, "__version__"), (feature_cache, "FORMAT")])
def test_the_key_changes_with_the_versions(where: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of()
    monkeypatch.setattr(where, name, "99")
    assert key_of() != before


def age(cache: FeatureCache, key: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(cache.folder / key / "features.bin", (then, then))


def test_the_least_recently_used_entry_is_dropped_first_and_no_more_than_needed() -> None:
    texts = [random_encoded(20, 12, uniform=True, seed=seed) for seed in range(4)]
    n_bytes = texts[0].n_tokens * C * 4
    keys = [key_of(texts=each) for each in texts]
    for each in texts[:3]:
        trunk_pass(FeatureCache(3 * n_bytes)).source(each, "train")
    for key, seconds in zip(keys, (300, 200, 100), strict=False):
        age(FeatureCache(), key, seconds)
    trunk_pass(FeatureCache(3 * n_bytes)).source(texts[0], "train")  # read again, so the youngest now
    trunk_pass(FeatureCache(3 * n_bytes), []).source(texts[3], "train")
    assert entries(FeatureCache()) == {keys[0], keys[2], keys[3]}


def test_an_entry_that_this_run_reads_is_not_dropped_and_a_split_that_does_not_fit_is_computed_live() -> None:
    train, validation = (random_encoded(20, 12, uniform=True, seed=seed) for seed in (1, 2))
    said: list[str] = []
    trunk = trunk_pass(FeatureCache(int(1.5 * train.n_tokens * C * 4)), said)
    held = trunk.source(train, "train")
    age(FeatureCache(), key_of(texts=train), 10_000)
    second = trunk.source(validation, "validation")
    assert isinstance(held, StoredFeatures)
    assert isinstance(second, LiveFeatures)
    assert entries(FeatureCache()) == {key_of(texts=train)}
    assert len(said) == 1
    assert f"features of validation ({validation.n_tokens * C * 4:,} bytes) are not kept" in said[0]
    assert "--cache-limit" in said[0]


def test_entries_that_the_run_does_not_read_are_dropped_first_even_if_they_are_younger() -> None:
    texts = [random_encoded(20, 12, uniform=True, seed=seed) for seed in range(3)]
    keys = [key_of(texts=each) for each in texts]
    n_bytes = texts[0].n_tokens * C * 4
    trunk_pass(FeatureCache(2 * n_bytes)).source(texts[1], "an earlier run's")
    trunk = trunk_pass(FeatureCache(2 * n_bytes), [])
    held = trunk.source(texts[0], "train")
    expected = content(held)
    age(FeatureCache(), keys[0], 10_000)
    trunk.source(texts[2], "validation")
    assert entries(FeatureCache()) == {keys[0], keys[2]}
    assert torch.equal(content(held), expected)


def test_a_limit_that_is_too_small_is_reported_and_does_not_change_the_losses() -> None:
    said: list[str] = []
    live = trunk_pass(FeatureCache(TEXTS_BYTES - 1), said)
    stored = trunk_pass(FeatureCache(TEXTS_BYTES))
    sources = live.source(TEXTS, "train"), stored.source(TEXTS, "train")
    assert [type(source) for source in sources] == [LiveFeatures, StoredFeatures]
    (sentence,) = said
    for named in ("train", f"{TEXTS_BYTES:,} bytes", f"--cache-limit is {TEXTS_BYTES - 1:,} bytes"):
        assert named in sentence
    both = [losses(source, trunk.classifier) for source, trunk in zip(sources, (live, stored), strict=True)]
    assert both[0] == pytest.approx(both[1], abs=1e-5)
    assert both[0][0] != pytest.approx(both[0][-1], abs=1e-3)


def test_a_file_that_is_truncated_while_it_is_read_is_an_error() -> None:
    cache = FeatureCache(LIMIT)
    source = trunk_pass(cache).source(TEXTS, "train")
    (path,) = cache.folder.glob("*/features.bin")
    with path.open("r+b") as file:
        file.truncate(16)
    with pytest.raises(StorageError, match=r"features\.bin was truncated"):
        content(source)


def test_dropped_entries_are_reported() -> None:
    said: list[str] = []
    trunk_pass(FeatureCache(LIMIT)).source(TEXTS, "an earlier run's")
    other = random_encoded(7, seed=5)
    n_bytes = other.n_tokens * C * 4
    trunk_pass(FeatureCache(max(n_bytes, TEXTS_BYTES)), said).source(other, "train")
    assert len(said) == 1
    assert f"{TEXTS_BYTES:,} bytes" in said[0]


def test_half_a_gigabyte_of_the_disk_stays_free(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(feature_cache, "free_bytes", lambda path: feature_cache.SPARE_BYTES + TEXTS_BYTES - 1)
    assert isinstance(trunk_pass(FeatureCache(LIMIT), said).source(TEXTS, "train"), LiveFeatures)
    monkeypatch.setattr(feature_cache, "free_bytes", lambda path: feature_cache.SPARE_BYTES + TEXTS_BYTES)
    assert isinstance(trunk_pass(FeatureCache(LIMIT)).source(TEXTS, "train"), StoredFeatures)
    assert len(said) == 1


def test_the_default_limit_is_a_quarter_of_the_free_disk_and_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    trunk_pass(FeatureCache(LIMIT)).source(TEXTS, "train")
    monkeypatch.setattr(feature_cache, "free_bytes", lambda path: 4 * 10**9 - TEXTS_BYTES)
    assert FeatureCache().limit_bytes() == 10**9
    monkeypatch.setattr(feature_cache, "free_bytes", lambda path: 10**15)
    assert FeatureCache().limit_bytes() == feature_cache.LARGEST_DEFAULT_LIMIT


def cut_short(entry: Path) -> None:
    os.truncate(entry / "features.bin", TEXTS_BYTES - 4)


def grow(entry: Path) -> None:
    os.truncate(entry / "features.bin", TEXTS_BYTES + 4)


def lose_meta(entry: Path) -> None:
    (entry / "meta.json").unlink()


def truncate_meta(entry: Path) -> None:
    (entry / "meta.json").write_text('{"format": 1, "sh')


def change_meta(entry: Path) -> None:
    (entry / "meta.json").write_text(json.dumps({"format": 1, "shape": [TEXTS.n_tokens - 1, C]}))


def list_meta(entry: Path) -> None:
    (entry / "meta.json").write_text("[]")


def lose_features(entry: Path) -> None:
    (entry / "features.bin").unlink()


@pytest.mark.parametrize("damage", [cut_short, grow, lose_meta, truncate_meta, change_meta, list_meta, lose_features])
def test_a_damaged_entry_is_computed_again(damage: Callable[[Path], None], trunk_calls: list[int]) -> None:
    cache = FeatureCache(LIMIT)
    expected = content(trunk_pass(cache).source(TEXTS, "train"))
    damage(cache.folder / key_of())
    trunk_calls.clear()
    source = trunk_pass(FeatureCache(LIMIT)).source(TEXTS, "train")
    assert isinstance(source, StoredFeatures)
    assert sum(trunk_calls) == len(TEXTS)
    assert torch.equal(content(source), expected)
    assert (cache.folder / key_of() / "features.bin").stat().st_size == TEXTS_BYTES


def flip_a_bit(stored: bytearray) -> None:
    stored[len(stored) // 2] ^= 1


def zero_a_part(stored: bytearray) -> None:
    stored[256:512] = bytes(256)


def swap_rows(stored: bytearray) -> None:
    row = C * 4
    stored[:row], stored[row : 2 * row] = stored[row : 2 * row], stored[:row]


def end_in_zeros(stored: bytearray) -> None:
    stored[-4:] = bytes(4)


@pytest.mark.parametrize("change", [flip_a_bit, zero_a_part, swap_rows, end_in_zeros])
def test_an_entry_whose_bytes_have_changed_is_computed_again_and_reported(
    change: Callable[[bytearray], None], trunk_calls: list[int]
) -> None:
    expected = content(trunk_pass(FeatureCache(LIMIT)).source(TEXTS, "train"))
    file = FeatureCache().folder / key_of() / "features.bin"
    stored = bytearray(file.read_bytes())
    change(stored)
    file.write_bytes(stored)
    trunk_calls.clear()
    said: list[str] = []
    source = trunk_pass(FeatureCache(LIMIT), said).source(TEXTS, "train")
    assert torch.equal(content(source), expected)
    assert isinstance(source, StoredFeatures)
    assert sum(trunk_calls) == len(TEXTS)
    assert len(said) == 1
    assert key_of() in said[0]
    again = trunk_pass(FeatureCache(LIMIT)).source(TEXTS, "train")
    assert torch.equal(content(again), expected)
    assert sum(trunk_calls) == len(TEXTS)


def test_an_entry_without_a_checksum_counts_as_absent(trunk_calls: list[int]) -> None:
    trunk_pass(FeatureCache(LIMIT)).source(TEXTS, "train")
    meta = FeatureCache().folder / key_of() / "meta.json"
    meta.write_text(json.dumps({"format": 1, "shape": [TEXTS.n_tokens, C]}))
    trunk_calls.clear()
    trunk_pass(FeatureCache(LIMIT)).source(TEXTS, "train")
    assert sum(trunk_calls) == len(TEXTS)
    assert json.loads(meta.read_text())["crc32"]


def test_a_disk_that_fails_while_a_split_is_stored_costs_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    said: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing)
        source = trunk_pass(FeatureCache(LIMIT), said).source(TEXTS, "train")
    assert isinstance(source, LiveFeatures)
    assert len(said) == 1
    assert entries(FeatureCache()) == set()


def test_a_disk_that_fills_up_while_writing_leaves_nothing_and_training_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = {"bytes": 0}

    class SmallDisk(io.FileIO):
        def write(self, data: Any) -> int:
            written["bytes"] += memoryview(data).nbytes
            if written["bytes"] > TEXTS_BYTES // 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    path_open = Path.open

    def opened(self: Path, mode: str = "r", *args: Any, **more: Any) -> Any:
        return SmallDisk(self, mode) if self.name == "features.bin" else path_open(self, mode, *args, **more)

    said: list[str] = []
    cache = FeatureCache(LIMIT)
    trunk = trunk_pass(cache, said)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", opened)
        source = trunk.source(TEXTS, "train")
    assert isinstance(source, LiveFeatures)
    assert written["bytes"] > 0
    assert entries(cache) == set()
    assert len(said) == 1
    assert "the disk is full" in said[0]
    assert "the trunk runs for every batch" in said[0]
    kept = trunk_pass(FeatureCache(LIMIT))
    assert losses(source, trunk.classifier) == pytest.approx(
        losses(kept.source(TEXTS, "train"), kept.classifier), abs=1e-5
    )


def test_a_cache_that_cannot_be_created_is_reported_and_training_goes_on(own_cache: Path) -> None:
    (own_cache / "features").write_text("a file where the folder would be")
    said: list[str] = []
    assert isinstance(trunk_pass(FeatureCache(LIMIT), said).source(TEXTS, "train"), LiveFeatures)
    assert len(said) == 1
    assert "features" in said[0]


def test_only_the_owner_can_read_the_cache() -> None:
    cache = FeatureCache(LIMIT)
    trunk_pass(cache).source(TEXTS, "train")
    for folder in (cache.folder, cache.folder / key_of()):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_writers_of_one_entry_at_the_same_time_all_get_it_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(3)
    run = TrunkPass.run

    def run_together(*args: Any) -> None:
        together.wait(timeout=30)
        run(*args)
        together.wait(timeout=30)

    said: list[str] = []
    with monkeypatch.context() as patched, ThreadPoolExecutor(3) as pool:
        patched.setattr(TrunkPass, "run", run_together)
        passes = [trunk_pass(FeatureCache(LIMIT), said) for _ in range(3)]
        sources = list(pool.map(lambda trunk: trunk.source(TEXTS, "train"), passes))
    assert not said
    assert [type(source) for source in sources] == [StoredFeatures] * 3
    expected = content(trunk_pass(None).source(TEXTS, "train"))
    assert all(torch.equal(content(source), expected) for source in sources)
    assert entries(FeatureCache()) == {key_of()}


def test_an_entry_that_another_process_drops_between_looking_and_reading_is_computed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = FeatureCache(LIMIT)
    trunk_pass(cache).source(TEXTS, "train")
    utime = os.utime

    def dropped_before(path: Path) -> None:
        monkeypatch.setattr(os, "utime", utime)
        shutil.rmtree(path.parent)
        utime(path)

    monkeypatch.setattr(os, "utime", dropped_before)
    source = trunk_pass(FeatureCache(LIMIT)).source(TEXTS, "train")
    assert isinstance(source, StoredFeatures)


def test_leftovers_of_killed_processes_are_removed_after_a_day_and_never_read() -> None:
    cache = FeatureCache(LIMIT)
    old, young = (cache.folder / f"{key_of()}.tmp-1-{name}" for name in ("old", "young"))
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "features.bin").write_bytes(b"\0" * TEXTS_BYTES)
    then = time.time() - 25 * 3600
    os.utime(old, (then, then))
    source = trunk_pass(cache).source(TEXTS, "train")
    assert entries(cache) == {key_of(), young.name}
    assert content(source).any()
