"""Random networks for hypothesis: recipes, the strategy that draws them, and what they stand for.

A recipe is a list of layers with their choices. Each is applied to the newest tensor if it fits,
so that a layer that is left out leaves a network: counterexamples shrink to the few that matter.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import random_axes  # noqa: F401  (registers its layers)
import random_blocks  # noqa: F401
import random_images  # noqa: F401
import random_layers
import random_nchw  # noqa: F401
import random_odd  # noqa: F401
import random_shapes  # noqa: F401
import random_spread  # noqa: F401
from hypothesis import strategies as st
from random_builder import LAYERS, Pick, RandomNet

from graphslim.ir import Graph

CHOICES = 8
MOST_LAYERS = 10
MOST_NODES = 400


class Layer(NamedTuple):
    """A layer by its name in `LAYERS`, and its choices."""

    kind: str
    choices: Tuple[int, ...] = ()


class Recipe(NamedTuple):
    """All that makes a network.

    Attributes:
        layers: applied one after the other.
        height, width, channels: of the input.
        batch: of the input; 0 if it is open.
        seed: for the weights.
        dead: how much of them is zero: 0 nothing, 1 some, 2 much.
        raw: whether what nobody reads is an output as it is, not through one more product.
    """

    layers: Tuple[Layer, ...]
    height: int = 6
    width: int = 6
    channels: int = 4
    batch: int = 1
    seed: int = 0
    dead: int = 0
    raw: bool = False


def recipes() -> st.SearchStrategy[Recipe]:
    """Draws recipes; the simplest is a network without layers."""
    choice = st.integers(0, 23)
    one = st.builds(
        Layer, st.sampled_from(sorted(LAYERS)), st.lists(choice, max_size=CHOICES).map(tuple)
    )
    # Without convolutions there is nothing to prune: they come more often than chance has it.
    often = st.sampled_from(("conv", "conv", "depthwise", "inverted_residual", "residual", "norm"))
    usual = st.builds(Layer, often, st.lists(choice, max_size=CHOICES).map(tuple))
    return st.builds(
        Recipe,
        st.lists(one | usual, min_size=1, max_size=MOST_LAYERS).map(tuple),
        height=st.sampled_from((6, 8, 5, 4)),
        width=st.sampled_from((6, 4, 7, 8)),
        channels=st.sampled_from((4, 3, 2, 6)),
        batch=st.sampled_from((1, 2, 0)),
        seed=st.integers(0, 99),
        dead=st.sampled_from((1, 2, 0)),
        raw=st.booleans(),
    )


def build(recipe: Recipe, modern: bool = True) -> Graph:
    """The network of a recipe; `modern` if TensorFlow 2 alone has to run it."""
    net = RandomNet(recipe.height, recipe.width, recipe.channels, recipe.batch or "?", modern)
    for kind, choices in recipe.layers:
        if len(net.lines) > MOST_NODES:
            break
        net.enter()
        made = LAYERS[kind](net, net.live[-1], Pick(choices))
        names = [] if made is None else [made] if isinstance(made, str) else list(made)
        net.live.extend([name for name in names if name not in net.live])
        if len(names) == 1 and names[0] != net.live[-1]:
            net.live.append(names[0])  # an older tensor, to go on from
    return net.filled(_outputs(net, recipe.raw), recipe.seed, recipe.dead)


def _outputs(net: RandomNet, raw: bool) -> List[str]:
    """What nobody reads, mostly through a last product, and what was chosen as an output."""
    read = {word.strip() for line in net.lines for word in _inputs(line)}
    found: List[str] = list(dict.fromkeys(net.taps))
    for place, name in enumerate(dict.fromkeys(net.live)):
        if name in read or name in found or name.startswith("in"):
            continue
        if raw:
            found.append(name)
        else:
            net.scope = f"head{place}/"
            found.append(_head(net, name))
    return found


def _inputs(line: str) -> List[str]:
    return line.split("(", 1)[1].split(")", 1)[0].split(",")


def _head(net: RandomNet, name: str) -> str:
    if random_layers.is_map(net, name):
        return net.conv(name, 3)
    return net.matmul(name, 3)


def feeds_for(graph: Graph, recipe: Recipe, phase: bool = False) -> Dict[str, np.ndarray]:
    """Inputs for the network of a recipe; an open batch is 3."""
    rng = np.random.RandomState(recipe.seed)
    found: Dict[str, np.ndarray] = {}
    for name in graph.inputs:
        if name == "phase" or graph[name].attrs["dtype"].name == "bool":
            found[name] = np.array(phase)
        else:
            dims = [3 if size is None else size for size in _stated(graph, name)]
            found[name] = rng.uniform(-1, 1, dims).astype(np.float32)
    return found


def _stated(graph: Graph, name: str) -> Sequence[Optional[int]]:
    """The sizes of an input; one that states none is reshaped to them."""
    dims = graph[name].attrs["shape"].dims
    if dims is not None:
        return dims
    reshape = [use.node for use in graph.uses_of(name)][0]
    sizes = graph[graph.inputs_of(reshape)[1].node].attrs["value"].numbers().tolist()
    return [None if size < 0 else size for size in sizes]
