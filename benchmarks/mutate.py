"""Damaged and changed run directories: does loading one ever end in anything but a sentence or an answer?

    python benchmarks/mutate.py --n 2000 --seed 0

A miniature run is made once. Each mutant is a copy with one thing changed: bits flipped, bytes cut off or zeroed, a
file gone, a field of a JSON file replaced by a nasty value, removed or added, a part put into tokenizer.json. It is
loaded, asked for predictions, described and compared in a process of its own, with at most 1 GB of memory beyond what
a good run takes, and at most 10 seconds.

    sentence    a LastTokenError in one line           traceback   any other exception
    same        the answers of the run before          killed      a signal, or no memory left
    other       finite answers, other than before:     hang        over 10 seconds
                what the changed file says
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Encoder

from lasttoken.backbone.gpt2.network import GPT2, GPT2Config
from lasttoken.backbone.tokenizer import END_OF_TEXT, Tokenizer
from lasttoken.classifier.checkpoint import save_classifier
from lasttoken.classifier.classifier import Classifier, ClassifierConfig
from lasttoken.classifier.predict import Predictor
from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.documents import to_json
from lasttoken.core.errors import LastTokenError
from lasttoken.runs.compare import compare_runs
from lasttoken.runs.describe import describe

MOST_BYTES = 1_000_000_000
MOST_SECONDS = 10.0
BAD = ("traceback", "killed", "hang")
TEXTS = ["see you at 6", "", "win a prize now " * 40, END_OF_TEXT, "naïve 🙂 " + "a" * 300]
DEEP, HUGE = "@deep@", "@huge@"  # replaced in the text of a file: nesting and digits that no JSON writer would write
NASTY: list[Any] = [
    None, True, False, -1, 0, 1, 7, 2**31, 10**9, 10**18, 1e308, -0.5, 1e-320, float("nan"), float("inf"), "", "x", "0",
    "\ud83d", "\x1b[31m", "x" * 100_000, [], {}, [[]], [None], {"": None}, {"type": "x"}, DEEP, HUGE,
]  # fmt: skip
DOUBLE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
PARTS: list[tuple[str, Any]] = [
    ("normalizer", {"type": "Sequence", "normalizers": [DOUBLE] * 34}),
    ("normalizer", {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}),
    ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    ("normalizer", {"type": "Prepend", "prepend": "x" * 10**6}),
    *(("normalizer", {"type": kind}) for kind in ("NFC", "NFD", "NFKD", "Lowercase", "StripAccents", "Nmt")),
    ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(?=("}, "behavior": "Isolated", "invert": False}),
    ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(a|a)*b"}, "behavior": "Isolated", "invert": False}),
    ("pre_tokenizer", {"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated", "invert": False}),
    ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [BYTES] * 12}),
    *(("pre_tokenizer", {"type": kind}) for kind in ("Whitespace", "BertPreTokenizer", "Punctuation", "Metaspace")),
    ("decoder", {"type": "Sequence", "decoders": [DOUBLE] * 8}),
    ("post_processor", {"type": "RobertaProcessing", "sep": ["</s>", 10**9], "cls": ["<s>", -1]}),
    ("added_tokens", [{"id": 3, "content": "e", "special": False}]),
    ("added_tokens", [{"id": 10**9, "content": END_OF_TEXT, "special": True}]),
    ("truncation", {"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 10**9}),
    ("padding", {"strategy": {"Fixed": 10**12}, "direction": "Left", "pad_id": 0, "pad_type_id": 0, "pad_token": "x"}),
]
JSON_FILES = ("config.json", "metrics.json", "tokenizer.json", "model.safetensors")


def make_run(folder: Path, seed: int) -> Path:
    """A finished run of a random miniature."""
    folder.mkdir()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: token_id for token_id, token in enumerate([*alphabet, "th", "the", END_OF_TEXT])}
    encoder = Encoder(models.BPE(vocab=vocab, merges=[("t", "h"), ("th", "e")]))
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder.decoder = decoders.ByteLevel()
    encoder.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    gpt = GPT2(GPT2Config(len(vocab), 64, 32, 2, 4)).init_weights(seed)
    config = ClassifierConfig(
        labels=("ham", "spam", "eggs"),
        read="last",
        causal_mask=True,
        max_length=48,
        truncate="tail",
        train_blocks="1",
        end_of_text_id=len(vocab) - 1,
        backbone="miniature",
        temperature=1.7,
    )
    classifier = Classifier(gpt, config, seed).requires_grad_(False).eval()
    save_classifier(folder, classifier, Tokenizer(encoder))
    texts = [f"message {at}" for at in range(12)]
    labels = [config.labels[at % 3] for at in range(12)]
    rows = "".join(f"{text},{label}\n" for text, label in zip(texts, labels, strict=True))
    answers = "".join(f"{label},{config.labels[(at + seed) % 3]},0.5\n" for at, label in enumerate(labels))
    for name, content in {"splits": "text,label\n" + rows, "predictions": "label,predicted,score\n" + answers}.items():
        (folder / name).mkdir()
        (folder / name / "test.csv").write_text(content, "utf-8")
    run = RunDir(folder)
    run.write_toml({"fingerprint": "f", "settings": {"backbone": "miniature", "epochs": 2}, "versions": {"torch": "2"}})
    figures = {"n": 12, "accuracy": 0.5, "accuracy_ci95": [0.3, 0.7], "macro_f1": 0.5, "ece": 0.1, "loss": 0.7}
    verdict = {"baseline": "majority", "sentences": ["a sentence"]}
    run.write_metrics(
        {
            "splits": {"test": figures},
            "verdict": verdict,
            "warnings": [],
            "timing_s": {"tail": 1.0},
            "multi_label": False,
        }
    )
    return folder


def use(run: Path, other: Path) -> list[list[float]]:
    """What is done with a run: probabilities of the texts, its description, and a comparison with another run."""
    predictor = Predictor.load(run, "cpu")
    probs = [list(found.probs.values()) for found in predictor.predict(TEXTS)]
    to_json(describe(str(run)))
    to_json(compare_runs([run, other]).to_json())
    if not np.isfinite(np.array(probs)).all():
        raise AssertionError("an answer is NaN")
    return probs


# Mutations: each changes the copy of the run in place and says what it did -------------------------------------------


def flip_bits(path: Path, draw: random.Random) -> str:
    """One bit, or a few."""
    raw = bytearray(path.read_bytes())
    n = draw.choice((1, 1, 8))
    for _ in range(n):
        raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
    path.write_bytes(raw)
    return f"{n} bits flipped"


def cut(path: Path, draw: random.Random) -> str:
    """Bytes lost at the end, in the middle, or zeroed."""
    raw = path.read_bytes()
    a, b = sorted(draw.randrange(len(raw) + 1) for _ in range(2))
    how = draw.choice(("end cut off", "middle lost", "zeroed", "doubled", "empty"))
    changed = {
        "end cut off": raw[:a],
        "middle lost": raw[:a] + raw[b:],
        "zeroed": raw[:a] + bytes(b - a) + raw[b:],
        "doubled": raw + raw[a:b],
        "empty": b"",
    }
    path.write_bytes(changed[how])
    return how


def lose(path: Path, draw: random.Random) -> str:
    """The file is gone, or a folder."""
    path.unlink()
    if draw.random() < 0.5:
        path.mkdir()
        return "a folder"
    return "gone"


def change_json(path: Path, draw: random.Random) -> str:
    """A field replaced by a nasty value, removed, or added; in a safetensors file, of its header."""
    raw, tail = path.read_bytes(), b""
    if path.suffix == ".safetensors":
        end = 8 + int.from_bytes(raw[:8], "little")
        raw, tail = raw[8:end], raw[end:]
    content = json.loads(raw)
    places = _places(content)
    holder, key = draw.choice(places)
    value = draw.choice(NASTY)
    how = draw.choice(("replaced", "replaced", "replaced", "removed", "added"))
    if how == "removed":
        del holder[key]
    elif how == "added" and isinstance(holder, dict):
        holder["wings"] = value
    else:
        holder[key] = value
    text = json.dumps(content).replace(f'"{DEEP}"', "[" * 5000 + "]" * 5000).replace(f'"{HUGE}"', "9" * 5000)
    header = text.encode("utf-8")
    path.write_bytes(len(header).to_bytes(8, "little") + header + tail if path.suffix == ".safetensors" else header)
    return f"{str(key)[:30]} {how}: {str(value)[:20]!r}"


def _places(content: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value; of long containers, such as a vocabulary, the first few."""
    items: list[tuple[Any, Any]] = []
    if isinstance(content, dict):
        items = list(content.items())[:40]
    elif isinstance(content, list):
        items = list(enumerate(content))[:40]
    return [(content, key) for key, _ in items] + [place for _, value in items for place in _places(value)]


