"""Which tokenizer.json files are accepted: byte-pair encoding, with the parts that published GPTs use around it.

    text ─► normalizer ─► pre_tokenizer ─► BPE ─► token_ids     (post_processor: frame.py; decoder: only decodes)

A tokenizer.json is a program: 34 normalizers in a row that each double a letter fill any memory, and a regular
expression can run for ever. So only the parts listed here are accepted, and each of them bounds the size of its output:
no Replace makes a text longer, bytes are mapped to letters once, and the expressions are known ones. A text of n
characters then has at most 12·n + 64 tokens, because NFC makes up to 3 characters of one, and UTF-8 up to 4 bytes.

Families: GPT-2, Llama 3, Qwen, SmolLM, OLMo 2, Granite, Mistral Nemo, ModernBERT (byte-level); Llama 2, Mistral, Gemma
(▁ for a space, bytes as a fallback). Added tokens that are not special, such as ModernBERT's runs of spaces, are found
in texts and stay whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Len
from pydantic import Discriminator
from tokenizers import pre_tokenizers

from lasttoken.backbone.frame import MAX_FRAME
from lasttoken.core.documents import STRICT, OneOf, checked
from lasttoken.core.errors import BackboneError

MAX_PARTS = 8  # in a Sequence; Llama 3 has two
MAX_TOKENS = 1_000_000  # Gemma has 262,144
MAX_ADDED = 20_000  # Gemma has 6,415
MAX_MERGES = 3_000_000
GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN_SPLIT = LLAMA3_SPLIT.replace("{1,3}", "")
GPT4O_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN_SPLIT = GPT4O_SPLIT.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace("{1,3}", "")  # Mistral Nemo and later
SPLITS = (GPT2_SPLIT, LLAMA3_SPLIT, QWEN_SPLIT, GPT4O_SPLIT, TEKKEN_SPLIT)
Few = Len(0, MAX_PARTS)
Short = Annotated[str, Len(1, 8)]
Nothing = Literal[""] | None
ByType = Discriminator("type")


@dataclass(frozen=True)
class Characters:
    """A pattern of literal characters."""

    __pydantic_config__ = STRICT

    String: Short


@dataclass(frozen=True)
class Pattern:
    """Literal characters, or a regular expression."""

    __pydantic_config__ = STRICT

    String: Short | None = None
    Regex: Annotated[str, OneOf(SPLITS)] | None = None


@dataclass(frozen=True)
class NFC:
    """Unicode normalization to the composed form."""

    __pydantic_config__ = STRICT

    type: Literal["NFC"]


@dataclass(frozen=True)
class Prepend:
    """Characters that are put before the text."""

    __pydantic_config__ = STRICT

    type: Literal["Prepend"]
    prepend: Short


@dataclass(frozen=True)
class Replace:
    """Characters that replace others; never by a longer string."""

    __pydantic_config__ = STRICT

    type: Literal["Replace"]
    pattern: Characters
    content: Annotated[str, Len(0, 8)]

    def __post_init__(self) -> None:
        if len(self.content) > len(self.pattern.String):
            raise ValueError("it makes a text longer")


@dataclass(frozen=True)
class ByteLevel:
    """Each byte becomes a letter."""

    __pydantic_config__ = STRICT

    type: Literal["ByteLevel"]
    add_prefix_space: bool = True
    trim_offsets: bool = True
    use_regex: bool = True


@dataclass(frozen=True)
class Split:
    """Cuts the text into pieces; no token crosses a cut."""

    __pydantic_config__ = STRICT

    type: Literal["Split"]
    pattern: Pattern
    behavior: Annotated[str, OneOf(("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"))]
    invert: bool = False

    def __post_init__(self) -> None:
        keeps_all = self.behavior != "Removed" or (self.invert and self.pattern.Regex is not None)
        if not keeps_all:  # the expressions match all characters, so that removing the rest removes none
            raise ValueError("it removes characters from texts")


@dataclass(frozen=True)
class Digits:
    """Separates digits from letters."""

    __pydantic_config__ = STRICT

    type: Literal["Digits"]
    individual_digits: bool = False


@dataclass(frozen=True)
class Metaspace:
    """Replaces each space by a letter."""

    __pydantic_config__ = STRICT

    type: Literal["Metaspace"]
    replacement: Annotated[str, Len(1, 1)] = "▁"
    prepend_scheme: Literal["always", "never", "first"] = "always"
    split: bool = True
    add_prefix_space: bool = True
    str_rep: Annotated[str, Len(1, 1)] = "▁"


@dataclass(frozen=True)
class Plain:
    """A part that does not change how a text is encoded."""

    __pydantic_config__ = {"extra": "ignore"}  # noqa: RUF012

    type: Literal["ByteLevel", "ByteFallback", "Fuse", "Metaspace"]


@dataclass(frozen=True)
class Template:
    """Tokens around a text; the text itself stands in it once, because a template can repeat it."""

    __pydantic_config__ = {"extra": "ignore"}  # noqa: RUF012

    type: Literal["TemplateProcessing"]
    single: Annotated[list[dict[str, Any]], Len(1, MAX_FRAME + 1)]

    def __post_init__(self) -> None:
        if sum("Sequence" in piece for piece in self.single) != 1:
            raise ValueError("its template does not hold the text once")


@dataclass(frozen=True)
class Strip:
    """Llama 2's decoder removes characters at the start."""

    __pydantic_config__ = {"extra": "ignore"}  # noqa: RUF012

    type: Literal["Strip"]
    content: Annotated[str, Len(1, 1)] = " "
    start: Annotated[int, Ge(0)] = 0
    stop: Annotated[int, Ge(0)] = 0


