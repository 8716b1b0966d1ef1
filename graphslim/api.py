"""The library in verbs: load, plan, apply, verify, save; for checkpoints soft_prune and strip."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Union

from graphslim import graphdef, runtime
from graphslim.checkpoint import prefix_of
from graphslim.errors import LoadError
from graphslim.graphdef.kinds import keras_container
from graphslim.graphdef.signature import ShapesLike
from graphslim.ir import Block, Graph
from graphslim.pipeline import FindBlocks, Pipeline, passes
from graphslim.plans import DEAD_BELOW, RANKED, Plan, Selection, plan_given
from graphslim.plans.options import takes
from graphslim.support.garbage import pause_gc
from graphslim.support.progress import Tick, silent

if TYPE_CHECKING:
    from graphslim.checkpoint import Trained
    from graphslim.checkpoint.soft import Summary
    from graphslim.measure.samples import Data
    from graphslim.plans.curves import Curves
    from graphslim.recovery.rounds import Gradual
    from graphslim.recovery.state import StateLike

Checkpointed = Union[str, "os.PathLike[str]", "Trained"]
"""A checkpoint's prefix, or what `open_checkpoint` gave."""


def load(
    model: Any,
    *,
    inputs: Optional[Sequence[str]] = None,
    outputs: Optional[Sequence[str]] = None,
    input_shapes: Optional[ShapesLike] = None,
    inline: bool = True,
    signature: Optional[str] = None,
    tags: Sequence[str] = (),
    meta: Optional[str] = None,
    inference_meta: Optional[str] = None,
    averages: bool = False,
    custom_objects: Optional[runtime.CustomObjects] = None,
) -> Graph:
    """Reads a frozen graph, or a SavedModel, Keras model or TF1 checkpoint, frozen on the way.

    Args:
        model: path of a binary `.pb` or text `.pbtxt` GraphDef, of a SavedModel's folder, of a
            Keras model (`.keras`, `.h5`), of a TensorFlow.js graph model (`model.json` or its
            folder), or of a checkpoint (its prefix, one of its files, or the folder whose latest it
            is), or a GraphDef message.
        inputs: names of the nodes that are fed; by default the placeholders, or those of the
            signature.
        outputs: names (`node` or `node:port`) to compute; by default what nobody reads, or those
            of the signature.
        input_shapes: sizes for inputs that the file leaves open, by name.
        inline: whether calls of functions are replaced by what the functions do; a call that is
            left as it is pins every channel that reaches it. A SavedModel's and a checkpoint's
            always are.
        signature: which of a SavedModel's; by default `serving_default`, or else the only one.
        tags: of one of a SavedModel's graphs; by default `serve`, or else the only graph.
        meta, inference_meta, averages: for a checkpoint; see `open_checkpoint`, of which this gives
            the `graph`.
        custom_objects: for a Keras model, the classes and functions that it refers to beside
            Keras's own: by name, or texts such as `package.module:NAME,NAME`. Python code that
            the file itself holds is not run.

    Raises:
        LoadError: the file is no such model, is damaged, or a given name is not in it.
        RuntimeUnavailable: a model has variables, and TensorFlow is not there to read them.
    """
    path = None if hasattr(model, "SerializeToString") else os.fspath(model)
    prefix = None if path is None else prefix_of(path)
    is_keras = path is not None and keras_container(path) is not None
    if custom_objects and not is_keras:
        raise LoadError(f"{model} is no Keras model", "--custom-objects", "leave it out")
    if (prefix is not None or is_keras) and tags:
        raise LoadError(f"{model} is no SavedModel", "--tag", "leave it out")
    if prefix is not None:
        from graphslim.checkpoint import open_checkpoint

        return open_checkpoint(
            prefix,
            meta=meta,
            inference_meta=inference_meta,
            inputs=inputs,
            outputs=outputs,
            input_shapes=input_shapes,
            signature=signature,
            averages=averages,
        ).graph
    for option, given in (
        ("--meta", meta),
        ("--inference-meta", inference_meta),
        ("--averages", averages),
    ):
        if given:
            raise LoadError(f"{model} is no checkpoint", option, "leave it out")
    if path is not None and is_keras:
        if signature is not None:
            raise LoadError(f"{model} is no SavedModel", "--signature", "leave it out")
        chosen, variables = runtime.traced(path, custom_objects)
        return graphdef.frozen_from(path, chosen, inputs, outputs, input_shapes, variables)
    return graphdef.load(
        model,
        inputs=inputs,
        outputs=outputs,
        input_shapes=input_shapes,
        inline=inline,
        signature=signature,
        tags=tags,
        variables=runtime.saved_variables,
    )


