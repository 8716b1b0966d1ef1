"""How much of a network each contender cuts, at one half of each group.

    python -m benchmarks.coverage FOLDER NETWORK

Counted for all in the same way: weights are the elements of the filters of convolutions and of the
matrices of dense layers (batch norms are folded in some of the forms, and left out in all); MACs
are those of convolutions and dense layers.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

import numpy as np

from benchmarks.peers import Contender, Floor, Graphslim, Onnxsim, TorchPruning, contenders
from benchmarks.work import Files, tell


class Size(NamedTuple):
    """Weights and multiply-accumulates of a network."""

    weights: int
    macs: Optional[int]


def of_graph(graph: Any) -> Size:
    """The size of a graph."""
    import graphslim as gs

    weights = 0
    for node in graph:
        if node.op in ("Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "MatMul"):
            source = graph[graph.data_inputs(node)[1].node]
            while source.op in gs.IDENTITIES:
                source = graph[graph.data_inputs(source)[0].node]
            weights += source.attrs["value"].size
    return Size(weights, gs.cost(graph).macs)


def of_onnx(model: Any) -> Size:
    """The size of an ONNX network with a batch of one."""
    import onnx

    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    # What they say of shapes may be from before the cut.
    del plain.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(plain).graph
    shapes = {
        one.name: [size.dim_value or 1 for size in one.type.tensor_type.shape.dim]
        for one in [*inferred.value_info, *inferred.output]
    }
    filters = {one.name: list(one.dims) for one in model.graph.initializer}
    weights, macs = 0, 0
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            shape = filters[node.input[1]]
            weights += int(np.prod(shape))
            places = shapes[node.output[0]][2:] if node.op_type == "Conv" else []
            macs += int(np.prod(shape)) * int(np.prod(places))
    return Size(weights, macs)


def of_torch(network: Any, image: Any) -> Size:
    """The size of a torch module; it is run once."""
    import torch
    from torch import nn

    layers = [one for one in network.modules() if isinstance(one, (nn.Conv2d, nn.Linear))]
    macs = []

    def count(layer: Any, _: Any, result: Any) -> None:
        places = result[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1
        macs.append(layer.weight.numel() * places)

    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        network(image)
    for handle in handles:
        handle.remove()
    return Size(sum([layer.weight.numel() for layer in layers]), sum(macs))


def cut(contender: Contender) -> Dict[str, Any]:
    """Shares of weights and of MACs that a contender removes, or the error that it ends with."""
    import graphslim as gs

    contender.prepare()
    try:
        if isinstance(contender, TorchPruning):
            before = of_torch(contender.slim, contender.image)
            contender.run()
            after = of_torch(contender.slim, contender.image)
        elif isinstance(contender, Onnxsim):
            import onnx

            before = of_onnx(onnx.load(str(contender.source())))
            contender.run()
            after = of_onnx(contender.slim)
        else:
            assert isinstance(contender, Graphslim)
            before = of_graph(gs.load(str(contender.files.frozen)))
            contender.run()
            after = of_graph(contender.slim)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    macs = None if not before.macs or after.macs is None else 1 - after.macs / before.macs
    return {"weights": 1 - after.weights / before.weights, "macs": macs, "of": before._asdict()}


def main() -> None:
    """Tells what each contender cuts."""
    place, name = sys.argv[1:]
    files = Files(name, Path(place) / "current" / name)
    with tempfile.TemporaryDirectory() as folder:
        found = contenders(files, "current", Path(folder) / "out.pb")
        tell({one.name: cut(one) for one in found if not isinstance(one, Floor)})


if __name__ == "__main__":
    main()