@dataclass(frozen=True)
class Normalizers:
    """One after the other."""

    __pydantic_config__ = STRICT

    type: Literal["Sequence"]
    normalizers: Annotated[list[Annotated[NFC | Prepend | Replace, ByType]], Few]


@dataclass(frozen=True)
class PreTokenizers:
    """One after the other."""

    __pydantic_config__ = STRICT

    type: Literal["Sequence"]
    pretokenizers: Annotated[list[Annotated[ByteLevel | Split | Digits | Metaspace, ByType]], Few]

    def __post_init__(self) -> None:
        if sum(isinstance(part, ByteLevel) for part in self.pretokenizers) > 1:
            raise ValueError("it maps bytes to letters twice")


@dataclass(frozen=True)
class Processors:
    """One after the other."""

    type: Literal["Sequence"]
    processors: Annotated[list[Annotated[Plain | Template, ByType]], Few]

    def __post_init__(self) -> None:
        if sum(isinstance(part, Template) for part in self.processors) > 1:
            raise ValueError("it has two templates")


@dataclass(frozen=True)
class Decoders:
    """One after the other."""

    type: Literal["Sequence"]
    decoders: Annotated[list[Annotated[Plain | Strip | Replace, ByType]], Few]


@dataclass(frozen=True)
class Added:
    """A token in addition to the model's."""

    __pydantic_config__ = STRICT

    id: Annotated[int, Ge(0)]
    content: Annotated[str, Len(1, 256)]
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False


@dataclass(frozen=True)
class BPE:
    """Byte-pair encoding, without its vocabulary and merges. Dropout would give other tokens every time."""

    __pydantic_config__ = STRICT

    type: Literal["BPE"] = "BPE"
    dropout: None = None
    unk_token: Annotated[str, Len(1, 256)] | None = None
    continuing_subword_prefix: Nothing = None
    end_of_word_suffix: Nothing = None
    fuse_unk: bool = False
    byte_fallback: bool = False
    ignore_merges: bool = False


@dataclass(frozen=True)
class Pipeline:
    """A tokenizer.json, without vocabulary and merges."""

    __pydantic_config__ = STRICT

    model: BPE
    version: str = "1.0"
    truncation: Any = None  # this and padding are switched off
    padding: Any = None
    added_tokens: Annotated[list[Added], Len(0, MAX_ADDED)] = field(default_factory=list)
    normalizer: Annotated[NFC | Prepend | Replace | Normalizers, ByType] | None = None
    pre_tokenizer: Annotated[ByteLevel | Split | Digits | Metaspace | PreTokenizers, ByType] | None = None
    post_processor: Annotated[Plain | Template | Processors, ByType] | None = None
    decoder: Annotated[Plain | Strip | Replace | Decoders, ByType] | None = None


