"""An ONNX network as a torch module of `Conv2d`, `BatchNorm2d` and `Linear`, for Torch-Pruning.

The modules are those that a person would have written: a channel-wise product and sum of constants
is a batch norm, and what only changes the rank does not state how many channels there are.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

Maker = Callable[["_Node"], nn.Module]
_MAKERS: Dict[str, Maker] = {}


class Network(nn.Module):
    """Runs its steps in the order of the ONNX graph; takes one image batch, NCHW float32."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
        self.image = model.graph.input[0].name
        self.results = [one.name for one in model.graph.output]
        self.steps: List[Tuple[nn.Module, List[str], str]] = []
        self.parts = nn.ModuleList()
        for raw in model.graph.node:
            node = _Node(raw, constants)
            module = _MAKERS[node.op](node)
            self.parts.append(module)
            self.steps.append((module, node.sources, node.result))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The network's first output."""
        known = {self.image: image}
        for module, sources, result in self.steps:
            known[result] = module(*[known[name] for name in sources])
        return known[self.results[0]]

    def last_layers(self) -> List[nn.Module]:
        """The layers that make the outputs, whose channels have to stay."""
        makers = {result: (module, sources) for module, sources, result in self.steps}
        found, waiting = [], list(self.results)
        while waiting:
            module, sources = makers.get(waiting.pop(), (None, []))
            if isinstance(module, (nn.Conv2d, nn.Linear, _PaddedConv)):
                found.append(module)
            else:
                waiting.extend(sources)
        return found


def load(path: str) -> Network:
    """The module of an ONNX file, in inference mode.

    Raises:
        KeyError: the network has an op that is not needed by those that are measured.
    """
    return Network(onnx.load(path)).eval()


class _Node:
    """An ONNX node: its attributes, its constants by place, and the names of the rest."""

    def __init__(self, raw: Any, constants: Dict[str, np.ndarray]) -> None:
        self.op = raw.op_type
        self.attrs = {one.name: onnx.helper.get_attribute_value(one) for one in raw.attribute}
        self.constants = {
            place: constants[name] for place, name in enumerate(raw.input) if name in constants
        }
        self.sources = [name for name in raw.input if name and name not in constants]
        self.result = raw.output[0]

    def constant(self, place: int) -> Optional[np.ndarray]:
        return self.constants.get(place)


class _Function(nn.Module):
    """A function without parameters, as a module."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return self.function(*tensors)


class _PaddedConv(nn.Module):
    """A convolution that is padded more on one side, as TensorFlow's SAME is."""

    def __init__(self, pads: List[int], conv: nn.Module) -> None:
        super().__init__()
        self.pads, self.conv = pads, conv

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.conv(functional.pad(image, self.pads))


def _makes(*ops: str) -> Callable[[Maker], Maker]:
    def register(maker: Maker) -> Maker:
        _MAKERS.update({op: maker for op in ops})
        return maker

    return register


def _parameter(value: np.ndarray) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(value, np.float32)))


def _sides(pads: Any) -> Tuple[List[int], bool]:
    """ONNX pads (top, left, bottom, right) as torch wants them, and whether both sides agree."""
    top, left, bottom, right = pads or (0, 0, 0, 0)
    return [left, right, top, bottom], (top, left) == (bottom, right)


@_makes("Conv")
def _conv(node: _Node) -> nn.Module:
    weight, bias = node.constants[1], node.constant(2)
    groups = int(node.attrs.get("group", 1))
    sides, even = _sides(node.attrs.get("pads"))
    conv = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        weight.shape[2:],
        stride=tuple(node.attrs.get("strides", (1, 1))),
        padding=(sides[2], sides[0]) if even else 0,
        dilation=tuple(node.attrs.get("dilations", (1, 1))),
        groups=groups,
        bias=bias is not None,
    )
    conv.weight = _parameter(weight)
    if bias is not None:
        conv.bias = _parameter(bias)
    return conv if even else _PaddedConv(sides, conv)


@_makes("Gemm")
def _gemm(node: _Node) -> nn.Module:
    weight = node.constants[1] if node.attrs.get("transB") else node.constants[1].T
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight = _parameter(weight)
    linear.bias = _parameter(np.ravel(node.constants[2]))
    return linear


@_makes("Add", "Mul")
def _both(node: _Node) -> nn.Module:
    function = torch.add if node.op == "Add" else torch.mul
    if not node.constants:
        return _Function(function)
    ((_, value),) = node.constants.items()
    if value.size == 1:
        number = float(value.reshape(()))
        return _Function(lambda tensor: function(tensor, number))
    return _norm(*((1.0, value.ravel()) if node.op == "Add" else (value.ravel(), 0.0)))


def _norm(scale: Any, offset: Any) -> nn.BatchNorm2d:
    """A batch norm that multiplies by `scale` and adds `offset`, one number for each channel."""
    norm = nn.BatchNorm2d(max(np.size(scale), np.size(offset)), eps=0.0)
    width = norm.num_features
    norm.weight = _parameter(np.broadcast_to(scale, width))
    norm.bias = _parameter(np.broadcast_to(offset, width))
    return norm


@_makes("Clip")
def _clip(node: _Node) -> nn.Module:
    low, high = float(node.constants[1]), float(node.constants[2])
    return _Function(lambda tensor: torch.clamp(tensor, low, high))


@_makes("Relu", "Sigmoid", "Softmax")
def _activation(node: _Node) -> nn.Module:
    softmax = _Function(lambda tensor: torch.softmax(tensor, 1))
    return {"Relu": nn.ReLU(), "Sigmoid": nn.Sigmoid(), "Softmax": softmax}[node.op]


@_makes("GlobalAveragePool")
def _global_pool(node: _Node) -> nn.Module:
    return nn.AdaptiveAvgPool2d(1)


@_makes("AveragePool", "MaxPool")
def _pool(node: _Node) -> nn.Module:
    maker = nn.AvgPool2d if node.op == "AveragePool" else nn.MaxPool2d
    sides, _ = _sides(node.attrs.get("pads"))
    strides = tuple(node.attrs.get("strides", (1, 1)))
    return maker(tuple(node.attrs["kernel_shape"]), strides, padding=(sides[2], sides[0]))


@_makes("Squeeze", "Reshape")
def _flatten(node: _Node) -> nn.Module:
    """All that these networks reshape is a pooled vector, with or without its 1x1 map."""
    return nn.Flatten()


@_makes("Pad")
def _pad(node: _Node) -> nn.Module:
    pads = [int(number) for number in node.constants[1]]
    (top, left), (bottom, right) = pads[2:4], pads[6:8]
    return _Function(lambda tensor: functional.pad(tensor, [left, right, top, bottom]))


@_makes("Concat")
def _concat(node: _Node) -> nn.Module:
    return _Function(lambda *tensors: torch.cat(tensors, 1))


@_makes("DepthToSpace")
def _depth_to_space(node: _Node) -> nn.Module:
    return _DepthToSpace(int(node.attrs["blocksize"]))


class _DepthToSpace(nn.Module):
    """ONNX's default order, which is TensorFlow's: the block comes before the channel."""

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        batch, depth, height, width = image.shape
        b = self.block
        parts = image.reshape(batch, b, b, depth // (b * b), height, width)
        moved = parts.permute(0, 3, 4, 1, 5, 2)
        return moved.reshape(batch, depth // (b * b), height * b, width * b)


@_makes("Transpose")
def _transpose(node: _Node) -> nn.Module:
    order = tuple(node.attrs["perm"])
    return _Function(lambda tensor: tensor.permute(order))
