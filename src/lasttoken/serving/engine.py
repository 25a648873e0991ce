"""The engine owns the models: requests wait in a bounded queue, and threads join them into batches and compute them.

    request ─► Job ─► queue ─┐ bounded; full: QueueFullError, which says when to try again
    request ─► Job ─► queue ─┤ cancelled, or past its deadline: dropped without being computed
                             └─► thread: all that waits, up to a batch ─► trunk once ─► tails ─► scores

While one batch is computed the next one gathers, so a thread waits for more requests only between two short batches. A
text's answer does not depend on its batch (see predict.py). On the CPU two threads compute a batch each, on half the
cores: two batches side by side spend less time waiting than one that is spread over all cores, and the event loop
always needs a share of some core (benchmarks/2026-11-25-serving.md).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lasttoken.classifier.classifier import ClassifierConfig
from lasttoken.classifier.predict import PROBABILITY_DECIMALS, Answer, answers_of
from lasttoken.serving.models import Group, ServedModel
from lasttoken.serving.pending import ClosedError, Pending, QueueFullError, deliver

WAIT_S = 0.002  # how long a thread waits for more requests, after a batch that joined several
RATE_MEMORY = 0.9  # weight of the past in the running mean of characters per second
FIRST_RATE = 20_000.0  # characters per second, assumed before a batch was measured
WARM_UP_TEXTS = (("a",), ("Warm up with a text of some length, please.",) * 8)


@dataclass(frozen=True)
class ScoredTexts:
    """One model's scores of N texts."""

    log_probs: NDArray[np.float32]  # [N, K]
    n_tokens: NDArray[np.int64]  # [N]
    cut: NDArray[np.bool_]  # [N]: which texts were truncated

    def answers(self, config: ClassifierConfig) -> list[Answer]:
        """The model's answers; probabilities are rounded, so that batching changes neither them nor their order."""
        return answers_of(self.log_probs, self.n_tokens, self.cut, config, decimals=PROBABILITY_DECIMALS)

    def rows(self, rows: slice) -> ScoredTexts:
        """The scores of some of the texts."""
        return ScoredTexts(self.log_probs[rows], self.n_tokens[rows], self.cut[rows])


ScoresByModel = dict[str, ScoredTexts]


@dataclass(eq=False)
class Job:
    """The texts of one request.

    A long job is computed in pieces, and its remaining texts queue behind other jobs: `start` is the first text that
    no thread has taken.
    """

    texts: Sequence[str]
    models: frozenset[str]
    pending: Pending
    start: int = 0
    n_done: int = 0  # texts that are computed
    pieces: dict[int, ScoresByModel] = field(default_factory=dict)  # scores of the computed pieces, by their first text

    @property
    def n_left(self) -> int:
        """The number of texts that no thread has taken."""
        return len(self.texts) - self.start


@dataclass(frozen=True)
class Piece:
    """Texts `start` to `end` of a job."""

    job: Job
    start: int
    end: int

    @property
    def texts(self) -> Sequence[str]:
        """The texts of this piece."""
        return self.job.texts[self.start : self.end]

    @property
    def is_last(self) -> bool:
        """Whether the job has no texts after this piece."""
        return self.end == len(self.job.texts)


def size_of(texts: Sequence[str]) -> int:
    """The size of texts in a batch: their characters, plus one for each text."""
    return sum(len(text) + 1 for text in texts)


@dataclass
class EngineHooks:
    """Callbacks for metrics."""

    on_batch: Callable[[int, int, float], None] = lambda n_texts, n_tokens, seconds: None
    on_queue: Callable[[int], None] = lambda n_texts: None


