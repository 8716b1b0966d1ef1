"""Graphs run by TensorFlow, their gradients, and the part of a graph whose ops it knows."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, List, Mapping, Optional, Sequence

import numpy as np

from graphslim.errors import VerifyError
from graphslim.graphdef import serialize
from graphslim.graphdef.functions import Library
from graphslim.ir import Graph
from graphslim.ir.query import downstream
from graphslim.runtime.library import (
    GRADIENT_ERRORS,
    first_line,
    has_op,
    tensorflow,
    unoptimized,
    without_gpus,
)


class Session:
    """A graph loaded into TensorFlow, ready to run; a context manager.

    Args:
        graph: the graph.
        threads: threads within one op; 0 for as many as there are cores.
        optimize: whether TensorFlow may rewrite the graph before it runs it.

    Raises:
        VerifyError: TensorFlow refuses the graph.
        RuntimeUnavailable: TensorFlow is not there.
    """

    def __init__(self, graph: Graph, threads: int = 1, optimize: bool = True) -> None:
        tf = tensorflow()
        self._graph = graph
        _refuse_unknown(graph)
        definition = tf.GraphDef.FromString(serialize(graph))
        holder = tf.Graph()
        try:
            with holder.as_default():
                tf.import_graph_def(definition, name="")
        except (ValueError, tf.errors.OpError) as error:
            raise VerifyError(
                f"TensorFlow {tf.__version__} refuses the graph: {first_line(error)}",
                graph.name,
                "is it from a newer TensorFlow? --no-verify prunes without running it",
            ) from error
        # Soft placement: a graph may name the GPU that it was trained on.
        configure = tf.ConfigProto if optimize else partial(unoptimized, tf)
        config = configure(
            allow_soft_placement=True,
            device_count=without_gpus(),
            intra_op_parallelism_threads=threads,
            inter_op_parallelism_threads=1,
        )
        self._errors = tf.errors.OpError
        self._session = tf.Session(graph=holder, config=config)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self._session.close()

    def run(
        self, feeds: Mapping[str, np.ndarray], fetches: Optional[Sequence[str]] = None
    ) -> List[np.ndarray]:
        """The values at ports (`node` or `node:port`); by default the graph's outputs.

        Numbers in bfloat16, for which numpy has no type of its own, come as float32.

        Raises:
            VerifyError: the graph fails when it runs.
        """
        names = [str(port) for port in self._graph.outputs] if fetches is None else list(fetches)
        tensors = [tensor_name(name) for name in names]
        try:
            results = self._session.run(
                tensors, {f"{name}:0": value for name, value in feeds.items()}
            )
        except (self._errors, TypeError, ValueError) as error:
            raise VerifyError(
                f"does not run: {first_line(error)}", self._graph.name, _advice(str(error))
            ) from error
        return [value.astype(np.float32) if _is_bfloat16(value) else value for value in results]

    def dtype(self, port: str) -> np.dtype:
        """The element type at a port (`node` or `node:port`), bfloat16 as float32."""
        kind = np.dtype(_tensor(self._session.graph, port).dtype.base_dtype.as_numpy_dtype)
        return np.dtype(np.float32) if kind.name == "bfloat16" else kind

    def prepare(self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> Callable[[], Any]:
        """A function that runs the graph once with little around it, to be timed.

        Args:
            feeds: by input name.
            fetches: ports (`node:port`), whose values are given, or nodes, which are only run.

        The function raises VerifyError where the graph fails.
        """
        holder = self._session.graph
        wanted = [holder.as_graph_element(name) for name in fetches]
        fed = [holder.get_tensor_by_name(f"{name}:0") for name in feeds]
        run, values = self._session.make_callable(wanted, fed), list(feeds.values())

        def once() -> Any:
            try:
                return run(*values)
            except self._errors as error:
                raise VerifyError(
                    f"does not run: {first_line(error)}", self._graph.name, _advice(str(error))
                ) from error

        return once

    def gradients(
        self,
        loss: Mapping[str, Optional[float]],
        ports: Sequence[str],
        signs: Optional[int] = None,
    ) -> List[Optional[str]]:
        """Adds to the graph the gradients of a loss with regard to the values at ports.

        Args:
            loss: by tensor that has a share in it: a factor, by which half the sum of its squares
                counts, or None to take the sum of its elements as they are.
            ports: tensors (`node` or `node:port`).
            signs: a seed; instead of their squares the elements are then summed up with random
                signs, other ones in each run, and times the root of the factor.

        Returns:
            for each port the name of the gradient, for `run`; None where the loss does not depend
            on it in a way that has one.

        Raises:
            VerifyError: an op on the way has no gradient in this TensorFlow.
        """
        tf = tensorflow()
        holder = self._session.graph
        with holder.as_default():
            try:
                terms: List[Any] = []
                for name, factor in loss.items():
                    value = tf.cast(_tensor(holder, name), tf.float32)
                    if signs is not None:
                        drawn = tf.random.uniform(tf.shape(value), -1, 1, seed=signs + len(terms))
                        term = (factor or 1.0) ** 0.5 * tf.sign(drawn) * value
                    else:
                        term = value if factor is None else 0.5 * factor * tf.square(value)
                    terms.append(tf.reduce_sum(term))
                given = [_tensor(holder, port) for port in ports]
                gradients = tf.gradients(tf.add_n(terms), given) if terms else [None] * len(given)
                # A gradient by rows that were gathered is spread over the whole tensor.
                return [
                    None if gradient is None else tf.convert_to_tensor(gradient).name
                    for gradient in gradients
                ]
            except GRADIENT_ERRORS as error:
                raise VerifyError(
                    f"no gradient can be taken: {first_line(error)}",
                    self._graph.name,
                    "name a tensor before that op with --loss-output, or score by the weights",
                ) from error


def _refuse_unknown(graph: Graph) -> None:
    """Refuses ops that this TensorFlow does not have, and names what could be run instead."""
    unknown = unknown_ops(graph)
    if unknown:
        names = [f"--outputs {port}" for port in known_part(graph).outputs[:4]]
        raise VerifyError(
            f"TensorFlow {tensorflow().__version__} does not know the op {', '.join(unknown)}",
            graph.name,
            f"leave it out: {' '.join(names)}",
        )


def tensor_name(port: str) -> str:
    """TensorFlow's name of the tensor at a port, which may be `node` or `node:port`."""
    return port if ":" in port else f"{port}:0"


