"""LoRA beside peft: the same losses at every step, how much is trained, and the time of a whole training.

    python benchmarks/random_backbone.py --like smollm2-135m --out RANDOM
    python benchmarks/lora.py losses --data SMSSpamCollection --backbone RANDOM
    python benchmarks/lora.py time --data SMSSpamCollection --backbone RANDOM        # needs accelerate

Both sides train updates of rank 8 of all linear layers in the last half of the blocks, the final norm and the head.
losses: our tail on cached features, and peft on transformers over padded batches, from the same weights, updates and
head, in one process; the same AdamW on both sides.
time: `lasttoken train` against peft and transformers' Trainer (benchmarks/peer_rotary.py) on the same rows, epochs and
batch size. Load, encoding, training, an evaluation of validation in each epoch and one of test count on both sides. The
Trainer's epoch is timed once a round and multiplied. The sides alternate, --rounds times; medians are compared.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from busy import processor
from rotary import Facts, process, train, whole, write_splits
from train import COUNTED, alternate, median, spread

from lasttoken.backbone.families import family_of
from lasttoken.backbone.pretrained import load_backbone
from lasttoken.classifier.adapter import adapter_config, adapter_tensors
from lasttoken.classifier.classifier import Classifier, ClassifierConfig
from lasttoken.classifier.encoding import Encoded, encode_texts
from lasttoken.classifier.lora import LoraConfig
from lasttoken.core.columns import SPLIT_COLUMNS
from lasttoken.core.device import CPU
from lasttoken.core.process import tune_cpu
from lasttoken.data.files import read_examples
from lasttoken.data.label_tables import labels_of
from lasttoken.training.adamw import AdamW
from lasttoken.training.features import TrunkPass

RANK, RATE, DECAY = 8, 8e-4, 0.1


def losses(arguments: argparse.Namespace, work: Path) -> None:
    """The losses of both sides at every step, and the numbers that they train."""
    del work
    examples = read_examples(arguments.data, SPLIT_COLUMNS)
    n_rows = arguments.steps * arguments.batch_size
    truth = torch.tensor([int(label == "spam") for label in labels_of(examples)[:n_rows]])
    backbone = load_backbone(str(arguments.backbone), offline=True)
    max_length, end = min(backbone.max_length, 512), backbone.end_of_text_id
    encoded = encode_texts(
        backbone.tokenizer, examples.texts[:n_rows], max_length=max_length, truncate="tail", end_of_text_id=end
    )
    n_layer = backbone.config.n_layer
    lora = LoraConfig(RANK, 2.0 * RANK, (n_layer + 1) // 2, tuple(family_of(backbone.config).matrices))
    config = ClassifierConfig(
        labels=("ham", "spam"), read="last", causal_mask=True, max_length=max_length, truncate="tail",
        train_blocks="lora", end_of_text_id=end, backbone=backbone.name, lora=lora,
    )  # fmt: skip
    classifier = Classifier(backbone.decoder, config, seed=123)
    peft = peft_twin(classifier, padding_id=unused_id(encoded, backbone.config.vocab_size))
    ours, theirs = our_losses(classifier, encoded, truth, arguments), peft_losses(peft, encoded, truth, arguments)
    print("| step | ours | peft | difference |\n|---|---|---|---|")
    for step, (own, other) in enumerate(zip(ours, theirs, strict=True), 1):
        print(f"| {step} | {own:.6f} | {other:.6f} | {abs(own - other):.1e} |")
    n_trained, n_all = classifier.n_trained(), sum(each.numel() for each in classifier.state_without_updates().values())
    n_theirs = sum(each.numel() for each in peft.parameters() if each.requires_grad)
    print(f"\nTrained: {n_trained:,} of {n_all:,} numbers, {n_trained / n_all:.2%}; peft trains {n_theirs:,}.")


def unused_id(encoded: Encoded, vocab_size: int) -> int:
    """An id that no text has, for padding: transformers finds the last token of a text by it."""
    used = set(encoded.token_ids.tolist())
    return next(token_id for token_id in range(vocab_size - 1, -1, -1) if token_id not in used)


def peft_twin(classifier: Classifier, padding_id: int) -> Any:
    """peft's model with the same weights, updates, final norm and head; its head gets a bias, as ours has."""
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForSequenceClassification

    decoder, described = classifier.decoder, adapter_config(classifier)
    family = family_of(decoder.config)
    content = {**family.write_config(decoder.config.without_lm_head()), "pad_token_id": padding_id, "num_labels": 2}
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(**content))  # type: ignore[no-untyped-call]
    model.load_state_dict(family.to_published(decoder.state_without_lm_head()), strict=False)
    model.score, model.config.use_cache = torch.nn.Linear(decoder.config.n_embd, 2), False
    names = ("r", "lora_alpha", "target_modules", "layers_to_transform", "modules_to_save")
    settings: Any = {name: described[name] for name in names}
    peft: Any = get_peft_model(model, PeftConfig(**settings, task_type="SEQ_CLS"))
    own = dict(peft.named_parameters())
    with torch.no_grad():
        for name, tensor in adapter_tensors(classifier).items():
            module, _, last = name.rpartition(".")
            for renamed in (f"{module}.default.{last}", f"{module}.modules_to_save.default.{last}"):
                if renamed in own:
                    own[renamed].copy_(tensor)
    return peft.train()


