"""Runs tasks in a pool of processes, on a dask cluster, or by an executor that a user brings.

What all tasks of a job need is sent to a process once, when it answers that it does not know the
job; a task carries only what differs from the others. Tasks form chains: the next task of a chain
is submitted when the result of the last is known, since it may not be needed. A task whose process
is lost is tried again in another.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import pickle
import signal
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    ProcessPoolExecutor,
    wait,
)
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from graphslim.errors import GraphslimError, RuntimeUnavailable
from graphslim.support.importing import install_hint
from graphslim.support.progress import Tick, silent

TRIES = 3
"""How often a task is tried if its process is lost each time."""
PATIENCE = 10
"""Seconds that a scheduler has to answer."""
_OPTION, _DASK = "--workers", "dask://"
_LOST = ("KilledWorker", "CommClosedError", "CancelledError", "FutureCancelledError")
"""Names of the exceptions by which dask reports that a process is gone."""

Task = Tuple[Any, ...]
"""The arguments of a call."""
Worker = Callable[..., Any]
"""A function that does one task of a job in each call."""


class Job(NamedTuple):
    """What the tasks of a job have in common; it can be pickled.

    Attributes:
        open: a function of a module, called once in a process: loads all that the tasks need, and
            gives the function that does them.
        args: its arguments.
    """

    open: Callable[..., Worker]
    args: Tuple[Any, ...]

    def opened(self) -> Worker:
        """The function that does the tasks."""
        return self.open(*self.args)


class _Pending(NamedTuple):
    """A task that is waiting or under way.

    Attributes:
        chain: the index of its chain.
        place: its index in the chain.
        told: whether the job is sent with it.
        tries: how often its process was lost.
    """

    chain: int
    place: int
    told: bool = False
    tries: int = 0


# --- In the processes that do the work.

_JOBS: Dict[str, bytes] = {}
"""By its key, the job that was sent to this process last, pickled."""
_WORKERS: Dict[str, Worker] = {}
"""By the key of that job, the function that does its tasks."""


class _Unknown(NamedTuple):
    """The answer of a process that does not know the job, which then has to be sent."""


def work(key: str, job: Optional[bytes], task: Task) -> Any:
    """Does a task, in a process that keeps what its job needs from call to call.

    Args:
        key: the key of the job.
        job: the job, pickled; None where the process is likely to know it.
        task: the task.

    Returns:
        what the task gives, or `_Unknown`.
    """
    if key not in _JOBS:
        if job is None:
            return _Unknown()
        _JOBS.clear()
        _WORKERS.clear()
        _JOBS[key] = job
    if key not in _WORKERS:
        _WORKERS[key] = pickle.loads(_JOBS[key]).opened()
    return _WORKERS[key](*task)


def _begin() -> None:
    """Makes a new process ignore Ctrl-C: the process that started it ends, and ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# --- In the process that hands out the work.


class Workers:
    """What tasks are run by; a context manager, which ends the processes that it started.

    Args:
        by: a number of processes on this machine, `dask://HOST:PORT`, or an executor.

    Attributes:
        threads: threads for the ops of each process: an equal part of the cores where these are
            known, else 1.
        here: the number of processes on this machine; None for a cluster or an executor.

    Raises:
        GraphslimError: `by` is none of these, or the scheduler does not answer.
        RuntimeUnavailable: dask is not installed.
    """

    def __init__(self, by: Union[int, str, Executor]) -> None:
        check_workers(by)
        self._client: Any = None
        self._executor: Optional[Executor] = None
        self.here: Optional[int] = None
        if isinstance(by, Executor):
            self._executor = by
        elif str(by).startswith(_DASK):
            self._client = _connected(str(by))
            self._executor = self._client.get_executor(retries=TRIES, pure=False)
        else:
            self.here = int(by)
        self.threads = 1 if self.here is None else max(1, (os.cpu_count() or 1) // self.here)

    @property
    def executor(self) -> Executor:
        """What tasks are submitted to; processes are started when they are first needed."""
        if self._executor is None:
            # Not forked: TensorFlow does not live through a fork.
            spawned = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self.here, spawned, _begin)
        return self._executor

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        if self._client is not None:
            self._client.close()
        elif self.here is not None:
            self._end(any(error))

    def _end(self, at_once: bool) -> None:
        """Ends the processes on this machine, `at_once` or after the tasks that they are doing."""
        if self._executor is None:
            return
        processes: Sequence[Any] = list(
            (getattr(self._executor, "_processes", None) or {}).values()
        )
        self._executor.shutdown(wait=not at_once)
        self._executor = None
        for process in processes if at_once else ():
            process.terminate()

    def run(
        self,
        job: Job,
        chains: Sequence[Sequence[Task]],
        on_result: Callable[[int, Any], bool],
        name_of: Callable[[Task], str],
        at_once: Optional[int] = None,
    ) -> None:
        """Does chains of tasks.

        Args:
            job: what all tasks need.
            chains: the tasks.
            on_result: called in this thread with the index of a chain and the result of its next
                task; returns whether the chain goes on.
            name_of: the name of a task in messages.
            at_once: how many tasks are under way at most; None for as many as there are.

        Raises:
            GraphslimError: a task failed, or its process was lost three times.
        """
        data = _pickled(job)
        key = hashlib.sha256(data).hexdigest()
        waiting: Dict[Any, _Pending] = {}
        ready = [_Pending(index, 0) for index, tasks in enumerate(chains) if tasks]
        unknown: List[_Pending] = []
        knowing = 0  # processes that are known to have the job
        room = len(chains) if at_once is None else at_once

        def submit(pending: _Pending) -> None:
            task = chains[pending.chain][pending.place]
            future = self.executor.submit(work, key, data if pending.told else None, task)
            waiting[future] = pending

        while ready or unknown or waiting:
            # The job is sent with one task at first, and then with as many at a time as there are
            # processes that have it, not with every task that waits: there may be few processes.
            told = sum([pending.told for pending in waiting.values()])
            places = room - len(waiting)
            for _ in range(min(len(unknown), max(1, knowing) - told, places)):
                submit(unknown.pop(0)._replace(told=True))
            while ready and len(waiting) < room:
                submit(ready.pop(0))
            lost = False
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                pending = waiting.pop(future)
                failure = CancelledError() if future.cancelled() else future.exception()
                if failure is not None:
                    what = name_of(chains[pending.chain][pending.place])
                    ready.append(_again(pending, what, failure, waiting))
                    lost = True
                    continue
                result = future.result()
                if isinstance(result, _Unknown):
                    unknown.append(pending)
                    continue
                if pending.told:
                    knowing += 1
                    ready += [other._replace(told=False) for other in unknown]
                    unknown.clear()
                more = pending.place + 1 < len(chains[pending.chain])
                if on_result(pending.chain, result) and more:
                    ready.append(_Pending(pending.chain, pending.place + 1))
            if lost and self.here is not None:
                # The whole pool is lost with a process, and the tasks of the others.
                ready += [pending._replace(tries=pending.tries + 1) for pending in waiting.values()]
                waiting.clear()
                self._end(at_once=True)

    def map(
        self,
        job: Job,
        tasks: Sequence[Task],
        what: str,
        tick: Tick = silent,
        at_once: Optional[int] = None,
    ) -> List[Any]:
        """What each task gives, in the order of the tasks.

        Args:
            job: what all tasks need.
            tasks: the tasks.
            what: what a task is called in messages, before its number.
            tick: told of how many are done.
            at_once: as for `run`.

        Raises:
            GraphslimError: as for `run`.
        """
        results: Dict[int, Any] = {}

        def on_result(chain: int, result: Any) -> bool:
            results[chain] = result
            tick(len(results), len(tasks), what)
            return True

        def name_of(task: Task) -> str:
            return f"{what}, {tasks.index(task) + 1} of {len(tasks)}"

        self.run(job, [[task] for task in tasks], on_result, name_of, at_once)
        return [results[index] for index in range(len(tasks))]


