"""Works through requests in threads, for engines that wait for others."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")


def in_threads(work: Callable[[int], T], order: Sequence[int], threads: int) -> Iterator[list[tuple[int, T]]]:
    """Yield (index, ``work(index)``) as they finish, all that are there at once, begun in ``order``.

    At the first failure nothing more is begun; what is under way is waited for and yielded, so that it is
    not asked again, before the failure is raised.
    """
    todo, stop = deque(order), Event()
    done: SimpleQueue[tuple[int, T] | Exception | None] = SimpleQueue()

    def worker() -> None:
        while not stop.is_set():
            try:
                index = todo.popleft()
            except IndexError:
                break
            try:
                done.put((index, work(index)))
            except Exception as error:  # noqa: BLE001 - raised again by who reads the queue
                stop.set()
                done.put(error)
        done.put(None)

    live = min(threads, len(order))
    for _ in range(live):
        # Daemons: Ctrl-C must not wait for a server that hangs, as a pool's threads would make it.
        Thread(target=worker, daemon=True).start()
    failure: Exception | None = None
    try:
        while live:
            found = _all_of(done)
            live -= found.count(None)
            failure = failure or next((one for one in found if isinstance(one, Exception)), None)
            batch = [one for one in found if isinstance(one, tuple)]
            if batch:
                yield batch
    finally:
        stop.set()
    if failure is not None:
        raise failure


def _all_of(queue: SimpleQueue[T]) -> list[T]:
    """Wait for one thing and take all that are there."""
    found = [queue.get()]
    try:
        while True:
            found.append(queue.get_nowait())
    except Empty:
        return found
