"""The backbones that the project knows by name.

    pocket, gpt2, gpt2-medium, gpt2-large, gpt2-xl   ──►  BackboneEntry: where its weights are, its shape

The shapes are those of the four published GPT-2 models (Radford et al., 2019, "Language Models are Unsupervised
Multitask Learners").
"""

from __future__ import annotations

from dataclasses import dataclass

from lasttoken.core.errors import BackboneError, nearest, one_of


@dataclass(frozen=True)
class BackboneEntry:
    """A pretrained decoder."""

    name: str
    hub_id: str | None  # None: it comes with the package
    n_embd: int
    n_layer: int
    n_head: int
    n_positions: int
    vocab_size: int
    max_length: int  # the longest text it was trained on, in tokens
    description: str


def _gpt2(name: str, n_embd: int, n_layer: int, n_head: int, millions: int) -> BackboneEntry:
    return BackboneEntry(
        name=name,
        hub_id=f"openai-community/{name}",
        n_embd=n_embd,
        n_layer=n_layer,
        n_head=n_head,
        n_positions=1024,
        vocab_size=50257,
        max_length=1024,
        description=f"OpenAI's GPT-2 with {millions:,} million parameters, English, MIT licence",
    )


BACKBONES: dict[str, BackboneEntry] = {
    entry.name: entry
    for entry in (
        BackboneEntry(
            name="pocket",
            hub_id=None,
            n_embd=256,
            n_layer=6,
            n_head=4,
            n_positions=512,
            vocab_size=8192,
            max_length=256,  # its later positions exist but were never trained
            description="the small English GPT that comes with the package and needs no network",
        ),
        _gpt2("gpt2", 768, 12, 12, 124),
        _gpt2("gpt2-medium", 1024, 24, 16, 355),
        _gpt2("gpt2-large", 1280, 36, 20, 774),
        _gpt2("gpt2-xl", 1600, 48, 25, 1558),
    )
}


def find_backbone(name: str) -> BackboneEntry:
    """The entry of a backbone.

    >>> find_backbone("gpt2").n_embd
    768

    Raises:
        BackboneError: it is not in the catalog; the message names similar entries, then all.
    """
    if name not in BACKBONES:
        raise BackboneError(
            f"there is no backbone {name!r}{nearest(name, BACKBONES)}; use one of {one_of(BACKBONES)}, "
            "a folder, or a hub id such as 'openai-community/gpt2'"
        )
    return BACKBONES[name]
