"""How much a client may send and how long it may take; every default has its one home here."""

from __future__ import annotations

from dataclasses import dataclass

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")  # as they stand in the Host header


@dataclass(frozen=True)
class Limits:
    """What a request may hold, how long it may take, and how many connections there may be."""

    body_bytes: int = 4_000_000
    texts: int = 1_000
    characters: int = 100_000  # of one text
    explained_characters: int = 5_000  # an explanation takes hundreds of times as long as an answer
    deadline_s: float = 30.0  # until there is an answer
    header_s: float = 10.0  # until the headers of a request are complete
    body_s: float = 30.0  # until its body is complete
    write_s: float = 30.0  # until a client that is sent an answer has taken some of it
    connections: int = 512

    @property
    def values(self) -> int:
        """The most values (strings, numbers, lists, objects) that a body may hold: a list of pairs has four for each
        text, and the request's own fields are few."""
        return 4 * self.texts + 200

    @property
    def held_bytes(self) -> int:
        """What all long bodies may hold together until they are answered."""
        return max(64_000_000, 4 * self.body_bytes)
