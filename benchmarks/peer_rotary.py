"""transformers' side of benchmarks/rotary.py, in a process of its own; prints one line of JSON.

    python benchmarks/peer_rotary.py finetune --backbone FOLDER --data SPLITS --sampling random
    python benchmarks/peer_rotary.py score --run RUN --texts FILE.json --sizes 1 8 32

`finetune` is transformers' Trainer with a classifier on the last token: all but the last blocks, the final norm and the
head is frozen; batches are padded to their longest text. With --lora RANK these blocks are frozen too, and peft trains
updates of all their linear layers. It times one epoch, one evaluation of validation and one of
test, which cost the same in every epoch. `score` is the text-classification pipeline on the weights of a run, without
the bias of its head, which transformers has no place for.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lasttoken.backbone.families import family_of
from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.classifier.predict import Predictor
from lasttoken.core.columns import SPLIT_COLUMNS
from lasttoken.core.documents import to_json
from lasttoken.core.process import tune_cpu
from lasttoken.data.files import read_examples
from lasttoken.data.label_tables import labels_of
from lasttoken.export.hf_tokenizer import ExportedTokenizer

Rows = list[dict[str, Any]]


def encoded_split(folder: Path, name: str, tokenizer: Tokenizer) -> Rows:
    """The rows of a split file as the Trainer wants them."""
    examples = read_examples(folder / f"{name}.csv", SPLIT_COLUMNS)
    ids = tokenizer.encode_many(examples.texts)
    return [
        {"input_ids": row, "attention_mask": [1] * len(row), "length": len(row), "labels": int(label == "spam")}
        for row, label in zip(ids, labels_of(examples), strict=True)
    ]


def padded(rows: Rows) -> dict[str, torch.Tensor]:
    """A batch, padded on the right to its longest text."""
    longest = max(len(row["input_ids"]) for row in rows)

    def column(name: str, filler: int) -> torch.Tensor:
        return torch.tensor([row[name] + [filler] * (longest - len(row[name])) for row in rows])

    labels = torch.tensor([row["labels"] for row in rows])
    return {"input_ids": column("input_ids", 0), "attention_mask": column("attention_mask", 0), "labels": labels}


def with_last_blocks(model: Any, n_blocks: int) -> Any:
    """The model with its last blocks, final norm and head trainable."""
    model.requires_grad_(False)
    for module in (*model.model.layers[-n_blocks:], model.model.norm, model.score):
        module.requires_grad_(True)
    return model


def with_lora(model: Any, arguments: argparse.Namespace) -> Any:
    """The model with peft's LoRA in all linear layers of its last blocks; final norm and head are trained whole."""
    from peft import LoraConfig, get_peft_model

    n_layer = model.config.num_hidden_layers
    config = LoraConfig(
        r=arguments.lora,
        lora_alpha=2 * arguments.lora,
        target_modules=[f"{word}_proj" for word in ("q", "k", "v", "o", "gate", "up", "down")],
        layers_to_transform=list(range(n_layer - arguments.train_blocks, n_layer)),
        modules_to_save=["model.norm", "score"],
        task_type="SEQ_CLS",
    )
    return get_peft_model(model, config)


def finetune(arguments: argparse.Namespace) -> dict[str, Any]:
    """The seconds of loading, of an epoch, and of an evaluation of validation and of test."""
    from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

    tokenizer = Tokenizer.load(arguments.backbone)
    started = time.perf_counter()
    splits = {name: encoded_split(arguments.data, name, tokenizer) for name in ("train", "validation", "test")}
    encode_s, started = time.perf_counter() - started, time.perf_counter()
    torch.manual_seed(123)
    model = AutoModelForSequenceClassification.from_pretrained(arguments.backbone, num_labels=2)
    model.config.pad_token_id, model.config.use_cache = tokenizer.n_tokens - 1, False
    model = with_lora(model, arguments) if arguments.lora else with_last_blocks(model, arguments.train_blocks)
    load_s = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder, num_train_epochs=1, per_device_train_batch_size=arguments.batch_size,
            per_device_eval_batch_size=arguments.batch_size, learning_rate=8e-4, lr_scheduler_type="cosine",
            warmup_steps=0.1, weight_decay=0.1, max_grad_norm=1.0, optim="adamw_torch_fused", use_cpu=True,
            train_sampling_strategy=arguments.sampling, remove_unused_columns=False, logging_strategy="no",
            save_strategy="no", report_to="none", disable_tqdm=True, dataloader_pin_memory=False, seed=123,
        )  # fmt: skip
        trainer = Trainer(model=model, args=settings, train_dataset=splits["train"], data_collator=padded)
        started = time.perf_counter()
        trainer.train()
        seconds = {"epoch_s": time.perf_counter() - started}
        for name in ("validation", "test"):
            started = time.perf_counter()
            trainer.evaluate(splits[name])  # type: ignore[arg-type]
            seconds[f"{name}_s"] = time.perf_counter() - started
    return {
        "load_s": load_s,
        "encode_s": encode_s,
        **seconds,
        "n_tokens": sum(row["length"] for row in splits["train"]),
    }