class Engine:
    """The models, their queue and the threads that compute."""

    def __init__(
        self,
        groups: Sequence[Group],
        max_queue: int,
        batch_characters: int,
        hooks: EngineHooks | None = None,
        n_threads: int = 1,
    ) -> None:
        """Load nothing and start no thread yet; see `start`.

        `max_queue`: the number of texts that may wait. `batch_characters`: the number of characters computed together.
        `n_threads`: threads that compute, each on its share of the cores.
        """
        self.groups = tuple(groups)
        self.models: dict[str, ServedModel] = {model.name: model for group in groups for model in group.members}
        self.hooks = hooks or EngineHooks()
        self._max_queue, self._batch_characters = max_queue, batch_characters
        self._queue: deque[Job] = deque()
        self._n_waiting = 0  # texts
        self._rate = FIRST_RATE
        self._joined_several = False  # whether the last batch joined several requests
        self._closing = False
        self._change = threading.Condition()
        self._cores = max(1, torch.get_num_threads() // n_threads)
        self._threads = [threading.Thread(target=self._run, name="models", daemon=True) for _ in range(n_threads)]

    # ------------------------------------------------------------------ on the event loop

    def start(self) -> None:
        """Warm the models up, and begin to take requests."""
        for group in self.groups:
            for texts in WARM_UP_TEXTS:
                group.log_probs(group.encode(texts), {model.name for model in group.members})
        for thread in self._threads:
            thread.start()

    async def classify(self, texts: Sequence[str], models: Sequence[str], deadline_s: float) -> ScoresByModel:
        """Score texts with some of the models.

        Raises:
            QueueFullError, DeadlineExceededError, ClosedError: there is no result.
        """
        job = Job(texts, frozenset(models), Pending(deadline_s))
        self._put(job)
        scores: ScoresByModel = await job.pending.result()
        return scores

    def _put(self, job: Job) -> None:
        with self._change:
            if self._closing:
                raise ClosedError
            if self._n_waiting and self._n_waiting + len(job.texts) > self._max_queue:
                raise QueueFullError(max(1, round(self._characters() / self._rate)))
            self._queue.append(job)
            self._n_waiting += len(job.texts)
            self._change.notify()
        self.hooks.on_queue(self._n_waiting)

    @property
    def is_ready(self) -> bool:
        """Whether the models are warm and requests are taken."""
        return all(thread.is_alive() for thread in self._threads) and not self._closing

    def close(self, wait_s: float = 30.0) -> None:
        """Take no more requests, answer those that wait, and end the threads."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(wait_s)

    # ------------------------------------------------------------------ in the threads

    def _run(self) -> None:
        torch.set_num_threads(self._cores)  # applies to this thread
        while (pieces := self._take()) is not None:
            if not pieces:
                continue
            try:
                results = self._compute(pieces)
            except Exception as error:
                results = [(piece.job, error) for piece in pieces]
            deliver((job.pending, result) for job, result in results)

    def _take(self) -> list[Piece] | None:
        """The pieces of the next batch; None when the engine is closed and nothing waits."""
        with self._change:
            while not self._queue:
                if self._closing:
                    return None
                self._change.wait()
            if self._joined_several and not self._closing and not self._fills_a_batch():
                self._change.wait_for(self._fills_a_batch, WAIT_S)
            pieces = self._next_pieces()
        self._joined_several = len(pieces) > 1
        self.hooks.on_queue(self._n_waiting)
        return pieces

    def _next_pieces(self) -> list[Piece]:
        """Take pieces from the queue until a batch is full; the rest of a long job goes to the end of the queue."""
        pieces: list[Piece] = []
        room = self._batch_characters
        while self._queue and (room > 0 or not pieces):
            job = self._queue.popleft()
            if not job.pending.is_wanted:
                self._n_waiting -= job.n_left
                continue
            piece = self._cut(job, room)
            pieces.append(piece)
            room -= size_of(piece.texts)
            if not piece.is_last:
                self._queue.append(job)
                self._change.notify()
                break
        return pieces

    def _cut(self, job: Job, room: int) -> Piece:
        """The next texts of a job: as many as fit into `room` characters, and at least one."""
        start, end = job.start, job.start + 1
        room -= len(job.texts[start]) + 1
        while end < len(job.texts) and room >= (size := len(job.texts[end]) + 1):
            room, end = room - size, end + 1
        job.start = end
        self._n_waiting -= end - start
        return Piece(job, start, end)

    def _characters(self) -> int:
        return sum(size_of(job.texts[job.start :]) for job in self._queue)

    def _fills_a_batch(self) -> bool:
        return self._characters() >= self._batch_characters

    def _compute(self, pieces: list[Piece]) -> list[tuple[Job, Any]]:
        """Compute the pieces as one batch; returns the jobs that are complete now, with their scores."""
        started = time.perf_counter()
        texts = [text for piece in pieces for text in piece.texts]
        scores: ScoresByModel = {}
        n_tokens = 0
        for group in self.groups:
            names = {model.name for model in group.members} & {name for piece in pieces for name in piece.job.models}
            if not names:
                continue
            encoded = group.encode(texts)
            n_tokens += encoded.n_tokens
            for name, log_probs in group.log_probs(encoded, names).items():
                scores[name] = ScoredTexts(log_probs, encoded.lengths, encoded.cut)
        seconds = time.perf_counter() - started
        self._rate = RATE_MEMORY * self._rate + (1 - RATE_MEMORY) * size_of(texts) / max(seconds, 1e-9)
        self.hooks.on_batch(len(texts), n_tokens, seconds)
        with self._change:
            return _complete_jobs(pieces, scores)


def _complete_jobs(pieces: Sequence[Piece], scores: ScoresByModel) -> list[tuple[Job, ScoresByModel]]:
    """Give each job its rows of the batch's scores; returns the jobs that are complete now, with all their scores."""
    complete, start = [], 0
    for piece in pieces:
        job, rows = piece.job, slice(start, start + len(piece.texts))
        start = rows.stop
        job.n_done += len(piece.texts)
        job.pieces[piece.start] = {name: scores[name].rows(rows) for name in scores if name in job.models}
        if job.n_done == len(job.texts):
            complete.append((job, _concatenated([job.pieces[first] for first in sorted(job.pieces)])))
    return complete


def _concatenated(pieces: Sequence[ScoresByModel]) -> ScoresByModel:
    """The scores of a job's pieces, in the order of its texts."""
    if len(pieces) == 1:
        return pieces[0]
    return {
        name: ScoredTexts(
            np.concatenate([piece[name].log_probs for piece in pieces]),
            np.concatenate([piece[name].n_tokens for piece in pieces]),
            np.concatenate([piece[name].cut for piece in pieces]),
        )
        for name in pieces[0]
    }
