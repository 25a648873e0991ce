"""How much a client may send and how long it may take; the defaults of `lasttoken serve`."""

from __future__ import annotations

from dataclasses import dataclass

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")  # as clients write them in the Host header


@dataclass(frozen=True)
class Limits:
    """Limits of a request and of the server."""

    body_bytes: int = 4_000_000
    texts: int = 1_000
    characters: int = 100_000  # of one text
    explained_characters: int = 5_000  # an explanation takes hundreds of times as long as a classification
    deadline_s: float = 30.0  # until the answer is computed
    header_s: float = 10.0  # until the headers of a request have arrived
    body_s: float = 30.0  # until its body has arrived
    write_s: float = 30.0  # without the client reading any of its answer
    connections: int = 512

    @property
    def values(self) -> int:
        """The most values (strings, numbers, lists, objects) in a body.

        A list of pairs has four for each text; 200 are more than an interface's other fields need.
        """
        return 4 * self.texts + 200

    @property
    def held_bytes(self) -> int:
        """The most bytes of all long bodies that are being answered."""
        return max(64_000_000, 4 * self.body_bytes)
