"""Measurements shared out: in this process, in a pool of processes, or by anybody's executor.

Each group is a chain of measurements, of which the next is made once the last is known, since it
may not be needed any more. Tasks carry a group and a number; what all of them need goes to a
process once, when it says that it does not know it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    ProcessPoolExecutor,
    wait,
)
from importlib import import_module
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from graphslim.errors import GraphslimError, RuntimeUnavailable
from graphslim.plans.curves import Loss
from graphslim.support.importing import install_hint
from graphslim.sweep.evaluate import Job, tell, work

TRIES = 3
"""How often a measurement is tried whose process is lost."""
PATIENCE = 10
"""Seconds that a scheduler has to answer."""
_DASK = "dask://"
_LOST = ("KilledWorker", "CommClosedError", "CancelledError", "FutureCancelledError")
"""Names of exceptions of dask that say that a process is gone."""

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
    ready: List[_Task] = [_Task(index, 0) for index, (_, counts) in enumerate(chains) if counts]
    unknown: List[_Task] = []
    knowing = 0  # processes that were told, as far as is known

    def submit(task: _Task) -> None:
        group, counts = chains[task.chain]
        future = executor.submit(work, key, job if task.told else None, group, counts[task.place])
        waiting[future] = task

    while ready or unknown or waiting:
        # The job is sent to few processes at first, and to twice as many as know it later: all
        # that wait would else be sent it, however few processes there are.
        told = sum([task.told for task in waiting.values()])
        for _ in range(min(len(unknown), max(1, knowing) - told)):
            submit(unknown.pop(0)._replace(told=True))
        while ready:
            submit(ready.pop(0))
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            task = waiting.pop(future)
            group, counts = chains[task.chain]
            failure = CancelledError() if future.cancelled() else future.exception()
            if failure is not None:
                what = f"{group} without {counts[task.place]} channels"
                ready.append(_again(task, what, failure, waiting))
                continue
            loss: Optional[Loss] = future.result()
            if loss is None:
                unknown.append(task)
                continue
            if task.told:
                knowing += 1
                ready += [other._replace(told=False) for other in unknown]
                unknown.clear()
            if on_loss(loss) and task.place + 1 < len(counts):
                ready.append(_Task(task.chain, task.place + 1))
        if restart is not None and any(task.tries for task in ready):
            # With a process its whole pool is lost, and what the others were at.
            ready += [task._replace(tries=task.tries + 1) for task in waiting.values()]
            waiting.clear()
            executor = restart()


def _is_loss_of_process(failure: BaseException) -> bool:
    """Whether a measurement failed since its process is gone, not since it cannot be made."""
    broken = isinstance(failure, (BrokenExecutor, CancelledError, OSError, EOFError))
    return broken or type(failure).__name__ in _LOST


def _again(task: _Task, what: str, failure: BaseException, waiting: Dict[Any, _Task]) -> _Task:
    """A task whose process was lost, to be tried again; the others are cancelled if it fails.

    Raises:
        GraphslimError: it was tried often enough, or it cannot be measured anywhere.
    """
    if _is_loss_of_process(failure) and task.tries + 1 < TRIES:
        return task._replace(tries=task.tries + 1)
    for future in waiting:
        future.cancel()
    if isinstance(failure, GraphslimError):
        raise failure
    if _is_loss_of_process(failure):
        raise GraphslimError(
            f"cannot be measured: its process was lost {TRIES} times ({type(failure).__name__})",
            what,
            "use fewer --workers if memory is short; what was measured before is kept",
        ) from failure
    text = " ".join(str(failure).split())
    raise GraphslimError(
        f"cannot be measured: {type(failure).__name__}: {text}",
        what,
        "is the same graphslim installed where the workers are?",
    ) from failure


# --- Executors.


class Pool:
    """An executor by what a user says; a context manager.

    Args:
        workers: a number of processes on this machine, or `dask://HOST:PORT`.
        job: what processes of its own are told when they begin.

    Raises:
        GraphslimError: `workers` is neither, or the scheduler does not answer.
        RuntimeUnavailable: dask is not installed.
    """

    def __init__(self, workers: str, job: Job) -> None:
        check_workers(workers)
        self._client, self._job = None, job  # type: Any, Job
        if workers.startswith(_DASK):
            self._client = _connected(workers)
            self.executor: Executor = self._client.get_executor(retries=TRIES, pure=False)
            return
        self._count = int(workers)
        self.executor = self._started()

    @property
    def restart(self) -> Optional[Callable[[], Executor]]:
        """What gives an executor in the place of a broken one; None where none breaks."""
        return self._restarted if self._client is None else None

    def _started(self) -> Executor:
        # Not forked: TensorFlow does not live through a fork.
        return ProcessPoolExecutor(
            self._count, multiprocessing.get_context("spawn"), _begin, (self._job.key, self._job)
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


def check_workers(workers: Any) -> None:
    """Refuses what is no number of processes and no address of a scheduler.

    Raises:
        GraphslimError: `workers` is a text of another kind.
    """
    if not isinstance(workers, str) or workers.startswith(_DASK):
        return
    if not workers.isdigit() or not int(workers):
        raise GraphslimError(
            f"{workers!r} is no number of processes, and no scheduler",
            "--workers",
            "write 4, or dask://host:8786",
        )


def threads_for(workers: Any) -> int:
    """Threads for the ops of each process: an equal part of the cores where these are known.

    Raises:
        GraphslimError: `workers` is no number of processes and no address of a scheduler.
    """
    check_workers(workers)
    if workers is None:
        return 0
    if not str(workers).isdigit():
        return 1
    return max(1, (os.cpu_count() or 1) // max(1, int(workers)))


def _begin(key: str, job: Job) -> None:
    """In a new process: Ctrl-C ends the process that started it, which ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tell(key, job)


def _connected(address: str) -> Any:
    try:
        client_of = import_module("distributed").Client
    except ImportError:
        raise RuntimeUnavailable(
            "dask is not installed", f"--workers {address}", install_hint("dask")
        ) from None
    try:
        return client_of("tcp://" + address[len(_DASK) :], timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise GraphslimError(
            f"no scheduler answers: {str(error).splitlines()[0]}",
            f"--workers {address}",
            "start one with `dask-scheduler`, and workers with `dask-worker`",
        ) from None
