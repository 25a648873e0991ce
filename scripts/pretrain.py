"""Pretrain a small GPT for classification: next-token prediction, and distillation of a sentence model.

    corpus/*.txt.gz ─► documents ─► byte-level BPE ─► rows of 257 ids           ─► next-token loss
                                └─► texts of 1-3 sentences ─► teacher's vectors ─► next-token loss + (1 - cosine) at
                                                                                   the last token

Each step trains on a batch of rows and a batch of texts. Muon (Jordan et al. 2024) updates the matrices of the blocks,
AdamW the rest. Every batch is a function of (seed, step), so a killed training resumes from its last checkpoint with
the same result. --out becomes a backbone folder in float16, with the facts for its card.

    python scripts/pretrain.py --corpus CORPUS --teacher all-MiniLM-L6-v2/ --steps 3000 --work work/ --out mine/
    python scripts/pretrain.py … --start tests/fixtures/pocket        # continue from these weights and tokenizer

The corpus is a folder of gzipped text: each line is a turn, sentence or paragraph, a blank line separates documents.
The teacher is the folder of a BERT sentence model with mean pooling, which transformers loads.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lasttoken.backbone.gpt2.family import to_published, write_config
from lasttoken.backbone.gpt2.network import GPT2, GPT2Config
from lasttoken.backbone.linear import Linear
from lasttoken.backbone.packing import Packing
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.backbone.weights import write_tensor_file
from lasttoken.core.process import tune_cpu
from lasttoken.core.storage import write_text

END_OF_TEXT = "<|endoftext|>"
PIECE = 4_000  # characters; longer documents are split at line ends
HELD_OUT = 300_000  # tokens at the end of the shuffled documents, never trained on
VALIDATION_ROWS = 192  # of the held-out ones, used for each validation
PROBE = "Two tokenizers that cut this sentence alike, 1 2 3, are the same for all we ask."
LONGEST = 64  # tokens of a text for the teacher; longer ones are left out
WARM_UP, FINAL = 60, 0.02  # steps (at most a tenth of all); fraction of the learning rate at the last step


# ---------------------------------------------------------------------- text


def read_documents(corpus: Path) -> Iterator[list[str]]:
    """Documents as lists of lines, none much longer than PIECE characters."""
    for path in sorted(corpus.glob("*.txt.gz")):
        lines: list[str] = []
        size = 0
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                line = line.strip()
                if line:
                    lines.append(line)
                    size += len(line)
                if lines and (not line or size > PIECE):
                    yield lines
                    lines, size = [], 0
        if lines:
            yield lines


def texts_of(lines: list[str], random: np.random.Generator) -> Iterator[str]:
    """Texts of one to three consecutive sentences or turns of a document."""
    sentences = [part for line in lines for part in re.split(r"(?<=[.!?]) +", line) if part]
    place = 0
    while place < len(sentences):
        n = int(random.choice((1, 1, 2, 3)))
        yield " ".join(sentences[place : place + n])
        place += n


def train_tokenizer(documents: list[list[str]], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer; <|endoftext|> is token 0."""
    from tokenizers import Tokenizer as Fast
    from tokenizers import decoders, models, pre_tokenizers, trainers

    fast = Fast(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet)
    fast.train_from_iterator(("\n".join(lines) for lines in documents), trainer, length=len(documents))
    return Tokenizer(fast)


# ---------------------------------------------------------------------- numbers


@dataclass(frozen=True)
class Numbers:
    """The encoded corpus, saved in --work."""

    stream: NDArray[np.uint16]  # documents, each after a token 0, end to end; the last HELD_OUT tokens validate
    text_ids: NDArray[np.uint16]  # the texts, end to end
    text_lengths: NDArray[np.int64]  # [N]
    vectors: NDArray[np.float16] | None  # [N, teacher's width], of unit length