def add_part(path: Path, draw: random.Random) -> str:
    """A part of a tokenizer's pipeline."""
    content = json.loads(path.read_text("utf-8"))
    name, value = draw.choice(PARTS)
    content[name] = value
    path.write_text(json.dumps(content), "utf-8")
    return f"{name}: {str(value)[:40]}"


def mutate(run: Path, draw: random.Random) -> tuple[str, str]:
    """Change one thing; the kind of the change, and its description."""
    files = sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file())
    kind = draw.choice(("bits", "bytes", "json", "json", "json", "part", "file"))
    ways: dict[str, Callable[[Path, random.Random], str]] = {
        "bits": flip_bits, "bytes": cut, "json": change_json, "part": add_part, "file": lose,
    }  # fmt: skip
    name = Path(
        draw.choice(JSON_FILES) if kind == "json" else "tokenizer.json" if kind == "part" else draw.choice(files)
    )
    return kind, f"{name}: {ways[kind](run / name, draw)}"


# One mutant in a process of its own -----------------------------------------------------------------------------------


def tried(run: Path, other: Path, expected: list[list[float]]) -> tuple[str, str]:
    """The outcome for one mutant, and what was said."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, used + MOST_BYTES))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # a panic of the tokenizers' library writes to stderr
        try:
            found: tuple[str, str] = ("same" if use(run, other) == expected else "other", "")
        except LastTokenError as error:
            found = ("sentence" if "\n" not in str(error) and len(str(error)) < 2000 else "traceback", str(error))
        except MemoryError:
            found = ("killed", "no memory left")
        except BaseException:
            found = ("traceback", traceback.format_exc())
        os.write(writer, json.dumps((found[0], found[1][-5000:])).encode())
        os._exit(0)
    os.close(writer)
    end = time.monotonic() + MOST_SECONDS
    ready = select.select([reader], [], [], max(0.0, end - time.monotonic()))[0]
    content = b""
    while ready and (block := os.read(reader, 65536)):
        content += block
    os.close(reader)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not ready:
        return "hang", f"over {MOST_SECONDS:g} s"
    return tuple(json.loads(content)) if content else ("killed", f"status {status}")


def main() -> int:
    """Try mutants and print a table of outcomes; 1 when one of them is bad."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", help="print every mutant of this outcome, such as other")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    outcomes: Counter[tuple[str, str]] = Counter()
    slowest, start = 0.0, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        good, other = (make_run(Path(folder) / name, seed) for seed, name in enumerate(("good", "other"), 1))
        expected = use(good, other)
        for number in range(arguments.n):
            draw = random.Random(f"{arguments.seed} {number}")
            mutant = Path(folder) / "mutant"
            shutil.copytree(good, mutant)
            kind, what = mutate(mutant, draw)
            began = time.perf_counter()
            outcome, said = tried(mutant, other, expected)
            slowest = max(slowest, time.perf_counter() - began)
            outcomes[kind, outcome] += 1
            if outcome in BAD or outcome == arguments.show:
                print(f"{number}: {outcome}: {what}\n{said}", flush=True)
            shutil.rmtree(mutant)
    columns = ("sentence", "same", "other", *BAD)
    print(f"{'kind':8}" + "".join(f"{name:>10}" for name in columns))
    for kind in sorted({kind for kind, _ in outcomes}):
        print(f"{kind:8}" + "".join(f"{outcomes[kind, name]:10}" for name in columns))
    print(f"{arguments.n} mutants in {time.perf_counter() - start:.0f} s, the slowest took {slowest:.1f} s")
    return int(any(outcome in BAD for _, outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
