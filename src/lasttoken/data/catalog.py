"""The public data sets that the project knows by name, each with the size and sha256 that check it.

    sms-spam   ──►  DatasetEntry: where it is, which file of the archive is used, its size and sha256

The SMS collection is data set 228 of the UCI repository; its file was measured byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass

from lasttoken.core.errors import DataError, nearest, one_of
from lasttoken.core.published import PublishedFile


@dataclass(frozen=True)
class DatasetEntry:
    """A zip at `url`, of which one file, `member`, is used; its size and sha256 (hexadecimal) are checked."""

    name: str
    url: str
    archive_bytes: int | None  # size of the zip if it is published; for display only
    member: str
    member_bytes: int
    sha256: str
    licence: str
    citation: str
    description: str

    @property
    def published(self) -> PublishedFile:
        """The member as it was published."""
        return PublishedFile(self.member_bytes, self.sha256)


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


def find_dataset(name: str) -> DatasetEntry:
    """The entry of a data set.

    Raises:
        DataError: it is not in the catalog; the message names similar entries, then all.
    """
    if name not in DATASETS:
        raise DataError(f"there is no data set {name!r}{nearest(name, DATASETS)}; use one of {one_of(DATASETS)}")
    return DATASETS[name]