def make_numbers(documents: list[list[str]], tokenizer: Tokenizer, args: argparse.Namespace) -> Numbers:
    """Encode the documents, sample texts from the training documents, and compute the teacher's vectors of them."""
    random = np.random.default_rng(args.seed)
    documents = [documents[place] for place in random.permutation(len(documents))]
    pieces: list[NDArray[np.uint16]] = []
    for start in range(0, len(documents), 4096):
        many = tokenizer.encode_many(["\n".join(lines) for lines in documents[start : start + 4096]])
        pieces += [np.array([tokenizer.end_of_text_id, *ids], dtype=np.uint16) for ids in many]
    stream = np.concatenate(pieces)
    ends = np.cumsum([len(piece) for piece in pieces])
    n_train = int(np.searchsorted(ends, len(stream) - HELD_OUT))
    texts = [text for lines in documents[:n_train] for text in texts_of(lines, random)]
    chosen = [texts[place] for place in random.permutation(len(texts))[: args.texts]]
    encoded = tokenizer.encode_many(chosen)
    kept = [(text, ids) for text, ids in zip(chosen, encoded, strict=True) if 2 <= len(ids) <= LONGEST]
    print(f"{len(documents):,} documents, {len(stream):,} tokens; {len(kept):,} texts", flush=True)
    vectors = ask_teacher(args.teacher, [text for text, _ in kept]) if args.teacher else None
    text_ids = np.concatenate([np.array(ids, dtype=np.uint16) for _, ids in kept])
    return Numbers(stream, text_ids, np.array([len(ids) for _, ids in kept], dtype=np.int64), vectors)


@torch.inference_mode()
def ask_teacher(folder: Path, texts: list[str]) -> NDArray[np.float16]:
    """The teacher's vectors of texts, [N, width], normalized to unit length: the mean over its tokens."""
    from transformers import AutoModel, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    fast = AutoTokenizer.from_pretrained(folder)
    teacher = AutoModel.from_pretrained(folder).to(device).eval()
    for module in teacher.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear  # faster on CPUs
            module.register_module("low_rank", None)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    vectors = np.empty((len(texts), teacher.config.hidden_size), dtype=np.float16)
    started = time.monotonic()
    for start in range(0, len(order), 256):
        rows = order[start : start + 256]
        batch = fast([texts[row] for row in rows], padding=True, truncation=True, max_length=128, return_tensors="pt")
        batch = batch.to(device)
        hidden = teacher(**batch).last_hidden_state
        mask = batch["attention_mask"][:, :, None]
        if start % 25_600 == 0:
            print(f"teacher: {start:,} texts, {time.monotonic() - started:.0f} s", flush=True)
        vectors[rows] = F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).cpu().numpy()
    print(f"the teacher encoded {len(texts):,} texts in {time.monotonic() - started:.0f} s", flush=True)
    return vectors


def load_numbers(tokenizer: Tokenizer | None, args: argparse.Namespace) -> tuple[Numbers, Tokenizer]:
    """The encoded corpus and its tokenizer: loaded from --work, or made and saved there."""
    work: Path = args.work
    path = work / "numbers.npz"
    if path.is_file():
        content = np.load(path)
        known = {name: content[name] for name in content.files}
        kept = Tokenizer.load(work)
        if tokenizer and tokenizer.encode(PROBE) != kept.encode(PROBE):
            raise SystemExit(f"{work} was encoded with another tokenizer than --start's; give another --work")
        return Numbers(**{"vectors": None, **known}), kept
    work.mkdir(parents=True, exist_ok=True)
    documents = list(read_documents(args.corpus))
    if sum(len(line) for lines in documents for line in lines) < 4 * HELD_OUT:
        raise SystemExit(f"{args.corpus} needs *.txt.gz with more text than the {HELD_OUT:,} tokens that are held out")
    tokenizer = tokenizer or train_tokenizer(documents, args.vocab_size)
    write_text(work / "tokenizer.json", tokenizer.to_json())
    numbers = make_numbers(documents, tokenizer, args)
    arrays = {name: value for name, value in vars(numbers).items() if value is not None}
    np.savez(work / "making.npz", **arrays)
    (work / "making.npz").replace(path)
    return numbers, tokenizer


