"""Batches computed side by side on the CPU's cores, one thread for each batch.

    items ─► core 0: batch 0 ─────► batch 2 ──►        one thread each: nobody waits at a barrier
             core 1: batch 1 ──► batch 3 ─────►        results come back in the order of the items

torch's usual way is the other one: one batch at a time, every operation spread over all cores. Its threads then meet
at a barrier after each operation, some hundred times a batch, and spin while they wait. That is slower by itself, and
several times slower when another program holds one of the cores (benchmarks/2026-11-26-busy.md). Of several batches,
each is computed by one thread, so the results are the same bits for any number of cores; one alone uses all threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    compute: Callable[[Item], Result], items: Iterable[Item], device: torch.device | str = "cpu"
) -> Iterator[tuple[Item, Result]]:
    """(item, compute(item)) for each item, in order; on CPUs as many at a time as torch has threads.

    A few results are held at most, and items are taken from their iterable, in the calling thread, only as they are
    needed. `compute` runs in other threads: contexts such as torch.no_grad have to be entered inside it. On other
    devices, and where torch has one thread or there is one item, everything happens in the calling thread.

    Raises:
        Whatever `compute` or the iterable raises; items that were not started are dropped then.
    """
    remaining = iter(items)
    first = list(islice(remaining, 2))
    n_threads = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
    if n_threads == 1 or len(first) < 2:
        for item in chain(first, remaining):
            yield item, compute(item)
        return
    pool = ThreadPoolExecutor(n_threads, "batch", initializer=lambda: torch.set_num_threads(1))
    running: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in chain(first, remaining):
            running.append((item, pool.submit(compute, item)))
            if len(running) > 2 * n_threads:
                item, future = running.popleft()
                yield item, future.result()
        while running:
            item, future = running.popleft()
            yield item, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)  # MKL's number is the process's, and the threads above have set it to one
