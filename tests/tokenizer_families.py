"""Small tokenizers with the components of published ones: trained on a few texts, written as tokenizer.json.

    write_tokenizer(folder, FAMILIES["qwen3"])     tokenizer.json, tokenizer_config.json, config.json

Normalizers, pre-tokenizers, post-processors, decoders, switches and kinds of added tokens are those of the published
tokenizer.json files; only the vocabulary is small.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Encoder
from tokenizers import models, pre_tokenizers, trainers

from lasttoken.backbone.tokenizer_pipeline import LLAMA3_SPLIT, QWEN_SPLIT, TEKKEN_SPLIT

Json = dict[str, Any]

N_MERGES = 600
SPACE, SPACE_SIGN = {"String": " "}, {"String": "▁"}
BYTES: Json = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
TEXTS = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness.",
    "Free entry! Text WIN to 80086 now to claim your £1000 prize; call 0800 123 4567 before 31/12/2024. T&Cs apply.",
    "I'll be there at six, don't wait... we're late, aren't we?   They've said they'd come.\n\n\tOk :-) 😀👍🏽",
    "def f(x):\n    return {'a': x + 1, \"b\": [1, 22, 333]}\n\n\nclass A:\n\tpass\r\n",
    "Élodie a mangé une crème brûlée à Zürich; el niño señaló; Straße, ﬁn, naïve, İstanbul.",
    "中文文本和日本語テキスト、한국어 문장, русский текст, עברית, العربية, हिन्दी, ไทย",
)


@dataclass(frozen=True)
class Published:
    """The components of one published tokenizer."""

    model_type: str
    ends_with: str  # the token that ends texts
    special: tuple[str, ...]
    pre_tokenizer: Json | None
    normalizer: Json | None = None
    decoder: Json = field(default_factory=lambda: BYTES | {"type": "ByteLevel"})
    before: tuple[str, ...] = ()  # the frame
    after: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()  # added tokens that are not special: a text may contain them
    switches: Json = field(default_factory=dict)  # of the model
    normalized: bool = False  # of the added tokens that are not special

    @property
    def is_byte_level(self) -> bool:
        """Whether bytes are letters; otherwise characters are, and bytes a fallback."""
        return not self.switches.get("byte_fallback")


def sequence(kind: str, *parts: Json) -> Json:
    """Several components, one after the other."""
    return {"type": "Sequence", kind: list(parts)}


def split(pattern: str, *, removed: bool = False) -> Json:
    """Pieces by a regular expression, then bytes; conversions from tiktoken write it as the removal of the rest."""
    behavior = "Removed" if removed else "Isolated"
    first = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": removed}
    return sequence("pretokenizers", first, BYTES)


DIGITS = sequence("pretokenizers", {"type": "Digits", "individual_digits": True}, BYTES | {"use_regex": True})
SENTENCEPIECE: Json = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
TO_TEXT = (
    {"type": "Replace", "pattern": SPACE_SIGN, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
)
STRIPPED = sequence("decoders", *TO_TEXT, {"type": "Strip", "content": " ", "start": 1, "stop": 0})
PREPENDED = sequence(
    "normalizers",
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": SPACE, "content": "▁"},
)
QWEN = Published(
    "qwen2",
    "<|im_end|>",
    ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    split(QWEN_SPLIT),
    normalizer={"type": "NFC"},
    plain=("<tool_call>", "</tool_call>", "<think>"),
    switches={"continuing_subword_prefix": "", "end_of_word_suffix": ""},
)
FAMILIES: dict[str, Published] = {
    "gpt2": Published("gpt2", "<|endoftext|>", ("<|endoftext|>",), BYTES | {"use_regex": True}),
    "llama3": Published(
        "llama",
        "<|end_of_text|>",
        ("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|eot_id|>"),
        split(LLAMA3_SPLIT),
        before=("<|begin_of_text|>",),
        switches={"ignore_merges": True},
    ),
    "smollm2": Published("llama", "<|endoftext|>", ("<|endoftext|>", "<|im_start|>", "<repo_name>"), DIGITS),
    "llama2": Published(
        "llama",
        "</s>",
        ("<unk>", "<s>", "</s>"),
        None,
        normalizer=PREPENDED,
        decoder=STRIPPED,
        before=("<s>",),
        switches=SENTENCEPIECE,
    ),
    "mistral": Published(
        "mistral",
        "</s>",
        ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
        decoder=STRIPPED,
        before=("<s>",),
        switches=SENTENCEPIECE,
    ),
    "tekken": Published(
        "mistral",
        "</s>",
        ("<unk>", "<s>", "</s>", "[INST]"),
        split(TEKKEN_SPLIT, removed=True),
        before=("<s>",),
        switches={"ignore_merges": True},
    ),
    "qwen2": QWEN,
    "qwen3-embedding": Published(**{**vars(QWEN), "model_type": "qwen3", "after": ("<|endoftext|>",)}),
    "olmo2": Published(
        "olmo2",
        "<|endoftext|>",
        ("<|endoftext|>", "<|pad|>"),
        split(LLAMA3_SPLIT, removed=True),
        plain=("|||IP_ADDRESS|||", "<|extra_id_1|>"),
    ),
    "gemma3": Published(
        "gemma3_text",
        "<eos>",
        ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>"),
        {"type": "Split", "pattern": SPACE, "behavior": "MergedWithPrevious", "invert": False},
        normalizer={"type": "Replace", "pattern": SPACE, "content": "▁"},
        decoder=sequence("decoders", *TO_TEXT),
        before=("<bos>",),
        plain=("\n\n", "\n\n\n", "▁▁", "▁▁▁", "<table>", "<unused0>"),
        switches=SENTENCEPIECE,
    ),
    "smollm3": Published("smollm3", "<|end_of_text|>", ("<|end_of_text|>", "<|im_end|>"), split(LLAMA3_SPLIT)),
    "granite": Published("granite", "<|end_of_text|>", ("<|end_of_text|>", "<fim_prefix>"), DIGITS),
    "ettin": Published(
        "modernbert-decoder",
        "[SEP]",
        ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"),
        BYTES | {"use_regex": True},
        normalizer={"type": "NFC"},
        before=("[CLS]",),
        after=("[SEP]",),
        plain=(*(" " * n for n in range(24, 1, -1)), "|||EMAIL_ADDRESS|||", "[unused0]"),
        normalized=True,
    ),
}


def tokenizer_json(published: Published, texts: Sequence[str] = TEXTS, n_merges: int = N_MERGES) -> Json:
    """The content of a tokenizer.json whose merges are learned from `texts`."""
    tokens, merges = _trained(published, texts, n_merges)
    if published.switches.get("ignore_merges"):
        tokens.append("Ġunmerged")  # a token that no merges build
    first = published.special if not published.is_byte_level else ()  # SentencePiece has its special tokens first
    bytes_of_fallback = [] if published.is_byte_level else [f"<0x{byte:02X}>" for byte in range(256)]
    ids = {token: token_id for token_id, token in enumerate([*first, *bytes_of_fallback, *tokens])}
    added: list[Json] = []
    n_new = 0
    for token in (*published.special, *published.plain):
        is_special = token in published.special
        flags = {"single_word": False, "lstrip": token == "[MASK]", "rstrip": False, "special": is_special}
        token_id = ids.get(token, len(ids) + n_new)
        n_new += token not in ids
        normalized = published.normalized and not is_special
        added.append({"id": token_id, "content": token, **flags, "normalized": normalized})
    every = ids | {token["content"]: token["id"] for token in added}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": published.normalizer,
        "pre_tokenizer": published.pre_tokenizer,
        "post_processor": _post_processor(published, every),
        "decoder": published.decoder,
        "model": {"type": "BPE", "dropout": None, **published.switches, "vocab": ids, "merges": merges},
    }


def _post_processor(published: Published, ids: dict[str, int]) -> Json | None:
    plain = BYTES | {"trim_offsets": False} if published.is_byte_level else None
    if not published.before and not published.after:
        return plain
    single = [
        *({"SpecialToken": {"id": token, "type_id": 0}} for token in published.before),
        {"Sequence": {"id": "A", "type_id": 0}},
        *({"SpecialToken": {"id": token, "type_id": 0}} for token in published.after),
    ]
    around = {*published.before, *published.after}
    special = {token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in around}
    template = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special}
    return sequence("processors", plain, template) if plain else template


def _trained(published: Published, texts: Sequence[str], n_merges: int) -> tuple[list[str], list[list[str]]]:
    """Tokens in the order of their merges, single letters first; and the merges."""
    encoder = Encoder(models.BPE())
    alphabet = pre_tokenizers.ByteLevel.alphabet() if published.is_byte_level else []
    if published.is_byte_level:
        part = json.dumps(published.pre_tokenizer)
        encoder.pre_tokenizer = _pre_tokenizer(part)
    else:
        encoder.pre_tokenizer = pre_tokenizers.Metaspace()  # words with the sign of the space before them
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + n_merges + 300, initial_alphabet=alphabet, show_progress=False
    )
    encoder.train_from_iterator(texts, trainer)
    model = json.loads(encoder.to_str())["model"]
    merges = model["merges"][:n_merges]
    built = {"".join(pair) for pair in merges}
    tokens = [token for token in model["vocab"] if len(token) == 1 or token in built]
    return tokens, merges


def _pre_tokenizer(part: str) -> Any:
    """A pre-tokenizer of the library from its JSON."""
    whole = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}}
    return Encoder.from_str(json.dumps(whole | {"pre_tokenizer": json.loads(part)})).pre_tokenizer


def write_tokenizer(folder: Path, published: Published, texts: Sequence[str] = TEXTS, n_merges: int = N_MERGES) -> Path:
    """Write the files of a tokenizer as a checkpoint folder has them, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = tokenizer_json(published, texts, n_merges)
    ending = next(token["id"] for token in content["added_tokens"] if token["content"] == published.ends_with)
    config = {"model_type": published.model_type, "eos_token_id": ending}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": published.ends_with,
        "clean_up_tokenization_spaces": False,
    }
    for name, file in (("tokenizer", content), ("config", config), ("tokenizer_config", settings)):
        (folder / f"{name}.json").write_text(json.dumps(file, ensure_ascii=False), "utf-8")
    return folder
