"""The tokenizer in a GGUF's keys: byte-level byte-pair encoding, and how a text is split before it.

    tokenizer.ggml.{model, pre, tokens, merges, token_type, add_bos_token, …}  ──►  a pipeline of the `tokenizers`
    library

The file does not hold the pattern that splits a text before pairs are merged, only a name for it (`pre`). With another
pattern the tokens are other ones than the model was trained on, so an unknown name is rejected. The patterns are
those of the tokenizer.json files from which llama.cpp made the names (src/llama-vocab.cpp).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Encoder

from lasttoken.backbone.gguf.file import GGUFFile
from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.backbone.tokenizer_pipeline import (
    GPT4O_SPLIT,
    LLAMA3_SPLIT,
    QWEN_SPLIT,
    TEKKEN_SPLIT,
    check_bytes,
    check_vocabulary,
)
from lasttoken.core.errors import BackboneError, short_repr

CONTROL, USER_DEFINED = 3, 4  # of tokenizer.ggml.token_type
TOKENIZER_FILE = "tokenizer.json"
PUT_BESIDE = f"put the {TOKENIZER_FILE} of the original model beside the file"


@dataclass(frozen=True)
class Pre:
    """How a text is split before byte-pair encoding."""

    split: str | None = None  # a regular expression; None: GPT-2's, which the library has built in
    single_digits: bool = False  # each digit is cut off before that
    nfc: bool = False  # the text is normalized to composed characters
    ignore_merges: bool = False  # a piece that is a token is not built from merges
    add_bos: bool = False  # where tokenizer.ggml.add_bos_token is absent


GPT2, DIGITS = Pre(), Pre(single_digits=True)
LLAMA3 = Pre(LLAMA3_SPLIT, ignore_merges=True, add_bos=True)
PRES = {
    **dict.fromkeys(("gpt-2", "mpt", "jais", "trillion", "granite-docling", "exaone4"), GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), DIGITS),
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "midm-2.0"), LLAMA3),
    **dict.fromkeys(("dbrx", "smaug-bpe"), Pre(LLAMA3_SPLIT)),
    "qwen2": Pre(QWEN_SPLIT, nfc=True),
    "deepseek-r1-qwen": Pre(QWEN_SPLIT),
    "tekken": Pre(TEKKEN_SPLIT, ignore_merges=True, add_bos=True),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2"), Pre(GPT4O_SPLIT)),
}


def read_tokenizer(file: GGUFFile, end_of_text: str | int) -> Tokenizer:
    """The tokenizer of a GGUF, or that of a tokenizer.json beside it.

    `end_of_text` is the token that ends texts, or its id.

    Raises:
        BackboneError: the file has no tokenizer, or one whose kind or pattern is not known, or values that contradict
            each other.
    """
    if (file.path.parent / TOKENIZER_FILE).is_file():
        return Tokenizer.load(file.path.parent, end_of_text)
    tokens = _strings(file, "tokenizer.ggml.tokens")
    pre = _known_pre(file)
    encoder = _encoder(file, tokens, pre)
    _add_frame(file, encoder, tokens, pre)
    ending = encoder.id_to_token(end_of_text) if isinstance(end_of_text, int) else end_of_text
    if ending is None or encoder.token_to_id(ending) is None:
        raise BackboneError(
            f"{file.path} has no token {end_of_text!r}, which ends texts; {PUT_BESIDE}, or fetch the GGUF again"
        )
    return Tokenizer(encoder, ending, str(file.path))


def _strings(file: GGUFFile, key: str) -> list[str]:
    value = file.keys.get(key)
    if value is None and key == "tokenizer.ggml.tokens":
        raise BackboneError(f"{file.path} holds no tokenizer (no key {key}); {PUT_BESIDE}, or give another GGUF")
    if not isinstance(value, list):
        raise BackboneError(f"{file.path} has no list of strings as {key}; {PUT_BESIDE}, or fetch the GGUF again")
    return value


def _known_pre(file: GGUFFile) -> Pre:
    """How this tokenizer splits texts."""
    model = file.get("tokenizer.ggml.model", str)
    if model != "gpt2":
        raise BackboneError(
            f"{file.path} has a tokenizer of the kind {short_repr(model)} (SentencePiece is 'llama'), and "
            "only byte-level "
            f"byte-pair encoding ('gpt2') is read from a GGUF; {PUT_BESIDE}"
        )
    name = file.get("tokenizer.ggml.pre", str, "default")
    if name == "default" and file.get("general.architecture", str) == "gpt2":
        return GPT2  # older files do not name it
    if name not in PRES:
        raise BackboneError(
            f"{file.path} has tokenizer.ggml.pre = {short_repr(name)}, which does not name a known way to split texts "
            f"before byte-pair encoding; {PUT_BESIDE}"
        )
    return PRES[name]


def _encoder(file: GGUFFile, tokens: list[str], pre: Pre) -> Encoder:
    merges = [tuple(merge.split(" ", 1)) for merge in _strings(file, "tokenizer.ggml.merges")]
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    check_vocabulary(vocab, merges, file.path)
    check_bytes(vocab, file.path)
    if len(vocab) < len(tokens):
        twice = next(token for token_id, token in enumerate(tokens) if vocab[token] != token_id)
        raise BackboneError(f"{file.path} cannot be read as a tokenizer: token {short_repr(twice)} has two ids")
    strange = next((pair for pair in merges if len(pair) != 2 or not _are_tokens(*pair, vocab)), None)
    if strange is not None:
        raise BackboneError(
            f"{file.path} cannot be read as a tokenizer: the merge {short_repr(' '.join(strange))} is not "
            "made of tokens"
        )
    encoder = Encoder(models.BPE(vocab=vocab, merges=merges, ignore_merges=pre.ignore_merges))  # type: ignore[arg-type]
    encoder.pre_tokenizer = _pre_tokenizer(pre)
    encoder.decoder = decoders.ByteLevel()
    if pre.nfc:
        encoder.normalizer = normalizers.NFC()
    _add_tokens(file, encoder, tokens)
    return encoder


def _are_tokens(left: str, right: str, vocab: Mapping[str, int]) -> bool:
    return left in vocab and right in vocab and left + right in vocab


def _pre_tokenizer(pre: Pre) -> Any:
    parts: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if pre.single_digits else []
    if pre.split is not None:
        parts.append(pre_tokenizers.Split(Regex(pre.split), behavior="isolated"))
    parts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre.split is None))
    return parts[0] if len(parts) == 1 else pre_tokenizers.Sequence(parts)


def _add_tokens(file: GGUFFile, encoder: Encoder, tokens: list[str]) -> None:
    """Mark control tokens as special, so that no text contains them; user-defined ones are cut out of texts."""
    types = file.keys.get("tokenizer.ggml.token_type", [])
    if len(types) not in (0, len(tokens)):
        raise BackboneError(
            f"{file.path} cannot be read as a tokenizer: it has {len(tokens):,} tokens, and types of {len(types):,}"
        )
    control = [tokens[token_id] for token_id, kind in enumerate(types) if kind == CONTROL]
    user_defined = [tokens[token_id] for token_id, kind in enumerate(types) if kind == USER_DEFINED]
    encoder.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    encoder.add_tokens([AddedToken(token, special=False, normalized=False) for token in user_defined])


def _add_frame(file: GGUFFile, encoder: Encoder, tokens: list[str], pre: Pre) -> None:
    """Let the tokenizer put the model's start and end tokens around texts, as a tokenizer.json says it."""
    starts = file.get("tokenizer.ggml.add_bos_token", bool, pre.add_bos)
    ends = file.get("tokenizer.ggml.add_eos_token", bool, False)
    before = [_token_id(file, tokens, "bos_token_id")] if starts else []
    after = [_token_id(file, tokens, "eos_token_id")] if ends else []
    if before or after:
        names = {tokens[token_id]: token_id for token_id in (*before, *after)}
        encoder.post_processor = processors.TemplateProcessing(
            single=[*(tokens[token_id] for token_id in before), "$A", *(tokens[token_id] for token_id in after)],
            special_tokens=list(names.items()),
        )


def _token_id(file: GGUFFile, tokens: list[str], key: str) -> int:
    token_id: int = file.get(f"tokenizer.ggml.{key}", int)
    if not 0 <= token_id < len(tokens):
        raise BackboneError(
            f"{file.path} has tokenizer.ggml.{key} = {token_id:,}, and {len(tokens):,} tokens; fetch it again"
        )
    return token_id