Given = Union[None, int, str, Executor, Workers]
"""What tasks are run by, as a user gives it; None for this process."""


@contextmanager
def opened(given: Given) -> Iterator[Optional[Workers]]:
    """What tasks are run by, opened if it is not open already; None for this process.

    Raises:
        GraphslimError: as for `Workers`.
        RuntimeUnavailable: dask is not installed.
    """
    if given is None or isinstance(given, Workers):
        yield given
        return
    with Workers(given) as workers:
        yield workers


def run_here(
    worker: Worker, chains: Sequence[Sequence[Task]], on_result: Callable[[int, Any], bool]
) -> None:
    """Does chains of tasks in this process; see `Workers.run`."""
    for index, tasks in enumerate(chains):
        for task in tasks:
            if not on_result(index, worker(*task)):
                break


def check_workers(given: Any) -> None:
    """Refuses what is neither a number of processes nor a scheduler's address nor an executor.

    Raises:
        GraphslimError: it is none of these.
    """
    if given is None or isinstance(given, (Executor, Workers)):
        return
    text = str(given)
    if not text.startswith(_DASK) and not (text.isdigit() and int(text)):
        raise GraphslimError(
            f"{text!r} is no number of processes, and no scheduler",
            _OPTION,
            "write 4, or dask://host:8786",
        )


def _pickled(job: Job) -> bytes:
    try:
        return pickle.dumps(job, 4)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise GraphslimError(
            f"the work cannot be sent to other processes: {error}",
            _OPTION,
            "leave it out, or define what is named there at the top of a module",
        ) from None


def _is_loss_of_process(failure: BaseException) -> bool:
    """Whether a task failed because its process is gone, and not because of the task."""
    broken = isinstance(failure, (BrokenExecutor, CancelledError, OSError, EOFError))
    return broken or type(failure).__name__ in _LOST


def _again(
    pending: _Pending, what: str, failure: BaseException, waiting: Dict[Any, _Pending]
) -> _Pending:
    """A task whose process was lost, to be tried again; otherwise the others are cancelled.

    Raises:
        GraphslimError: it was tried often enough, or it cannot be done anywhere.
    """
    if _is_loss_of_process(failure) and pending.tries + 1 < TRIES:
        return pending._replace(tries=pending.tries + 1)
    for future in waiting:
        future.cancel()
    if isinstance(failure, GraphslimError):
        raise failure
    if _is_loss_of_process(failure):
        raise GraphslimError(
            f"its process was lost {TRIES} times ({type(failure).__name__})",
            what,
            "use fewer --workers if memory is short; a sensitivity goes on where its file ends",
        ) from failure
    text = " ".join(str(failure).split())
    raise GraphslimError(
        f"a worker failed: {type(failure).__name__}: {text}",
        what,
        "is the same graphslim installed where the workers are?",
    ) from failure


def _connected(address: str) -> Any:
    try:
        client_of = import_module("distributed").Client
    except ImportError:
        raise RuntimeUnavailable(
            "dask is not installed", f"{_OPTION} {address}", install_hint("dask")
        ) from None
    try:
        return client_of("tcp://" + address[len(_DASK) :], timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise GraphslimError(
            f"no scheduler answers: {str(error).splitlines()[0]}",
            f"{_OPTION} {address}",
            "start one with `dask-scheduler`, and workers with `dask-worker`",
        ) from None