@pause_gc()
def find_blocks(graph: Graph) -> Graph:
    """Fills `graph.blocks` by every pass that recognises blocks, plug-ins too; gives the graph."""
    names = finders()
    graph.blocks = list(graph.memo(f"blocks of {names}", lambda graph: _blocks(graph, names)))
    return graph


def _blocks(graph: Graph, names: Sequence[str]) -> List[Block]:
    Pipeline(names).run(graph)
    return graph.blocks


def finders() -> List[str]:
    """The names of the passes that recognise blocks, those left out whose pattern was refused."""
    return sorted(
        [
            name
            for name, cls in passes().items()
            if issubclass(cls, FindBlocks) and cls.is_declared()
        ]
    )


@takes(Selection)
def plan(
    graph: Graph,
    *,
    removed: Optional[Mapping[str, Sequence[int]]] = None,
    data: Data = None,
    seed: int = 0,
    batch: int = 1,
    metric: Optional[str] = None,
    labels: Any = None,
    executor: Any = None,
    progress: Tick = silent,
    **options: Any,
) -> Plan:
    """What to remove: dead channels, those that a criterion chooses, or those that you name.

    Args:
        graph: the graph; it is not changed, but for its blocks being found.
        removed: by group id, the channels to remove whatever they do; nothing is then folded.
        data: sample inputs, for criteria that look at what channels answer: a path, `Images` of a
            path with their preprocessing, arrays by input name, or an array for the only input;
            else random ones.
        seed: for the criterion `random` and for random inputs.
        batch: examples per run, where the graph leaves that open.
        metric: with `max_loss`, what a loss is; see `sensitivity`.
        labels: for metrics that need them; see `sensitivity`.
        executor: a `concurrent.futures.Executor` that runs the graph where runs can be shared out,
            a number of processes, or `dask://HOST:PORT`; by default this process runs it.
        progress: told of what takes long; see `graphslim.support.progress`.
        **options: those of `Selection`, which describes each; `settings` may be a file, or globs
            and mappings. Without a criterion, dead channels go.

    Raises:
        PlanError: the selection makes no sense for this graph, or cannot be met.
        AnalysisError: the graph contradicts itself.
        GraphslimError: sample inputs do not fit.
        RuntimeUnavailable: the graph has to run, and TensorFlow is not there.
    """
    # Reading and inspecting a graph take none of this.
    from graphslim.channels.groups import as_asked
    from graphslim.measure.samples import Samples
    from graphslim.planner import make_plan
    from graphslim.sweep import read_labels

    find_blocks(graph)
    if removed is not None:
        return plan_given(as_asked(graph, Selection.of(**options)), removed)
    selection = Selection.of(seed=seed, **options)
    samples = Samples(data, batch, progress, None, executor, metric, read_labels(labels))
    return make_plan(graph, selection, samples)