def batch_rows(arguments: argparse.Namespace) -> Iterator[list[int]]:
    """The rows of each step."""
    for step in range(arguments.steps):
        yield list(range(step * arguments.batch_size, (step + 1) * arguments.batch_size))


def our_losses(
    classifier: Classifier, encoded: Encoded, truth: torch.Tensor, arguments: argparse.Namespace
) -> list[float]:
    """The losses of the tail on features."""
    source = TrunkPass(classifier, CPU, cache=None, say=print).source(encoded, "train")
    optimizer, values = AdamW(classifier.trained(), DECAY), []
    for rows in batch_rows(arguments):
        optimizer.zero_grad()
        loss = F.cross_entropy(classifier.tail(*source.batch(rows)), truth[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step(RATE)
        values.append(loss.item())
    return values


def peft_losses(peft: Any, encoded: Encoded, truth: torch.Tensor, arguments: argparse.Namespace) -> list[float]:
    """The losses of the whole network over padded texts."""
    texts = [torch.from_numpy(ids) for ids in np.split(encoded.token_ids.astype(np.int64), encoded.offsets[1:-1])]
    trained = [parameter for parameter in peft.parameters() if parameter.requires_grad]
    optimizer, values = torch.optim.AdamW(trained, RATE, weight_decay=DECAY), []
    for rows in batch_rows(arguments):
        taken = [texts[row] for row in rows]
        ids = torch.nn.utils.rnn.pad_sequence(taken, batch_first=True, padding_value=peft.config.pad_token_id)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(text) for text in taken], batch_first=True)
        optimizer.zero_grad()
        loss = F.cross_entropy(peft(input_ids=ids, attention_mask=mask).logits, truth[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        values.append(loss.item())
    return values


def time_both(arguments: argparse.Namespace, work: Path) -> None:
    """The seconds of a whole training of each side, and their ratio."""
    splits = write_splits(arguments.data, arguments.rows, work)
    n_layer = load_backbone(str(arguments.backbone), offline=True).config.n_layer
    blocks, size, epochs = (n_layer + 1) // 2, str(arguments.batch_size), str(arguments.epochs)
    backbone = ("--backbone", str(arguments.backbone))
    flags = ("--train-blocks", "lora", "--lora-rank", str(RANK), "--lora-blocks", str(blocks), "--batch-size", size)

    def ours() -> Facts:
        return train(splits, work / "run", *backbone, *flags, "--ngrams", "none", "--epochs", epochs, "--read", "last")

    def peer(sampling: str) -> Facts:
        lora = ("--lora", str(RANK), "--train-blocks", str(blocks), "--batch-size", size, "--sampling", sampling)
        return process("peer_rotary.py", "finetune", *backbone, "--data", str(splits), *lora)

    own, random, grouped = alternate(arguments.rounds, ours, lambda: peer("random"), lambda: peer("group_by_length"))
    print("| the Trainer's batches | ratio | wanted | ours, seconds | the Trainer's |\n|---|---|---|---|---|")
    parts = ", ".join(f"{part} {median(own, part + '_s'):.1f}" for part in COUNTED)
    for sampling, peers in (("random", random), ("by length", grouped)):
        totals = [facts | {"whole_s": whole(facts, arguments.epochs)} for facts in peers]
        ratio = median(totals, "whole_s") / median(own, "whole_s")
        epoch = f"{spread(totals, 'whole_s')}: {median(totals, 'epoch_s'):.1f} an epoch"
        print(f"| {sampling} | {ratio:.2f}× | ≥ 3 | {spread(own, 'whole_s')}: {parts} | {epoch} |")


WORK = {"losses": losses, "time": time_both}


def main() -> None:
    """Measure one comparison and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=list(WORK))
    parser.add_argument("--data", type=Path, required=True, help="the file SMSSpamCollection")
    parser.add_argument("--backbone", type=Path, required=True, help="a folder")
    parser.add_argument("--steps", type=int, default=5, help="of losses")
    parser.add_argument("--rows", type=int, default=500, help="of time")
    parser.add_argument("--epochs", type=int, default=4, help="of time")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
    print(f"{processor()}, {threads} threads, rounds: {arguments.rounds}\n", flush=True)
    tune_cpu()
    with tempfile.TemporaryDirectory(prefix="lasttoken-bench-") as folder:
        WORK[arguments.work](arguments, Path(folder))


if __name__ == "__main__":
    main()