def check_pipeline(content: Mapping[str, Any], path: Path) -> None:
    """Reject the content of a tokenizer.json with parts that are not listed above.

    Raises:
        BackboneError: names the part, its value and the allowed ones.
    """
    model = content.get("model")
    if not isinstance(model, dict):
        raise BackboneError(f"{path} cannot be read as a tokenizer: it has no model; fetch it again")
    check_vocabulary(model.get("vocab"), model.get("merges"), path)
    rest = {name: value for name, value in model.items() if name not in ("vocab", "merges")}
    advice = "only the parts that published GPTs use are run"
    pipeline = checked(Pipeline, {**content, "model": rest}, path, BackboneError, advice)
    first = pipeline.pre_tokenizer
    parts = first.pretokenizers if isinstance(first, PreTokenizers) else [first]
    if any(isinstance(part, ByteLevel) for part in parts):
        check_bytes(model["vocab"], path)
    else:
        check_fallback(pipeline.model, model["vocab"], path)


def check_fallback(model: BPE, vocab: Mapping[str, int], path: Path) -> None:
    """Reject a vocabulary of characters that has no tokens for other characters, which would vanish from texts.

    Raises:
        BackboneError: says what is missing.
    """
    has_bytes = model.byte_fallback and all(f"<0x{byte:02X}>" in vocab for byte in range(256))
    if not has_bytes and model.unk_token not in vocab:
        raise BackboneError(
            f"{path}: pre_tokenizer has no ByteLevel, and model has neither byte_fallback with tokens for all bytes "
            "nor an unk_token, so characters without a token would be lost; fetch it again"
        )


def check_bytes(vocab: Mapping[str, int], path: Path) -> None:
    """Reject a byte-level vocabulary that lacks a byte of ordinary texts, which would silently vanish from them.

    Bytes that UTF-8 never has, or only in planes without characters, and control characters may be missing: SmolLM2's
    tokenizer lacks 21 of them.

    Raises:
        BackboneError: names the byte's letter.
    """
    missing = sorted(_letters_of_texts() - vocab.keys())
    if missing:
        raise BackboneError(
            f"{path} cannot be read as a tokenizer: {len(missing)} of the 256 bytes have no token (such as "
            f"{missing[0]!r}), and texts would lose them; fetch it again"
        )


@cache
def _letters_of_texts() -> frozenset[str]:
    """The letters by which byte-level vocabularies write the bytes of texts, without the rare ones of `check_bytes`."""
    to_letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    controls = "".join(map(chr, set(range(0x20)) - set(b"\t\n\r"))) + "\x7f"
    rare = {letter for control in controls for letter in to_letters.pre_tokenize_str(control)[0][0]}
    rare |= {chr(byte) for byte in (0xC0, 0xC1, 0xF1, 0xF2, *range(0xF5, 0x100))}  # these letters stand for themselves
    return frozenset(set(pre_tokenizers.ByteLevel.alphabet()) - rare)


def check_vocabulary(vocab: Any, merges: Any, path: Path) -> None:
    """Reject a vocabulary or merges of too many entries, and ids that are not distinct integers from 0.

    Raises:
        BackboneError: says what is wrong.
    """
    unreadable = f"{path} cannot be read as a tokenizer"
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise BackboneError(f"{unreadable}: its model has no vocab and merges; fetch it again")
    if len(vocab) > MAX_TOKENS or len(merges) > MAX_MERGES:
        raise BackboneError(
            f"{unreadable}: {len(vocab):,} tokens and {len(merges):,} merges are more than "
            f"{MAX_TOKENS:,} and {MAX_MERGES:,}"
        )
    wrong = next(
        (token for token, token_id in vocab.items() if type(token_id) is not int or not 0 <= token_id < 2**31), None
    )
    if wrong is not None:
        raise BackboneError(f"{unreadable}: token {wrong[:40]!r} has the id {str(vocab[wrong])[:40]}; fetch it again")
    if len(set(vocab.values())) < len(vocab):
        raise BackboneError(f"{unreadable}: two tokens have the same id; fetch it again")