# ---------------------------------------------------------------------- training


class Student(nn.Module):
    """The GPT, and a linear map from its last token to the teacher's vector, which is not saved with the backbone."""

    def __init__(self, gpt: GPT2, width: int) -> None:
        super().__init__()
        self.gpt = gpt
        self.to_teacher = nn.Linear(gpt.config.n_embd, width)

    def loss(self, ids: Tensor, packing: Packing, vectors: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean next-token loss in nats, and the mean of 1 - cosine to the teacher at the last tokens."""
        hidden = self.gpt(ids, packing)
        last = packing.starts + packing.lengths - 1
        has_next = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
        has_next[last] = False
        logits = self.gpt.logits(hidden[has_next])
        next_ids = ids[1:][has_next[:-1]]
        lm = F.cross_entropy(logits.float(), next_ids)
        if vectors is None:
            return lm, lm.new_zeros(())
        cosine = F.cosine_similarity(self.to_teacher(hidden[last]).float(), vectors, dim=1)
        return lm, (1 - cosine).mean()


def optimizers(student: Student, args: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for all other parameters."""
    matrices = [p for name, p in student.named_parameters() if ".h." in name and p.dim() == 2]
    rest = [p for name, p in student.named_parameters() if not (".h." in name and p.dim() == 2)]
    return [
        torch.optim.Muon(matrices, lr=args.muon_rate, weight_decay=0.0, momentum=0.95),
        torch.optim.AdamW(rest, lr=args.adam_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def rate(step: int, steps: int) -> float:
    """The fraction of the learning rate at a step: warm-up, constant to a quarter of the steps, then linear decay."""
    warm_up = min(WARM_UP, steps // 10)
    if step < warm_up:
        return (step + 1) / warm_up
    return 1.0 if step < steps / 4 else FINAL + (1 - FINAL) * (steps - step) / (steps * 3 / 4)


class Batches:
    """Rows and texts of each step; a function of (seed, step)."""

    def __init__(self, numbers: Numbers, args: argparse.Namespace) -> None:
        self.numbers, self.args, self.device = numbers, args, args.device
        self.n_rows = (len(numbers.stream) - HELD_OUT) // args.row
        self.starts = np.cumsum(numbers.text_lengths) - numbers.text_lengths
        self.passes: dict[tuple[str, int], NDArray[np.int64]] = {}

    def _take(self, name: str, n: int, step: int, size: int) -> NDArray[np.int64]:
        """The indices of a batch of `size` out of n; each index occurs at most once in a pass."""
        per_pass = n // size
        number, place = divmod(step, per_pass)
        if (name, number) not in self.passes:
            self.passes = {key: value for key, value in self.passes.items() if key[0] != name}
            seed = [self.args.seed, number, len(name)]
            self.passes[name, number] = np.random.default_rng(seed).permutation(n)
        return self.passes[name, number][place * size : (place + 1) * size]

    def _rows(self, first: int, places: NDArray[np.int64]) -> tuple[Tensor, Packing]:
        row = self.args.row
        ids = np.stack([self.numbers.stream[first + at * row : first + at * row + row + 1] for at in places])
        tensor = torch.from_numpy(ids.astype(np.int64)).flatten().to(self.device)
        return tensor, Packing([row + 1] * len(places), self.device)

    def rows(self, step: int) -> tuple[Tensor, Packing]:
        """A batch of rows."""
        return self._rows(0, self._take("row", self.n_rows, step, self.args.rows))

    def validation(self) -> Iterator[tuple[Tensor, Packing]]:
        """The held-out rows, in batches."""
        first = len(self.numbers.stream) - HELD_OUT
        for start in range(0, VALIDATION_ROWS, 16):
            yield self._rows(first, np.arange(start, start + 16))

    def texts(self, step: int) -> tuple[Tensor, Packing, Tensor | None]:
        """A batch of texts and the teacher's vectors."""
        numbers = self.numbers
        at = self._take("texts", len(numbers.text_lengths), step, self.args.batch_texts)
        pieces = [numbers.text_ids[self.starts[i] : self.starts[i] + numbers.text_lengths[i]] for i in at]
        ids = torch.from_numpy(np.concatenate(pieces).astype(np.int64)).to(self.device)
        vectors = numbers.vectors
        known = None if vectors is None else torch.from_numpy(vectors[at].astype(np.float32)).to(self.device)
        return ids, Packing(numbers.text_lengths[at].tolist(), self.device), known


@torch.no_grad()
def validate(student: Student, batches: Batches) -> float:
    """Mean next-token loss on the held-out rows, in nats, in float32."""
    student.eval()
    losses = [student.loss(ids, packing, None)[0].item() for ids, packing in batches.validation()]
    student.train()
    return sum(losses) / len(losses)


def course_of(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that change the result; to resume, they must be the same."""
    free = ("work", "out", "every", "device")
    return {
        name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items() if name not in free
    }


class Training:
    """A student, its optimizers and its progress; --work/state.pt holds all of it."""

    def __init__(self, student: Student, numbers: Numbers, args: argparse.Namespace) -> None:
        self.student, self.args = student, args
        self.batches, self.optimizers = Batches(numbers, args), optimizers(student, args)
        self.step, self.n_tokens, self.seconds = 0, 0, 0.0
        self.file: Path = args.work / "state.pt"

    def restore(self) -> None:
        """Resume from the last checkpoint, if there is one."""
        if not self.file.is_file():
            return
        state = torch.load(self.file, map_location=self.args.device, weights_only=True)
        differs = [name for name, value in course_of(self.args).items() if state["course"].get(name) != value]
        if differs:
            flags = ", ".join("--" + name.replace("_", "-") for name in differs)
            raise SystemExit(
                f"{self.file} belongs to a training with another {flags}; give the same, or another --work"
            )
        self.student.load_state_dict(state["student"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.n_tokens, self.seconds = state["step"], state["n_tokens"], state["seconds"]
        print(f"resuming after step {self.step:,}", flush=True)

    def save(self) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "student": self.student.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "course": course_of(self.args),
            "step": self.step,
            "n_tokens": self.n_tokens,
            "seconds": self.seconds,
        }
        making = self.file.with_suffix(".tmp")
        torch.save(state, making)
        making.replace(self.file)

    def run(self) -> dict[str, Any]:
        """Train to the last step; returns facts for the card."""
        self.restore()
        loss = validate(self.student, self.batches)
        print(f"validation loss {loss:.4f} after {self.step:,} steps", flush=True)
        sums, last = [0.0, 0.0, 0.0], self.step
        started = time.monotonic() - self.seconds
        while self.step < self.args.steps:
            sums = [total + value for total, value in zip(sums, self._one_step(), strict=True)]
            if self.step % self.args.every == 0 or self.step == self.args.steps:
                self.seconds = time.monotonic() - started
                loss = validate(self.student, self.batches)
                self.save()
                names = ("row_loss", "text_loss", "distance")
                means = {name: total / (self.step - last) for name, total in zip(names, sums, strict=True)}
                self._log({"step": self.step, **means, "validation_loss": loss})
                sums, last = [0.0, 0.0, 0.0], self.step
        return {"n_tokens": self.n_tokens, "seconds": round(self.seconds), "validation_loss": loss}

    def _one_step(self) -> tuple[float, float, float]:
        args, part = self.args, rate(self.step, self.args.steps)
        for optimizer, full in zip(self.optimizers, (args.muon_rate, args.adam_rate), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = full * part
        with torch.autocast(args.device, torch.bfloat16, enabled=args.bfloat16):
            ids, packing = self.batches.rows(self.step)
            row_loss, _ = self.student.loss(ids, packing, None)
        row_loss.backward()  # type: ignore[no-untyped-call]
        self.n_tokens += len(ids)
        with torch.autocast(args.device, torch.bfloat16, enabled=args.bfloat16):
            ids, packing, vectors = self.batches.texts(self.step)
            text_loss, distance = self.student.loss(ids, packing, vectors)
        (text_loss * args.text_weight + distance * args.teacher_weight).backward()
        self.n_tokens += len(ids)
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return row_loss.item(), text_loss.item(), distance.item()

    def _log(self, line: dict[str, Any]) -> None:
        line = {**line, "n_tokens": self.n_tokens, "seconds": round(self.seconds)}
        print(line, flush=True)
        with (self.args.work / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


# ---------------------------------------------------------------------- output


def save_backbone(out: Path, gpt: GPT2, tokenizer: Tokenizer, facts: dict[str, Any]) -> None:
    """Write config.json, model.safetensors in float16, tokenizer.json, and pretraining.json with the card's facts."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.half() for name, tensor in to_published(gpt.state_dict()).items()}
    write_tensor_file(out / "model.safetensors", tensors)
    content = {
        "architectures": ["GPT2LMHeadModel"],
        **write_config(gpt.config),
        "bos_token_id": tokenizer.end_of_text_id,
        "eos_token_id": tokenizer.end_of_text_id,
        "dtype": "float16",
    }
    write_text(out / "config.json", json.dumps(content, indent=1) + "\n")
    write_text(out / "tokenizer.json", tokenizer.to_json())
    write_text(out / "pretraining.json", json.dumps(facts, indent=1) + "\n")


def main() -> None:
    """Parse the flags, encode the corpus, train, and write a backbone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, help="folder of a sentence model; without it there is no distillation")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for the encoded corpus, checkpoints and the log"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished backbone")
    parser.add_argument("--start", help="backbone to continue from, with its tokenizer")
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--positions", type=int, default=512)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--rows", type=int, default=16, help="rows in a step")
    parser.add_argument("--row", type=int, default=256, help="tokens predicted in a row")
    parser.add_argument("--texts", type=int, default=400_000, help="texts to sample for the teacher")
    parser.add_argument("--batch-texts", type=int, default=192, help="texts in a step")
    parser.add_argument("--text-weight", type=float, default=0.5, help="weight of the next-token loss on texts")
    parser.add_argument("--teacher-weight", type=float, default=5.0, help="weight of 1 - cosine to the teacher")
    parser.add_argument("--muon-rate", type=float, default=0.02)
    parser.add_argument("--adam-rate", type=float, default=3e-3)
    parser.add_argument("--every", type=int, default=50, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bfloat16", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    if not hasattr(torch.optim, "Muon"):
        raise SystemExit(f"torch {torch.__version__} has no Muon; use 2.9 or later")
    tune_cpu()
    torch.manual_seed(args.seed)
    backbone = load_backbone(args.start) if args.start else None
    numbers, tokenizer = load_numbers(backbone.tokenizer if backbone else None, args)
    if backbone:
        if not isinstance(backbone.decoder, GPT2):
            raise SystemExit(f"--start {args.start} is not a GPT-2, which is what this script trains")
        gpt = backbone.decoder
    else:
        config = GPT2Config(args.vocab_size, args.positions, args.width, args.layers, args.heads)
        gpt = GPT2(config).init_weights(args.seed)
    width = numbers.vectors.shape[1] if numbers.vectors is not None else 1
    student = Student(gpt.requires_grad_(True), width).to(args.device)
    results = Training(student, numbers, args).run()
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    for name in ("corpus", "teacher", "work", "out", "start"):
        settings[name] = Path(settings[name]).name if settings[name] else None
    n_parameters = sum(p.numel() for p in gpt.parameters())
    facts = {"n_parameters": n_parameters, **results, "settings": settings, "torch": torch.__version__}
    save_backbone(args.out, gpt.cpu(), tokenizer, facts)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