def write_for_transformers(predictor: Predictor, folder: Path) -> None:
    """A run's classifier as a folder that transformers loads, without the bias of its head."""
    classifier, config = predictor.classifier, predictor.classifier.config
    family = family_of(classifier.decoder.config)
    tokenizer = ExportedTokenizer(predictor.tokenizer, config)
    labels = dict(enumerate(config.labels))
    content = {
        **family.write_config(classifier.decoder.config.without_lm_head()),
        "id2label": labels,
        "label2id": {label: label_id for label_id, label in labels.items()},
        "pad_token_id": tokenizer.pad_id,
    }
    (folder / "config.json").write_text(to_json(content), "utf-8")
    (folder / "tokenizer.json").write_text(to_json(tokenizer.content), "utf-8")
    (folder / "tokenizer_config.json").write_text(to_json(tokenizer.settings()), "utf-8")


def pipeline_of(predictor: Predictor) -> Any:
    """transformers' pipeline with the weights of a run."""
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline

    classifier = predictor.classifier
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_for_transformers(predictor, folder)
        model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(folder))  # type: ignore[no-untyped-call]
        tokenizer = AutoTokenizer.from_pretrained(folder)
    published = family_of(classifier.decoder.config).to_published(classifier.decoder.state_without_lm_head())
    model.load_state_dict({**published, "score.weight": classifier.head.weight})
    model.config.use_cache = False
    return pipeline("text-classification", model=model.eval(), tokenizer=tokenizer, device="cpu")


def score(arguments: argparse.Namespace) -> dict[str, Any]:
    """Texts a second at the batch size that is fastest on some of them, and the logits' largest difference to ours."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    texts = json.loads(arguments.texts.read_text("utf-8"))
    predictor = Predictor.load(arguments.run, device="cpu", precision="float32")
    predictor.classifier.without_ngrams()
    classify = pipeline_of(predictor)
    some, rates = texts[: arguments.some], {}
    list(classify(some[:32], batch_size=8))  # warm
    for size in arguments.sizes:
        started = clock()
        list(classify(some, batch_size=size))
        rates[size] = len(some) / (clock() - started)
    best = max(rates, key=lambda size: rates[size])
    started = clock()
    found = list(classify(texts, batch_size=best, top_k=None, function_to_apply="none"))
    texts_per_s = len(texts) / (clock() - started)
    by_label = [{answer["label"]: answer["score"] for answer in answers} for answers in found]
    theirs = np.array([[answers[label] for label in predictor.labels] for answers in by_label])
    ours = predictor.logits(predictor.encode(texts)) - predictor.classifier.head.bias.detach().numpy()
    return {
        "texts_per_s": texts_per_s,
        "batch_size": best,
        "rates": rates,
        "difference": float(np.abs(ours - theirs).max()),
    }


def main() -> None:
    """One side of one comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("finetune")
    one.add_argument("--backbone", type=Path, required=True)
    one.add_argument("--data", type=Path, required=True, help="a folder with train.csv, validation.csv and test.csv")
    one.add_argument("--sampling", choices=("random", "group_by_length"), default="random")
    one.add_argument("--batch-size", type=int, default=32)
    one.add_argument("--train-blocks", type=int, default=2)
    one.add_argument("--lora", type=int, default=0, help="the rank; 0: no LoRA")
    one.set_defaults(work=finetune)
    two = verbs.add_parser("score")
    two.add_argument("--run", type=Path, required=True)
    two.add_argument("--texts", type=Path, required=True)
    two.add_argument("--some", type=int, default=128)
    two.add_argument("--sizes", type=int, nargs="+", default=[1, 8, 32])
    two.set_defaults(work=score)
    arguments = parser.parse_args()
    tune_cpu()
    print(json.dumps(arguments.work(arguments)))


if __name__ == "__main__":
    main()
