"""The ways of making a network narrower that are measured, each as steps that are timed.

A contender is made of a network's files, does in `prepare` what is not timed, and in `run` what is.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Type

from benchmarks.work import Files, Stopwatch

SHARE = 0.5
"""Of the channels of each group, to be removed."""


class Contender:
    """One way of making one network narrower.

    Attributes:
        name: in the tables.
        needs: modules that it takes.
    """

    name = ""
    needs: List[str] = []

    def __init__(self, files: Files, target: Path) -> None:
        self.files = files
        self.target = target

    def prepare(self) -> None:
        """What every run needs anew and is not timed."""

    def run(self) -> Dict[str, float]:
        """Does the work; gives seconds by step."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether the network's file is there in the form that is needed."""
        return self.files.frozen.is_file()


class Floor(Contender):
    """Reads, parses, serialises and writes a graph, and nothing else."""

    name = "floor"
    needs = ["tensorboard.compat.proto.graph_pb2"]

    def run(self) -> Dict[str, float]:
        """One step: the whole."""
        watch = Stopwatch()
        watch("round trip", self._round_trip)
        return watch.seconds

    def _round_trip(self) -> None:
        from tensorboard.compat.proto.graph_pb2 import GraphDef

        graph = GraphDef.FromString(self.files.frozen.read_bytes())
        self.target.write_bytes(graph.SerializeToString())


class Graphslim(Contender):
    """graphslim: the channels of least l1, half of each group."""

    name = "graphslim"
    needs = ["graphslim"]

    def source(self) -> Path:
        """The file that it starts from."""
        return self.files.frozen

    def ready(self) -> bool:
        """Whether that file is there."""
        return self.source().is_file()

    def run(self) -> Dict[str, float]:
        """Each step of the library."""
        import graphslim as gs

        watch = Stopwatch()
        graph = watch("load", gs.load, str(self.source()))
        watch("analyse", gs.analyse, graph)
        watch("blocks", gs.find_blocks, graph)
        plan = watch("plan", self.plan, graph)
        self.slim = watch("apply", gs.apply, graph, plan)
        watch("write", gs.save, self.slim, str(self.target))
        return watch.seconds

    @staticmethod
    def plan(graph: Any) -> Any:
        """The plan that all are compared by."""
        import graphslim as gs

        return gs.plan(graph, criterion="l1", ratio=SHARE, rank="local", multiple_of=1)


class GraphslimThin(Graphslim):
    """The same on a network of as many nodes with hardly any weights."""

    name = "graphslim, thin"

    def source(self) -> Path:
        """The file that it starts from."""
        return self.files.thin


class Onnxsim(Contender):
    """onnxsim's structured pruning of the network as tf2onnx converts it."""

    name = "onnxsim"
    needs = ["onnx", "onnxsim"]

    def source(self) -> Path:
        """The file that it starts from."""
        return self.files.converted

    def ready(self) -> bool:
        """Whether that file is there."""
        return self.source().is_file()

    def run(self) -> Dict[str, float]:
        """Its steps."""
        import onnx
        from onnxsim.pruning import apply_structured_pruning

        watch = Stopwatch()
        model = watch("load", onnx.load, str(self.source()))
        self.slim = watch("prune", apply_structured_pruning, model, SHARE, "l1")
        watch("write", onnx.save, self.slim, str(self.target))
        return watch.seconds


class OnnxsimSimplified(Onnxsim):
    """The same after onnxsim's simplifier, which folds batch norms; that is not timed."""

    name = "onnxsim, simplified"

    def source(self) -> Path:
        """The file that it starts from."""
        return self.files.simplified


class TorchPruning(Contender):
    """Torch-Pruning's dependency graph and one step, on torch modules of the same network.

    Reading and writing the module are left out.
    """

    name = "Torch-Pruning"
    needs = ["onnx", "torch", "torch_pruning"]

    def __init__(self, files: Files, target: Path) -> None:
        super().__init__(files, target)
        self._network: Any = None

    def ready(self) -> bool:
        """Whether the ONNX file is there."""
        return self.files.simplified.is_file()

    def prepare(self) -> None:
        """A network of its own for each run, since the step changes it."""
        import onnx
        import torch

        from benchmarks.torch_network import Network

        if self._network is None:
            model = onnx.load(str(self.files.simplified))
            sizes = model.graph.input[0].type.tensor_type.shape.dim
            self.image = torch.zeros([size.dim_value or 1 for size in sizes])
            self._network = Network(model).eval()
        self.slim = copy.deepcopy(self._network)

    def run(self) -> Dict[str, float]:
        """Its steps."""
        watch = Stopwatch()
        pruner = watch("build", self._build)
        watch("step", pruner.step)
        return watch.seconds

    def _build(self) -> Any:
        import torch_pruning

        return torch_pruning.pruner.BasePruner(
            self.slim,
            self.image,
            torch_pruning.importance.GroupMagnitudeImportance(p=1),
            pruning_ratio=SHARE,
            ignored_layers=self.slim.last_layers(),
        )


class TransformGraph(Contender):
    """TensorFlow 1.15's Graph Transform Tool with the transforms that its page advises.

    It removes no channel: it folds constants and batch norms, and drops what nobody needs.
    """

    name = "TransformGraph"
    needs = ["tensorflow.tools.graph_transforms"]
    TRANSFORMS = [
        "strip_unused_nodes",
        "remove_nodes(op=Identity, op=CheckNumerics)",
        "fold_constants(ignore_errors=true)",
        "fold_batch_norms",
        "fold_old_batch_norms",
    ]

    def prepare(self) -> None:
        """Names of inputs and outputs."""
        import graphslim as gs

        if not hasattr(self, "ends"):
            graph = gs.load(str(self.files.frozen))
            self.ends = list(graph.inputs), [port.node for port in graph.outputs]

    def run(self) -> Dict[str, float]:
        """Its steps."""
        watch = Stopwatch()
        graph = watch("load", self._load)
        graph = watch("transform", self._transform, graph)
        watch("write", lambda: self.target.write_bytes(graph.SerializeToString()))
        return watch.seconds

    def _load(self) -> Any:
        from tensorflow.compat.v1 import GraphDef

        graph = GraphDef.FromString(self.files.frozen.read_bytes())
        # It knows the first version of this op alone.
        for node in graph.node:
            if node.op == "FusedBatchNormV3":
                node.op = "FusedBatchNorm"
                del node.attr["U"]
        return graph

    def _transform(self, graph: Any) -> Any:
        from tensorflow.tools.graph_transforms import TransformGraph as transformed

        return transformed(graph, *self.ends, self.TRANSFORMS)


ON: Dict[str, List[Type[Contender]]] = {
    "current": [Floor, Graphslim, GraphslimThin, Onnxsim, OnnxsimSimplified, TorchPruning],
    "first": [Floor, Graphslim, GraphslimThin, TransformGraph],
}
"""The contenders by platform: current TensorFlow, and TensorFlow 1.15."""


def installed(contender: Type[Contender]) -> bool:
    """Whether all that it needs can be imported."""
    import importlib

    try:
        for name in contender.needs:
            importlib.import_module(name)
    except ImportError:
        return False
    return True


def contenders(
    files: Files, platform: str, target: Path, only: Optional[str] = None
) -> List[Contender]:
    """Those that can be measured on a network; what they need is then imported."""
    os.makedirs(str(target.parent), exist_ok=True)
    chosen = [one for one in ON[platform] if only in (None, one.name)]
    found = [one(files, target) for one in chosen if installed(one)]
    return [one for one in found if one.ready()]
