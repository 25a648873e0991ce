"""Byte-pair encoding, read from any of the three forms in which GPT-2's is published.

    tokenizer.json   |   vocab.json + merges.txt   |   encoder.json + vocab.bpe

    "Do you have time" ─► 5211 345 423 640   (GPT-2's)

Special tokens in a user's text are text: `<|endoftext|>` becomes the tokens of those characters, never the special
token. Added tokens that are not special, such as Qwen3's `<think>`, stay whole. The `tokenizers` library does the
work; tokenizer_pipeline.py says what a file may ask of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Encoder

from lasttoken.backbone.frame import frame_of
from lasttoken.backbone.tokenizer_pipeline import check_bytes, check_pipeline, check_vocabulary
from lasttoken.core.documents import MAX_BYTES, load_json
from lasttoken.core.errors import BackboneError, LastTokenError

END_OF_TEXT = "<|endoftext|>"  # GPT-2's; a family names its own
PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
MAX_UNUSED_ROWS = 127  # embeddings are padded to a multiple of up to 128 for speed; more means another tokenizer,
MAX_UNUSED_FRACTION = 1 / 256  # or this part of the rows, if that is more: Qwen 2.5 7B leaves 399 of 152,064 unused


class Tokenizer:
    """Texts to token ids and back."""

    def __init__(self, encoder: Encoder, end_of_text: str = END_OF_TEXT, where: str = "the tokenizer") -> None:
        """`end_of_text`: the token that ends texts; in a text its characters are text. `where`: for messages.

        Raises:
            BackboneError: see `frame_of`.
        """
        self._encoder, self.end_of_text = encoder, end_of_text
        encoder.no_padding()
        encoder.no_truncation()
        encoder.encode_special_tokens = True  # special tokens in a text are text
        self.prefix_ids, self.suffix_ids = frame_of(encoder, where)  # `encode` leaves them out

    @classmethod
    def load(cls, folder: Path, end_of_text: str | int = END_OF_TEXT) -> Tokenizer:
        """Read the tokenizer files of a checkpoint folder; `end_of_text` is the token that ends texts, or its id.

        Raises:
            BackboneError: there are none, a file cannot be read as a tokenizer, or no token has that id.
        """
        whole = folder / "tokenizer.json"
        pairs = [(folder / vocab, folder / merges) for vocab, merges in PAIRS]
        pair = next((pair for pair in pairs if pair[0].is_file() and pair[1].is_file()), None)
        source = whole if whole.is_file() else pair[0] if pair else None
        if source is None:
            names = "tokenizer.json, vocab.json + merges.txt, or encoder.json + vocab.bpe"
            raise BackboneError(f"{folder} holds no tokenizer; put {names} beside the weights")
        with _library_errors(f"{source} cannot be read as a tokenizer"):
            encoder = _from_whole(whole) if pair is None or source == whole else _from_pair(*pair, end_of_text)
        ending = encoder.id_to_token(end_of_text) if isinstance(end_of_text, int) else end_of_text
        if ending is None:
            raise BackboneError(
                f"{source} has no token with the id {end_of_text}, which ends texts according to eos_token_id in "
                "config.json; put the tokenizer that the weights were trained with beside them"
            )
        with _library_errors(f"{source} cannot be read as a tokenizer"):
            tokenizer = cls(encoder, ending, str(source))
        tokenizer._check_special(source)
        return tokenizer

    def _check_special(self, source: Path) -> None:
        """Reject a tokenizer that turns characters of a text into a special token.

        Raises:
            BackboneError: names the token.
        """
        frame = {*self.prefix_ids, *self.suffix_ids}
        for token_id, token in self._encoder.get_added_tokens_decoder().items():
            if token.special or token.content == self.end_of_text or token_id in frame:
                texts = (token.content, f"a{token.content}b", f" {token.content} ")
                if any(token_id in ids for ids in self.encode_many(texts)):
                    raise BackboneError(
                        f"{source} turns the text {token.content!r} into a special token; mark it as special there, "
                        "and remove the merges that build it"
                    )

    @property
    def n_tokens(self) -> int:
        """The number of tokens in the vocabulary, including special ones."""
        return self._encoder.get_vocab_size(with_added_tokens=True)

    @property
    def end_of_text_id(self) -> int | None:
        """The id of the token that ends texts, if the vocabulary has it."""
        return self._encoder.token_to_id(self.end_of_text)

    @property
    def n_frame(self) -> int:
        """The number of tokens that the model's own tokenizer puts around a text (backbone/frame.py)."""
        return len(self.prefix_ids) + len(self.suffix_ids)

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, without a frame; an empty list for the empty text."""
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of several texts, in parallel. A lone surrogate, not being a character, becomes U+FFFD."""
        clean = [text if text.isascii() else _encodable(text) for text in texts]
        with _library_errors("the tokenizer cannot encode a text"):
            return [encoding.ids for encoding in self._encoder.encode_batch_fast(clean, add_special_tokens=False)]

    def encode_with_special(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of texts of a developer's own: names of special tokens in them are those tokens."""
        with _library_errors("the tokenizer cannot encode a text"):
            encoder = Encoder.from_str(self.to_json())  # a copy, because other threads may be encoding users' texts
            return [encoder.encode(_encodable(text), add_special_tokens=False).ids for text in texts]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Start and end of each token of `encode`, in characters of the text; parts of one character have the same."""
        return self._encoder.encode(_encodable(text), add_special_tokens=False).offsets

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids; bytes that are not valid UTF-8 become U+FFFD."""
        return self._encoder.decode(list(token_ids), skip_special_tokens=False)

    def to_json(self) -> str:
        """The content of a tokenizer.json."""
        return self._encoder.to_str()

    def check_fits(self, vocab_size: int, where: Path) -> None:
        """Reject a tokenizer that cannot belong to an embedding of `vocab_size` rows.

        Special tokens that are in no text and no frame do not need a row: Gemma 3's tokenizer has one for images.

        Raises:
            BackboneError: it has ids beyond the embedding, or far fewer tokens than the embedding has rows.
        """
        added = self._encoder.get_added_tokens_decoder()
        used = {*self.prefix_ids, *self.suffix_ids, self.end_of_text_id}
        beyond = {i for i, token in added.items() if token.special and i >= vocab_size > 0 and i not in used}
        ids = set(self._encoder.get_vocab(with_added_tokens=True).values()) - beyond
        largest, n_tokens = max(ids, default=-1), self.n_tokens - len(beyond)
        if largest >= vocab_size > 0 and n_tokens <= vocab_size:
            raise BackboneError(
                f"the tokenizer in {where} has the id {largest:,}, but the weights embed {vocab_size:,} tokens; put "
                "the tokenizer that the weights were trained with beside them"
            )
        if not 0 <= vocab_size - n_tokens <= max(MAX_UNUSED_ROWS, int(vocab_size * MAX_UNUSED_FRACTION)):
            raise BackboneError(
                f"the tokenizer in {where} has {self.n_tokens:,} tokens, but the weights embed {vocab_size:,}; put "
                "the tokenizer that the weights were trained with beside them"
            )


class _UnreadableError(LastTokenError):
    """A file that is not JSON; `_library_errors` makes the sentence."""


def _encodable(text: str) -> str:
    return LONE_SURROGATE.sub("\ufffd", text)


@contextmanager
def _library_errors(what: str) -> Iterator[None]:
    """Turn whatever the library raises into one sentence.

    It raises a bare Exception for a malformed file, and a PanicException, which is not an Exception, for what it did
    not foresee.

    Raises:
        BackboneError: `what`, and the library's reason.
    """
    try:
        yield
    except (BackboneError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        why = str(error).partition("\n")[0][:200]
        raise BackboneError(f"{what}: {why}; fetch it again") from error


def _from_whole(path: Path) -> Encoder:
    content = load_json(path, _UnreadableError)
    check_pipeline(content, path)
    encoder = Encoder.from_str(path.read_text("utf-8"))
    for token in content.get("added_tokens") or []:
        if encoder.token_to_id(token["content"]) != token["id"]:
            raise BackboneError(f"{path}: the added token {token['content']!r} has two ids; fetch it again")
    return encoder


def _from_pair(vocab: Path, merges: Path, end_of_text: str | int) -> Encoder:
    ids = load_json(vocab, _UnreadableError)
    with merges.open("rb") as file:
        lines = file.read(MAX_BYTES).decode("utf-8").split("\n")
    rules = [tuple(line.split(" ", 1)) for line in lines if line and not line.startswith("#version")]
    check_vocabulary(ids, rules, vocab)
    check_bytes(ids, vocab)
    encoder = Encoder(models.BPE(vocab=ids, merges=rules))  # type: ignore[arg-type]
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder.decoder = decoders.ByteLevel()
    ending = encoder.id_to_token(end_of_text) if isinstance(end_of_text, int) else end_of_text
    if ending in ids:
        encoder.add_special_tokens([AddedToken(ending, special=True, normalized=False)])
    return encoder
