"""What the project knows by name: backbones and data sets, with the figures that check them.

    pocket, gpt2, gpt2-medium, gpt2-large, gpt2-xl   ──►  BackboneEntry: where its weights are, its shape
    sms-spam                                         ──►  DatasetEntry: where it is, its size and sha256

Sources: the shapes are those of the four published GPT-2 models (Radford et al., 2019, "Language Models are
Unsupervised Multitask Learners"); the SMS collection is data set 228 of the UCI repository, whose file was
measured byte for byte. A data set is added here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

from lasttoken.core.errors import BackboneError, DataError, nearest, one_of


@dataclass(frozen=True)
class BackboneEntry:
    """A pretrained GPT. `hub_id` None: it comes with the package; `max_length`: longest text trained on, in tokens."""

    name: str
    hub_id: str | None
    n_embd: int
    n_layer: int
    n_head: int
    n_positions: int
    vocab_size: int
    max_length: int
    description: str


@dataclass(frozen=True)
class DatasetEntry:
    """A zip at `url`, of which one file is used: `member`, known by its size and sha256 (hexadecimal).

    `archive_bytes` is the size of the zip where it was published; it is shown, never trusted.
    """

    name: str
    url: str
    archive_bytes: int | None
    member: str
    member_bytes: int
    sha256: str
    licence: str
    citation: str
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

DATASETS: dict[str, DatasetEntry] = {
    entry.name: entry
    for entry in (
        DatasetEntry(
            name="sms-spam",
            url="https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip",
            archive_bytes=None,
            member="SMSSpamCollection",
            member_bytes=477_907,
            sha256="7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d",
            licence="CC BY 4.0",
            citation=(
                "Almeida, T. A., Gómez Hidalgo, J. M., Yamakami, A.: Contributions to the Study of SMS Spam "
                "Filtering: New Collection and Results. ACM Symposium on Document Engineering, 2011"
            ),
            description="5,574 English text messages, 4,827 ham and 747 spam, as label<TAB>text without a header",
        ),
    )
}


def find_backbone(name: str) -> BackboneEntry:
    """The entry of a backbone.

    >>> find_backbone("gpt2").n_embd
    768

    Raises:
        BackboneError: not in the catalog; the message lists what is, the nearest names first.
    """
    if name not in BACKBONES:
        raise BackboneError(
            f"there is no backbone {name!r}{nearest(name, BACKBONES)}; use one of {one_of(BACKBONES)}, "
            "a folder, or a hub id such as 'openai-community/gpt2'"
        )
    return BACKBONES[name]


def find_dataset(name: str) -> DatasetEntry:
    """The entry of a data set.

    Raises:
        DataError: not in the catalog; the message lists what is, the nearest names first.
    """
    if name not in DATASETS:
        raise DataError(f"there is no data set {name!r}{nearest(name, DATASETS)}; use one of {one_of(DATASETS)}")
    return DATASETS[name]