@takes(Selection)
def prune_gradually(
    graph: Graph,
    *,
    rounds: int = 3,
    data: Data = None,
    stages: Optional[Sequence[str]] = None,
    steps: Optional[int] = None,
    seconds: Optional[float] = None,
    batch: Optional[int] = None,
    seed: int = 0,
    threads: int = 0,
    state: StateLike = None,
    progress: Tick = silent,
    **options: Any,
) -> Gradual:
    """Removes channels in rounds: each is chosen on the network that was repaired after the last.

    The share of the budget that stays shrinks by the same factor in each round. After a round the
    result is checked against the network of the round before, and repaired with the original as
    its teacher; see `repair`.

    Args:
        graph: the original; it is not changed, but for its blocks being found.
        rounds: how many.
        data: images or other inputs of the kind that the network is for, without labels.
        stages, batch, threads: as for `repair`.
        steps, seconds: the largest number of steps of distillation, and the longest time that it
            takes, in all rounds together. A round gets four times what the one before got.
        seed: as for `plan` and `repair`.
        state: a file in which is kept what was done so far; see `repair`.
        progress: told of what takes long; see `graphslim.support.progress`.
        **options: those of `Selection`; a criterion and `ratio`, `macs`, `params` or `size`.

    Returns:
        the plan of all rounds together, in the channels of the original, and the repair. On the
        images that no stage has seen, the repaired graph is never worse than the original without
        the channels of that plan.

    Raises:
        PlanError: the selection cannot be walked in rounds, or makes no sense for this graph.
        GraphslimError: as for `repair`.
        VerifyError: a graph does not run, or cannot be trained.
        RuntimeUnavailable: TensorFlow is not there.
    """
    from graphslim.measure.samples import Samples
    from graphslim.planner import make_plan
    from graphslim.recovery.rounds import prune_in_rounds
    from graphslim.recovery.run import Wish

    wish = Wish(seed=seed, threads=threads)
    given: Dict[str, Any] = dict(stages=stages, steps=steps, seconds=seconds, batch=batch)
    wish = wish._replace(**{name: value for name, value in given.items() if value is not None})
    samples = Samples(data, wish.batch, progress, seed)
    return prune_in_rounds(
        find_blocks(graph),
        Selection.of(seed=seed, **options),
        rounds,
        lambda slim, selection: make_plan(find_blocks(slim), selection, samples),
        wish,
        data,
        state,
        progress,
    )


@takes(Selection, RANKED)
def sensitivity(
    graph: Graph,
    *,
    data: Data,
    ratios: Optional[Sequence[float]] = None,
    metric: str = "error",
    labels: Any = None,
    repaired: bool = False,
    stop_at: Optional[float] = None,
    images: Optional[int] = None,
    path: Any = None,
    executor: Any = None,
    seed: int = 0,
    batch: int = 0,
    progress: Tick = silent,
    **options: Any,
) -> Curves:
    """What the network loses as each group alone loses more and more of its channels.

    Args:
        graph: the graph; it is not changed, but for its blocks being found.
        data: images or other inputs of the kind that the network is for; see `plan`. A quarter of
            them is kept aside: no criterion looks at it and no loss is measured on it, so that a
            plan by the curves can be judged on it.
        ratios: the shares of each group's channels that are removed; by default eighths.
        metric: what a loss is: `error`, `agreement`, `iou`, `accuracy`, or `file.py:function`; see
            `graphslim.sweep.metric`.
        labels: for `accuracy`, or for a function of outputs and labels: an array with one label
            for each example along the first axis, or the path of an .npy.
        repaired: fit the layers that read the channels by least squares before measuring.
        stop_at: a loss beyond which larger shares of the same group are not measured.
        images: images that a loss is measured on, at most; by default 256.
        path: a file that grows by a line with each measurement. If it is there, the measurements
            that it holds are not made again.
        executor: a `concurrent.futures.Executor` that makes the measurements, a number of
            processes, or `dask://HOST:PORT`; by default this process makes them.
        seed: of the shares of the images, and of the criterion.
        batch: examples per run, where the graph leaves that open; 0 for 32.
        progress: told of each measurement; see `graphslim.support.progress`.
        **options: those of `Selection` that say which groups, in which steps, and by which
            criterion their channels go.

    Returns:
        the curves, for `plan(..., allocate=...)`.

    Raises:
        PlanError: the selection makes no sense for this graph, or the file is of something else.
        GraphslimError: images or labels do not fit, or a measurement failed.
        VerifyError: the graph does not run.
        RuntimeUnavailable: TensorFlow is not there.
    """
    from graphslim.planner import sensitivity as measured
    from graphslim.sweep import IMAGES, RATIOS, Conditions, Sweep, read_labels

    find_blocks(graph)
    conditions = Conditions(
        data, metric, read_labels(labels), repaired, images or IMAGES, seed=seed
    )
    if batch:
        conditions = conditions._replace(batch=batch)
    target = None if path is None else os.fspath(path)
    how = Sweep(tuple(ratios or RATIOS), stop_at, target, executor)
    return measured(graph, Selection.of(seed=seed, **options), conditions, how, progress)


