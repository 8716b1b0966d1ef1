"""Measurements shared out: in this process, in a pool of processes, or by anybody's executor.

Each group is a chain of measurements, of which the next is made once the last is known, since it
may not be needed any more. Tasks carry a group and a number; what all of them need goes to a
process once, when it says that it does not know it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from graphslim.errors import GraphslimError, RuntimeUnavailable
from graphslim.plans.curves import Loss
from graphslim.sweep.evaluate import Job, work

TRIES = 3
"""How often a measurement is tried whose process is lost."""
_DASK = "dask://"

Chain = Tuple[str, Sequence[int]]
"""A group and the numbers of channels that go, ascending."""


class _Task(NamedTuple):
    """A measurement under way.

    Attributes:
        chain: the number of its chain.
        place: its place in the chain.
        told: whether the process is told the job.
        tries: how often its process was lost.
    """

    chain: int
    place: int
    told: bool = False
    tries: int = 0


def measure_all(
    job: Job,
    chains: Sequence[Chain],
    executor: Executor,
    on_loss: Callable[[Loss], bool],
    restart: Optional[Callable[[], Executor]] = None,
) -> None:
    """Measures chains by an executor.

    Args:
        job: what all measurements need.
        chains: the groups, and how many channels go.
        executor: where the measurements are made.
        on_loss: told of each loss in this thread; whether its chain goes on.
        restart: gives an executor in the place of a broken one; without it, the same one is used.

    Raises:
        GraphslimError: a measurement failed, or its process was lost three times.
    """
    key = job.key
    waiting: Dict[Any, _Task] = {}

    def submit(task: _Task) -> None:
        group, counts = chains[task.chain]
        future = executor.submit(work, key, job if task.told else None, group, counts[task.place])
        waiting[future] = task

    ready: List[_Task] = [_Task(index, 0) for index, (_, counts) in enumerate(chains) if counts]
    while ready or waiting:
        while ready:
            submit(ready.pop(0))
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            task = waiting.pop(future)
            group, counts = chains[task.chain]
            failure = future.exception() if not future.cancelled() else RuntimeError("cancelled")
            if isinstance(failure, GraphslimError):
                _cancel(waiting)
                raise failure
            if failure is not None:
                ready.append(_again(task, f"{group} without {counts[task.place]}", failure))
                continue
            loss: Optional[Loss] = future.result()
            if loss is None:
                ready.append(task._replace(told=True))
            elif on_loss(loss) and task.place + 1 < len(counts):
                ready.append(_Task(task.chain, task.place + 1))
        lost = [task for task in ready if task.tries]
        if lost and restart is not None:
            # With a process its whole pool is lost, and what the others were at.
            ready += [task._replace(tries=task.tries + 1) for task in waiting.values()]
            waiting.clear()
            executor = restart()


def _again(task: _Task, what: str, failure: BaseException) -> _Task:
    """A task whose process was lost, to be tried again.

    Raises:
        GraphslimError: it was tried often enough, or the failure is an error of the program.
    """
    if task.tries + 1 >= TRIES:
        raise GraphslimError(
            f"cannot be measured: its process was lost {TRIES} times "
            f"({type(failure).__name__}: {failure})",
            what,
            "use fewer --workers if memory is short; what was measured before is kept",
        ) from failure
    return task._replace(tries=task.tries + 1)


def _cancel(waiting: Dict[Any, _Task]) -> None:
    for future in waiting:
        future.cancel()


# --- Executors.


class Pool:
    """An executor by what a user says; a context manager.

    Args:
        workers: a number of processes on this machine, or `dask://HOST:PORT`.

    Raises:
        GraphslimError: `workers` is neither, or the scheduler does not answer.
        RuntimeUnavailable: dask is not installed.
    """

    def __init__(self, workers: str) -> None:
        self._client: Any = None
        if workers.startswith(_DASK):
            self._client = _connected(workers)
            self.executor: Executor = self._client.get_executor(retries=TRIES, pure=False)
            return
        if not workers.isdigit() or not int(workers):
            raise GraphslimError(
                f"{workers!r} is no number of processes, and no scheduler",
                "--workers",
                "write 4, or dask://host:8786",
            )
        self._count = int(workers)
        self.executor = self._started()

    @property
    def restart(self) -> Optional[Callable[[], Executor]]:
        """What gives an executor in the place of a broken one; None where none breaks."""
        return self._restarted if self._client is None else None

    def _started(self) -> Executor:
        # Not forked: TensorFlow does not live through a fork.
        return ProcessPoolExecutor(
            self._count, multiprocessing.get_context("spawn"), _begin
        )

    def _restarted(self) -> Executor:
        self.executor.shutdown(wait=False)
        self.executor = self._started()
        return self.executor

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        if self._client is not None:
            self._client.close()
            return
        processes: Sequence[Any] = list((getattr(self.executor, "_processes", None) or {}).values())
        self.executor.shutdown(wait=not any(error))
        if any(error):
            for process in processes:
                process.terminate()


def threads_for(workers: Optional[str]) -> int:
    """Threads for the ops of each process: an equal part of the cores on this machine."""
    if workers is None or not workers.isdigit():
        return 0
    return max(1, (os.cpu_count() or 1) // max(1, int(workers)))


def _begin() -> None:
    """In a new process: Ctrl-C ends the process that started it, which ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _connected(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise RuntimeUnavailable(
            "dask is not installed", f"--workers {address}", "pip install distributed"
        ) from None
    try:
        return Client("tcp://" + address[len(_DASK) :], timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise GraphslimError(
            f"no scheduler answers: {str(error).splitlines()[0]}",
            f"--workers {address}",
            "start one with `dask-scheduler`, and workers with `dask-worker`",
        ) from None


Futures = Sequence["Future[Any]"]
