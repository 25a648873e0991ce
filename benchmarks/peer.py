"""The other side of the benchmarks: the same job by transformers, in a process of its own; prints one line of JSON.

    python benchmarks/peer.py finetune --backbone FOLDER --data SMSSpamCollection --pad batch
    python benchmarks/peer.py finetune --backbone FOLDER --data SMSSpamCollection --pad 120      # chapter 6's loop
    python benchmarks/peer.py score --run RUN --texts FILE.json
    python benchmarks/peer.py score-file --run RUN --input FILE.csv --output FILE.csv --batch-size 8

`finetune` times real steps and real evaluation batches and scales them to the whole of chapter 6's training (5 epochs
of 130 batches of 8, evaluations as in the chapter, all three splits at the end). It is given what its users can have:
the fused AdamW, scaled dot-product attention, no cache of keys and values, and our process-wide `tune_cpu`.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import statistics
import time
from itertools import tee
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.core.process import tune_cpu
from lasttoken.data.book import book_splits
from lasttoken.data.label_tables import labels_of

PAD = 50256
BATCH = 8
STEPS, EPOCHS = 650, 5
# Batches of 8 that the chapter evaluates: before training 10 of each split for the accuracies and 5 for the losses;
# every 50th step 5 of train and of validation; each epoch the same; at the end all rows of the three splits.
EVALUATIONS = 3 * (10 + 5) + 13 * 2 * 5 + EPOCHS * 2 * 5 + 130 + 19 + 38


def batches(ids: list[list[int]], length: int | None) -> list[Tensor]:
    """Batches of 8 texts padded on the right, to the longest of the batch or to `length`: [8, T] each."""
    found = []
    for start in range(0, len(ids) - BATCH + 1, BATCH):
        rows = ids[start : start + BATCH]
        longest = length or max(len(row) for row in rows)
        found.append(torch.tensor([(row + [PAD] * longest)[:longest] for row in rows]))
    return found


def finetune(arguments: argparse.Namespace) -> dict[str, Any]:
    """Steps and evaluation batches, timed."""
    splits, _ = book_splits(arguments.data)
    tokenizer = Tokenizer.load(arguments.backbone)
    ids = tokenizer.encode_many(splits.train.texts)
    label_ids = torch.tensor([int(label == "spam" or label == "1") for label in labels_of(splits.train)])
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(123)).tolist()
    ids, label_ids = [ids[row] for row in order], label_ids[order]
    padded = batches(ids, None if arguments.pad == "batch" else int(arguments.pad))

    started = time.perf_counter()
    from transformers import GPT2ForSequenceClassification

    imported_s = time.perf_counter() - started
    started = time.perf_counter()
    torch.manual_seed(123)
    model = GPT2ForSequenceClassification.from_pretrained(arguments.backbone, num_labels=2, pad_token_id=PAD)
    model.config.use_cache = False
    trained = list(model.parameters())
    if arguments.train == "last":
        model.requires_grad_(False)
        trained = [
            *model.transformer.h[-1].parameters(),
            *model.transformer.ln_f.parameters(),
            *model.score.parameters(),
        ]
        for parameter in trained:
            parameter.requires_grad_(True)
    load_s = time.perf_counter() - started
    optimizer = torch.optim.AdamW(trained, lr=5e-5, weight_decay=0.1, fused=True)

    def logits(batch: Tensor) -> Tensor:
        if arguments.pad == "batch":  # transformers reads the last token that is no padding
            return model(batch, attention_mask=(batch != PAD).long()).logits  # type: ignore[no-any-return]
        hidden = model.transformer(batch).last_hidden_state  # the chapter reads the last position, without a mask
        return model.score(hidden[:, -1])  # type: ignore[no-any-return]

    def step(place: int) -> None:
        batch = padded[place % len(padded)]
        at = (place % len(padded)) * BATCH
        optimizer.zero_grad()
        F.cross_entropy(logits(batch), label_ids[at : at + BATCH]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def seconds_of(work: Any, n: int, first: int) -> float:
        started = time.perf_counter()
        for place in range(first, first + n):
            work(place)
        return (time.perf_counter() - started) / n

    @torch.no_grad()
    def evaluate(place: int) -> None:
        logits(padded[place % len(padded)])

    seconds_of(step, 3, 0)  # warm
    step_s = seconds_of(step, arguments.steps, 3)
    evaluation_s = seconds_of(evaluate, arguments.evaluations, 0) if arguments.evaluations else 0.0
    return {
        "load_s": load_s,
        "import_s": imported_s,
        "step_s": step_s,
        "evaluation_batch_s": evaluation_s,
        "whole_s": load_s + STEPS * step_s + EVALUATIONS * evaluation_s,
        "steps_timed": arguments.steps,
        "tokens_a_step": statistics.mean(batch.numel() for batch in padded),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def pipeline_of(run: Path) -> Any:
    """transformers' pipeline over a run's weights."""
    from transformers import GPT2ForSequenceClassification, PreTrainedTokenizerFast, pipeline

    longest = json.loads((run / "config.json").read_text("utf-8"))["lasttoken"]["max_length"]
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=str(run / "tokenizer.json"), pad_token="<|endoftext|>", model_max_length=longest
    )
    model = GPT2ForSequenceClassification.from_pretrained(run)
    return pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")


def score_file(arguments: argparse.Namespace) -> dict[str, Any]:
    """The pipeline over the column text of a CSV file, to a CSV of label and score; whole, as a user would write it."""
    classify = pipeline_of(arguments.run)
    n = 0
    with (
        arguments.input.open(encoding="utf-8", newline="") as source,
        arguments.output.open("w", encoding="utf-8", newline="") as target,
    ):
        rows, again = tee(csv.DictReader(source))
        writer = csv.writer(target)
        writer.writerow(["key", "text", "predicted_label", "predicted_score"])
        answers = classify((row["text"] for row in rows), batch_size=arguments.batch_size, truncation=True)
        for row, answer in zip(again, answers, strict=True):
            writer.writerow([row["key"], row["text"], answer["label"], answer["score"]])
            n += 1
    return {"rows": n}


def score(arguments: argparse.Namespace) -> dict[str, Any]:
    """The pipeline, at the batch size that is quickest on some of the texts, over all of them."""
    texts = json.loads(arguments.texts.read_text("utf-8"))
    classify = pipeline_of(arguments.run)
    sizes = [arguments.batch_size] if arguments.batch_size else [1, 2, 4, 8, 16, 32]
    rates = {}
    some = texts[: arguments.some]
    list(classify(some, batch_size=8, truncation=True))  # warm
    for size in sizes:
        started = time.perf_counter()
        list(classify(some, batch_size=size, truncation=True))
        rates[size] = len(some) / (time.perf_counter() - started)
    best = max(rates, key=lambda size: rates[size])
    started = time.perf_counter()
    found = list(classify(texts, batch_size=best, truncation=True))
    return {
        "texts_per_s": len(texts) / (time.perf_counter() - started),
        "batch_size": best,
        "rates": rates,
        "labels": [answer["label"] for answer in found],
    }


def main() -> None:
    """One side of one comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("finetune")
    one.add_argument("--backbone", type=Path, required=True)
    one.add_argument("--data", type=Path, required=True)
    one.add_argument("--pad", default="batch", help="batch, or a length to pad every text to")
    one.add_argument("--train", choices=("last", "all"), default="last")
    one.add_argument("--steps", type=int, default=50)
    one.add_argument("--evaluations", type=int, default=20)
    one.set_defaults(work=finetune)
    two = verbs.add_parser("score")
    two.add_argument("--run", type=Path, required=True)
    two.add_argument("--texts", type=Path, required=True)
    two.add_argument("--some", type=int, default=96)
    two.add_argument("--batch-size", type=int)
    two.set_defaults(work=score)
    three = verbs.add_parser("score-file")
    three.add_argument("--run", type=Path, required=True)
    three.add_argument("--input", type=Path, required=True)
    three.add_argument("--output", type=Path, required=True)
    three.add_argument("--batch-size", type=int, required=True)
    three.set_defaults(work=score_file)
    arguments = parser.parse_args()
    tune_cpu()
    print(json.dumps(arguments.work(arguments)))


if __name__ == "__main__":
    main()
