"""A store with bad weather: fsspec's memory store behind flaky://, which fails, delays and loses answers.

    with flaky_store(seed=1) as store:          # one call in 20 fails
        score("flaky://bucket/in.jsonl", "flaky://bucket/out/")
    store.calls                                  # Counter({"GET": 12, "PUT": 9, "LIST": 2, …})
    store.objects("flaky://bucket/out/")         # {name: bytes}, without weather

It makes an object store's promises and no others: an object appears whole, and a PUT replaces it; there is no rename
and no append. A PUT whose answer is lost has happened all the same. Every fault is drawn from a seed.
"""

from __future__ import annotations

import errno
import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, TypeVar

import fsspec
from fsspec import AbstractFileSystem
from fsspec.exceptions import FSTimeoutError
from fsspec.implementations.memory import MemoryFileSystem

T = TypeVar("T")
PROTOCOL = "flaky"
FAULTS: tuple[Callable[[], Exception], ...] = (  # what clients of S3, GCS and Azure raise when a retry helps
    lambda: OSError(errno.EBUSY, "Please reduce your request rate."),
    lambda: OSError(errno.EIO, "We encountered an internal error. Please try again."),
    lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    lambda: BrokenPipeError(errno.EPIPE, "Broken pipe"),
    lambda: TimeoutError("The read operation timed out"),
    FSTimeoutError,
)


@dataclass
class Weather:
    """What happens to calls, and what has happened."""

    seed: int = 0
    failing: float = 1 / 20  # of all calls
    lost: float = 1 / 2  # of the PUT calls that fail: the object is written, and the caller gets an error
    slow: float = 1 / 20  # of all calls
    delay_s: float = 0.003  # at most, of a slow call
    calls: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)  # without the lost answers
    lost_answers: int = 0
    puts: Counter[str] = field(default_factory=Counter)  # by path: how often an object was written
    is_fine: bool = False  # True: nothing fails

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._lock = threading.Lock()
        self.memory = MemoryFileSystem(global_store=False, skip_instance_cache=True)

    def call(self, kind: str, path: str, action: Callable[[], T]) -> T:
        """The result of an action of the memory store, or an error before it, or after it."""
        with self._lock:
            self.calls[kind] += 1
            fails = not self.is_fine and self._draw.random() < self.failing
            loses = self._draw.random() < self.lost and kind == "PUT"
            wait_s = self._draw.random() * self.delay_s if self._draw.random() < self.slow else 0.0
            fault = self._draw.choice(FAULTS)
        time.sleep(wait_s)
        if fails and not loses:
            self.failed[kind] += 1
            raise fault()
        with self._lock:
            result = action()
            if kind == "PUT":
                self.puts[path] += 1
        if fails:
            self.lost_answers += 1
            raise fault()
        return result

    def objects(self, url: str) -> dict[str, bytes]:
        """The objects under a URL by their names in it, as they are, without weather and without a count."""
        folder = FlakyFileSystem._strip_protocol(url).rstrip("/") + "/"
        store = self.memory.store
        return {name[len(folder) :]: store[name].getvalue() for name in sorted(store) if name.startswith(folder)}


class FlakyFileSystem(AbstractFileSystem):  # type: ignore[misc] # fsspec ships no types
    """flaky://, whose objects and faults are those of the current `Weather`."""

    protocol = PROTOCOL
    root_marker = "/"
    cachable = False
    weather = Weather(failing=0.0)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return "/" + str(path).removeprefix(f"{PROTOCOL}://").strip("/")

    def _call(self, kind: str, path: str, action: Callable[[MemoryFileSystem, str], T]) -> T:
        stripped = self._strip_protocol(path)
        return self.weather.call(kind, stripped, lambda: action(self.weather.memory, stripped))

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        """One listing."""
        entries = self._call("LIST", path, lambda memory, name: memory.ls(name, detail=True))
        return [self._tagged(entry) for entry in entries] if detail else sorted(entry["name"] for entry in entries)

    def find(self, path: str, maxdepth: int | None = None, withdirs: bool = False, **options: Any) -> Any:
        """One listing of all objects below a path."""
        detail = options.get("detail", False)
        entries = self._call("LIST", path, lambda memory, name: memory.find(name, maxdepth, withdirs, detail=True))
        return {name: self._tagged(entry) for name, entry in entries.items()} if detail else list(entries)

    def info(self, path: str, **options: Any) -> Any:
        """Size and time of an object."""
        return self._tagged(self._call("HEAD", path, lambda memory, name: memory.info(name)))

    def _tagged(self, entry: dict[str, Any]) -> dict[str, Any]:
        """An entry with an ETag, which depends on the content alone."""
        file = self.weather.memory.store.get(entry["name"])
        return entry if file is None else {**entry, "ETag": hashlib.md5(file.getvalue()).hexdigest()}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> Any:
        """The bytes of an object, or a range of them."""
        return self._call("GET", path, lambda memory, name: memory.cat_file(name, start, end))

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        """Write an object whole."""
        self._call("PUT", path, lambda memory, name: memory.pipe_file(name, bytes(value), mode))

    def rm_file(self, path: str) -> None:
        """Remove an object."""
        self._call("DELETE", path, lambda memory, name: memory.rm_file(name))

    def _rm(self, path: str) -> None:
        self.rm_file(path)

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        """Nothing: an object store has no folders."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Nothing: an object store has no folders."""

    def _open(self, path: str, mode: str = "rb", **options: Any) -> BytesIO:
        if mode == "rb":
            return BytesIO(self.cat_file(path))
        if mode in ("wb", "xb"):
            return _Upload(self, path)
        raise NotImplementedError(f"an object store opens nothing with mode {mode!r}")


class _Upload(BytesIO):
    """An object being written; it appears when it is closed."""

    def __init__(self, fs: FlakyFileSystem, path: str) -> None:
        super().__init__()
        self._fs, self._path = fs, path

    def close(self) -> None:
        if not self.closed:
            content = self.getvalue()
            super().close()
            self._fs.pipe_file(self._path, content)


@contextmanager
def flaky_store(seed: int = 0, **weather: Any) -> Iterator[Weather]:
    """flaky:// is an empty store with its own weather in this block."""
    before = FlakyFileSystem.weather
    FlakyFileSystem.weather = Weather(seed, **weather)
    fsspec.register_implementation(PROTOCOL, FlakyFileSystem, clobber=True)
    try:
        yield FlakyFileSystem.weather
    finally:
        FlakyFileSystem.weather = before