def _is_bfloat16(value: Any) -> bool:
    return bool(getattr(value, "dtype", None) is not None and value.dtype.name == "bfloat16")


def _tensor(holder: Any, name: str) -> Any:
    """The tensor at a port.

    Raises:
        LookupError: the graph has no such node or output.
    """
    return holder.get_tensor_by_name(tensor_name(name))


def _advice(text: str) -> str:
    if "NHWC" in text or "NCHW" in text:
        return (
            "TensorFlow's CPU kernels take NHWC only, and the pass to-nhwc does not turn this op; "
            "run it on a GPU, or pass --no-verify"
        )
    if "feed" in text.lower() or "shape" in text.lower():
        return "give the sizes with --input-shape NAME=1,224,224,3, or real data with --data"
    return "does the graph given run at all?"


def unknown_ops(graph: Graph) -> List[str]:
    """The types of the ops of a graph that are neither TensorFlow's nor functions of the graph.

    Raises:
        RuntimeUnavailable: TensorFlow is not there.
    """
    library = Library(graph.origin.extras) if graph.origin is not None else Library(())
    types = sorted({node.op for node in graph})
    return [op for op in types if op not in library and not has_op(op)]


def known_part(graph: Graph) -> Graph:
    """The part of a graph that TensorFlow can run: the graph itself, where it knows every op.

    Outputs that need an op that it does not know give way to what that op reads, as far as it is
    computed from the inputs.

    Raises:
        VerifyError: nothing that is computed is left.
        RuntimeUnavailable: TensorFlow is not there.
    """
    unknown = unknown_ops(graph)
    if not unknown:
        return graph
    lost = downstream(graph, [node.name for node in graph if node.op in unknown])
    computed = downstream(graph, graph.inputs)
    read = [
        port
        for node in graph
        if node.op in unknown
        for port in graph.data_inputs(node)
        if port.node in computed - lost - set(graph.inputs)
    ]
    outputs = [port for port in graph.outputs if port.node not in lost]
    if not read and not outputs:
        raise VerifyError(
            f"TensorFlow does not know {', '.join(unknown)}, and nothing else is computed",
            graph.name,
            "name --outputs before it, use a TensorFlow that has it, or pass --no-verify",
        )
    part = graph.copy()
    part.outputs = list(dict.fromkeys([*outputs, *read]))
    for node in reversed(graph.order()):
        if node.name in lost:
            part.set_inputs(node.name, [])
            part.remove(node.name)
    return part