def soft_prune(
    checkpoint: Checkpointed, plan: Plan, folder: Any, *, force: bool = False, **reading: Any
) -> str:
    """Writes a checkpoint in which a plan's channels are zero, so that training can go on.

    Args:
        checkpoint: a prefix, or what `open_checkpoint` gave.
        plan: what goes, such as `plan(open_checkpoint(prefix).graph, ...)`.
        folder: where to; see `graphslim.checkpoint.soft.soft_prune`.
        force: allow a folder that is not empty.
        **reading: how a prefix is read; see `open_checkpoint`.

    Returns:
        the prefix of the new checkpoint.

    Raises:
        LoadError, PlanError, EmitError: the checkpoint, the plan or the folder will not do.
        RuntimeUnavailable: TensorFlow is not there.
    """
    from graphslim.checkpoint.soft import soft_prune as run

    return run(_opened(checkpoint, reading), plan, folder, force=force)


def summary(
    checkpoint: Checkpointed, plan: Plan, *, below: float = DEAD_BELOW, **reading: Any
) -> Summary:
    """The failed rate: the share of a plan's filters that are not zero after retraining.

    Args:
        checkpoint: a prefix, or what `open_checkpoint` gave.
        plan: what was set to zero.
        below: a filter whose absolute weights sum up to less is zero.
        **reading: how a prefix is read; see `open_checkpoint`.

    Raises:
        LoadError, PlanError: the checkpoint or the plan will not do.
        RuntimeUnavailable: TensorFlow is not there.
    """
    from graphslim.checkpoint.soft import summarise

    return summarise(_opened(checkpoint, reading), plan, below)


def strip(
    checkpoint: Checkpointed,
    plan: Plan,
    folder: Any,
    *,
    allow_unconverged: bool = False,
    fold: bool = False,
    write_meta: bool = True,
    force: bool = False,
    **reading: Any,
) -> Any:
    """Cuts a plan's channels from a checkpoint, its MetaGraph and its frozen inference graph.

    Args:
        checkpoint: a prefix, or what `open_checkpoint` gave.
        plan: what goes.
        folder: where to; see `graphslim.checkpoint.strip.strip`, whose `Stripped` this gives.
        allow_unconverged: cut channels that are not zero too.
        fold: cut channels that are constant too, and fold the constants.
        write_meta: write the MetaGraph too.
        force: allow a folder that is not empty.
        **reading: how a prefix is read; see `open_checkpoint`.

    Raises:
        VerifyError: channels are not zero, or the result failed its check; nothing is written.
        LoadError, PlanError, EmitError: the checkpoint, the plan or the folder will not do.
        RuntimeUnavailable: TensorFlow is not there.
    """
    from graphslim.checkpoint.strip import strip as run

    return run(
        _opened(checkpoint, reading),
        plan,
        folder,
        allow_unconverged=allow_unconverged,
        fold=fold,
        write_meta=write_meta,
        force=force,
    )


def _opened(checkpoint: Checkpointed, reading: Mapping[str, Any]) -> Trained:
    """A checkpoint, opened if it is a prefix yet, its blocks found.

    Raises:
        LoadError: the prefix holds no checkpoint, or an open checkpoint is told how to be read.
    """
    from graphslim.checkpoint import Trained, open_checkpoint

    if not isinstance(checkpoint, Trained):
        checkpoint = open_checkpoint(checkpoint, **reading)
    elif reading:
        raise LoadError("the checkpoint is open already", next(iter(reading)), "leave it out")
    find_blocks(checkpoint.graph)
    return checkpoint
