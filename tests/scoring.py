"""What the tests of criteria share: small networks, and their scores."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np
from tiny import constant, tiny

import graphslim as gs
from graphslim.scoring import Scores, find_criterion, score

WEIGHTS = [name for name, one in gs.criteria().items() if one.kind == "weights"]

PLAIN = """
    x = input 1,6,6,3
    w = f32[3,3,3,4]{random 1}
    y = Conv2D(x, w)
    r = Relu(y)
    v = f32[1,1,4,2]{random 2}
    z = Conv2D(r, v)
"""
RESIDUAL = """
    x = input 1,6,6,3
    w = f32[1,1,3,4]{random 1}
    a = Conv2D(x, w)
    u = f32[3,3,3,4]{random 2}
    b = Conv2D(x, u)
    y = AddV2(a, b)
    r = Relu(y)
    v = f32[1,1,4,2]{random 3}
    z = Conv2D(r, v)
"""


NORMS: Dict[str, str] = {
    "fused": "n = FusedBatchNorm(y, gamma, beta, mean, var)",
    "v3": "n = FusedBatchNormV3(y, gamma, beta, mean, var) U=float32"
    " epsilon=0.001 is_training=false",
    "identity": "g = Identity(gamma)\n n = FusedBatchNorm(y, g, beta, mean, var)",
    "global": "n = BatchNormWithGlobalNormalization(y, mean, var, beta, gamma)"
    " scale_after_normalization=true variance_epsilon=0.001",
    "pieces": "d = AddV2(var, eps)\n q = Rsqrt(d)\n m = Mul(q, gamma)\n s = Mul(y, m)\n"
    " k = Mul(mean, m)\n o = Sub(beta, k)\n n = AddV2(s, o)",
    "divided": "d = AddV2(var, eps)\n q = Sqrt(d)\n m = RealDiv(gamma, q)\n s = Mul(y, m)\n"
    " n = AddV2(s, beta)",
    "reshaped": "l = i32[4]{1 1 1 4}\n m = Reshape(gamma, l)\n s = Mul(m, y)\n"
    " n = BiasAdd(s, beta)",
    "after": "d = AddV2(var, eps)\n q = Rsqrt(d)\n m = Sub(y, mean)\n t = Mul(m, q)\n"
    " s = Mul(t, gamma)\n i = Identity(s)\n n = AddV2(beta, i)",
}


def normed(norm: str, gamma: str = "{-2 0.5 1 3}") -> gs.Graph:
    return tiny(f"""
        x = input 1,6,6,3
        w = f32[1,1,3,4]{{random 1}}
        y = Conv2D(x, w)
        gamma = f32[4]{gamma}
        beta = f32[4]{{random 2}}
        mean = f32[4]{{random 3}}
        var = f32[4]{{1 2 3 4}}
        eps = f32[]{{0.001}}
        {norm}
        r = Relu(n)
        v = f32[1,1,4,2]{{random 4}}
        z = Conv2D(r, v)
        output z
    """)


def half_normed(norm: str) -> gs.Graph:
    """A convolution with a batch norm, and one without."""
    return tiny(f"""
        x = input 1,6,6,3
        w = f32[1,1,3,4]{{random 1}}
        y = Conv2D(x, w)
        gamma = f32[4]{{-2 0.5 1 3}}
        beta = f32[4]{{random 2}}
        mean = f32[4]{{random 3}}
        var = f32[4]{{1 2 3 4}}
        {norm}
        v = f32[1,1,4,2]{{random 4}}
        z = Conv2D(n, v)
        u = f32[1,1,2,2]{{random 5}}
        out = Conv2D(z, u)
    """)


def scored(graph: gs.Graph, criterion: str, **options: Any) -> Scores:
    channels = gs.analyse(graph)
    groups = [group for group in channels.groups if group.prunable]
    return score(graph, channels, groups, criterion, **options)


def with_numbers(graph: gs.Graph, name: str, numbers: Any) -> gs.Graph:
    tensor = graph[name].attrs["value"]
    graph.set_attr(name, "value", tensor.with_numbers(np.asarray(numbers).reshape(tensor.shape)))
    return graph


def call(name: str, weights: Any) -> np.ndarray:
    result: np.ndarray = find_criterion(name).function(np.array(weights, np.float64))
    return result


def filters(graph: gs.Graph, name: str = "w") -> np.ndarray:
    """The filters of a convolution, one row for each."""
    weights = constant(graph, name).astype(np.float64)
    return weights.reshape(-1, weights.shape[-1]).T


def custom(name: str = "mine", **options: Any) -> None:
    @gs.criterion(name, **options)
    def mine(weights: np.ndarray) -> np.ndarray:
        """The sum of weights."""
        return weights.sum(axis=1)
