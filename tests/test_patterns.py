"""Blocks are recognised by structure, in every spelling; what only looks like one is not."""

from __future__ import annotations

from typing import Callable, Dict, List, Optional

import pytest
from networks import Net, blocks, reason
from spellings import ACTIVATIONS, NORMS

import graphslim as gs
from graphslim.ir import Block
from graphslim.match import PATTERNS, Matcher
from graphslim.plans import why_not
from graphslim.testing import assert_mask_equivalent, random_plan

IR, SE = "inverted_residual", "squeeze_excite"


def assert_inverted_residual(net: Net) -> Block:
    """The one block of a network, with its three layers in their roles."""
    found = blocks(net.graph(), IR)
    assert len(found) == 1
    roles = {role: found[0].role(role) for role in ("expand", "depthwise", "project")}
    assert roles == {role: net.given[role] for role in roles}
    assert found[0].channels_of == gs.Port(net.given["expand"])
    return found[0]


# ---------------------------------------------------------------------- inverted residuals


@pytest.mark.parametrize("act_name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("norm_name", sorted(NORMS))
def test_finds_an_inverted_residual_in_any_spelling(norm_name: str, act_name: str) -> None:
    net = Net()
    net.inverted_residual(net.x, norm=norm_name, act=act_name)
    assert_inverted_residual(net)


@pytest.mark.parametrize("add", ["Add", "AddV2", "AddN"])
def test_finds_it_with_any_sum(add: str) -> None:
    net = Net()
    net.inverted_residual(net.x, add=add)
    assert_inverted_residual(net)


@pytest.mark.parametrize(
    "options", [{"stride": 2}, {"multiplier": 2}, {"kernel": 5}, {"kernel": 1}]
)
def test_finds_it_with_any_stride_multiplier_and_kernel(options: Dict[str, int]) -> None:
    net = Net()
    net.inverted_residual(net.x, **options)
    assert_inverted_residual(net)


@pytest.mark.parametrize("out", [4, 8, 24, 32])
def test_finds_it_with_any_projection(out: int) -> None:
    net = Net()
    net.inverted_residual(net.x, out=out)
    assert_inverted_residual(net)


@pytest.mark.parametrize("layer", ["padded_depthwise", "dilated_depthwise", "grouped_depthwise"])
@pytest.mark.parametrize("norm_name", ["fused", "primitive", "nothing"])
def test_finds_it_with_any_depthwise_layer(layer: str, norm_name: str) -> None:
    net = Net()
    net.inverted_residual(net.x, depthwise=getattr(net, layer), norm=norm_name)
    assert_inverted_residual(net)


def test_finds_it_without_an_activation_on_the_depthwise_layer() -> None:
    net = Net()
    y = net.f("Relu6", net.conv(net.x, 24, name="expand"))
    net.conv(net.depthwise(y, name="depthwise"), 8, name="project")
    assert_inverted_residual(net)


@pytest.mark.parametrize("act_name", ["relu6", "swish", "hard swish"])
def test_looks_through_identities(act_name: str) -> None:
    net = Net()
    net.inverted_residual(net.x, act=act_name, inside=lambda y: net.identity(net.identity(y)))
    block = assert_inverted_residual(net)
    assert len([name for name in block.nodes if "identity" in name]) == 12


@pytest.mark.parametrize("se_first", [True, False])
@pytest.mark.parametrize("act_name", ["relu6", "swish", "hard swish"])
def test_finds_it_with_a_squeeze_excite_block_inside(act_name: str, se_first: bool) -> None:
    net = Net()
    net.inverted_residual(
        net.x, act=act_name, se=lambda y: net.squeeze_excite(y, act="relu"), se_first=se_first
    )
    block = assert_inverted_residual(net)
    assert block.role("squeeze") == "squeeze"
    assert len(blocks(net.graph(), SE)) == 1


def test_an_activation_after_project_may_close_the_sum() -> None:
    net = Net()
    y = net.f("Relu6", net.conv(net.x, 24, name="expand"))
    y = net.f("Relu6", net.depthwise(y, name="depthwise"))
    y = net.f("Relu6", NORMS["fused"](net, net.conv(y, 8, name="project")))
    net.f("Add", net.x, y)
    assert_inverted_residual(net)


def test_an_activation_after_the_sum_is_no_concern() -> None:
    net = Net()
    net.f("Relu", net.inverted_residual(net.x))
    assert_inverted_residual(net)


def test_an_output_that_is_read_linearly_as_well_is_linear() -> None:
    """As in networks that activate at the beginning of the next block."""
    net = Net()
    y = net.inverted_residual(net.x, out=16)
    net.concat(net.conv(net.f("Relu", y), 4), y)
    assert_inverted_residual(net)


def test_an_output_that_is_an_output_of_the_graph_is_linear() -> None:
    net = Net()
    y = net.inverted_residual(net.x, out=16, norm="bias")
    z = net.conv(net.f("Relu", y), 4)
    assert len(blocks(net.graph(z, y), IR)) == 1
    assert blocks(net.graph(z), IR) == []


def test_an_expansion_may_keep_the_width_around_a_squeeze_excite_block() -> None:
    """The first block of MobileNetV3-Small: 16 channels, expanded to 16."""
    net = Net(channels=16)
    net.inverted_residual(net.x, hidden=16, stride=2, se=net.squeeze_excite)
    assert_inverted_residual(net)


def test_two_blocks_in_a_row_are_named_after_their_scopes() -> None:
    net = Net()
    net.scope = "net/block_1/"
    y = net.inverted_residual(net.x)
    net.scope = "net/block_2/"
    net.inverted_residual(y)
    found = blocks(net.graph(), IR)
    assert [block.name for block in found] == ["net/block_1", "net/block_2"]
    assert not set(found[0].nodes) & set(found[1].nodes)


def test_a_block_holds_its_constants_and_nothing_else() -> None:
    net = Net()
    y = net.inverted_residual(net.x, norm="primitive", out=16)
    net.f("Relu", net.conv(y, 4))
    graph = net.graph()
    block = blocks(graph, IR)[0]
    order = [node.name for node in graph.order()]
    assert list(block.nodes) == sorted(block.nodes, key=order.index)
    group = gs.analyse(graph).group_at(block.channels_of)
    assert group is not None
    assert {one.param for one in gs.analyse(graph).bindings(group)} <= set(block.nodes)
    assert net.x not in block.nodes and not {"Relu"} & {graph[name].op for name in block.nodes}


# ---------------------------------------------------------------------- what is none


@pytest.mark.parametrize("act_name", ["relu", "relu6", "swish", "hard swish", "hard swish, by 6"])
@pytest.mark.parametrize("norm_name", ["fused", "primitive", "nothing"])
def test_a_mobilenet_v1_chain_is_none(norm_name: str, act_name: str) -> None:
    net = Net()
    y = net.conv(net.x, 16, 3)
    for width in (24, 24, 32):
        y = ACTIVATIONS[act_name](net, NORMS[norm_name](net, net.depthwise(y)))
        y = ACTIVATIONS[act_name](net, NORMS[norm_name](net, net.conv(y, width)))
    assert blocks(net.graph(), IR) == []


@pytest.mark.parametrize("act_name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("norm_name", ["fused", "primitive", "nothing"])
def test_an_activation_after_project_makes_it_none(norm_name: str, act_name: str) -> None:
    net = Net()
    y = net.inverted_residual(net.x, out=16, norm=norm_name)
    net.conv(ACTIVATIONS[act_name](net, net.identity(y)), 8, 3)
    assert reason(net, IR, "expand") == (
        "project: project is followed by an activation, as in MobileNetV1"
    )


def test_a_bottleneck_without_expansion_is_none() -> None:
    net = Net()
    y = net.f("Relu6", net.conv(net.x, 16, 3))
    net.conv(net.f("Relu6", net.depthwise(y)), 8)
    assert blocks(net.graph(), IR) == []


def test_a_separable_convolution_before_a_depthwise_one_is_none() -> None:
    """As in the heads of OpenPose on MobileNet: depthwise, pointwise, depthwise, pointwise."""
    net = Net()
    y = net.f("Relu", net.conv(net.depthwise(net.x), 24, name="expand"))
    net.conv(net.depthwise(y), 8)
    assert reason(net, IR, "expand").endswith(
        "expand is the pointwise half of a separable convolution"
    )


def test_a_resnet_bottleneck_is_none() -> None:
    net = Net()
    y = net.f("Relu", NORMS["fused"](net, net.conv(net.x, 24)))
    y = net.f("Relu", NORMS["fused"](net, net.conv(y, 24, 3)))
    net.f("Relu", net.f("Add", NORMS["fused"](net, net.conv(y, 8)), net.x))
    assert blocks(net.graph(), IR) == []


def test_a_grouped_convolution_is_no_depthwise_one() -> None:
    net = Net()
    y = net.f("Relu", net.conv(net.x, 24, name="expand"))
    net.conv(net.f("Relu", net.conv(y, 24, 3, groups=4)), 8, name="project")
    assert "read more than one channel each" in reason(net, IR, "project")


# ---------------------------------------------------------------------- near misses


def near_block(expand: int = 1, hidden: int = 24, between: str = "Relu6", project: int = 1) -> Net:
    net = Net()
    y = net.conv(net.x, hidden, expand, name="expand")
    y = net.f(between, y, name="between") if between else y
    y = net.f("Relu6", net.depthwise(y, name="depthwise"))
    net.conv(y, 8, project, name="project")
    return net


@pytest.mark.parametrize("asked", ["expand", "depthwise", "project"])
def test_explains_a_kernel_that_is_too_large(asked: str) -> None:
    net = near_block(expand=3)
    assert reason(net, IR, asked) == "expand: expand (Conv2D): kernel 1x1 wanted, it is 3x3"


def test_explains_an_expansion_that_does_not_widen() -> None:
    assert (
        reason(near_block(hidden=8), IR, "expand")
        == "project: expand takes 8 channels to 8, no more"
    )
    assert (
        reason(near_block(hidden=4), IR, "expand")
        == "project: expand takes 8 channels to 4, no more"
    )


def test_explains_a_missing_activation() -> None:
    net = near_block(between="")
    assert reason(net, IR, "expand") == "expand: an activation wanted, it is a Conv2D"
    assert reason(near_block(between="Cos"), IR, "depthwise") == (
        "between: an activation wanted, it is a Cos"
    )


def test_explains_a_project_layer_that_is_too_large() -> None:
    net = near_block(project=3)
    assert reason(net, IR, "project") == "project: project (Conv2D): kernel 1x1 wanted, it is 3x3"


def test_explains_what_stands_in_place_of_a_layer() -> None:
    net = Net()
    y = net.f("Relu6", net.conv(net.x, 24, name="expand"))
    net.conv(net.f("Relu6", net.f("Erf", y, name="other")), 8, name="project")
    assert reason(net, IR, "project") == "other: depthwise wanted, it is a Erf"


def test_says_nothing_of_a_node_that_was_never_near() -> None:
    net = Net()
    net.f("Relu", net.f("Neg", net.x, name="far"))
    assert Matcher(net.graph()).explain(PATTERNS[IR], "far") is None


# ---------------------------------------------------------------------- tapped from outside


def tapped() -> Net:
    """A block whose hidden tensor goes on to a later concatenation, as a U-Net's skip does."""
    net = Net()
    net.scope = "block/"
    y = net.f("Relu6", net.conv(net.x, 24, name="expand"))
    hidden = y
    y = net.f("Relu6", net.depthwise(y, name="depthwise"))
    y = net.conv(y, 8, name="project")
    net.scope = "head/"
    net.conv(net.f("Relu", net.conv(net.concat(hidden, y), 12, name="merge")), 2)
    return net


def test_a_tapped_block_is_found_and_marked() -> None:
    graph = tapped().graph()
    block = blocks(graph, IR)[0]
    assert block.name == "block"
    text = why_not(gs.analyse(graph), block)
    assert text is not None and "also used outside it" in text


def test_scope_blocks_leaves_a_tapped_block_and_scope_all_may_take_it() -> None:
    graph = gs.find_blocks(tapped().graph())
    dead = graph[graph.data_inputs("block/expand")[1].node]
    weights = dead.attrs["value"].array.copy()
    weights[..., 3] = 0
    graph.set_attr(dead, "value", gs.Tensor.of(weights))
    assert gs.plan(graph, scope="blocks", multiple_of=1).removed == 0
    plan = gs.plan(graph, scope="all")
    assert [(group.id, group.block, group.removed) for group in plan.groups] == [
        ("block/expand", None, (3,))
    ]


@pytest.mark.tf
def test_a_tapped_block_is_pruned_rightly() -> None:
    graph = tapped().graph()
    assert_mask_equivalent(graph, random_plan(graph))


# ---------------------------------------------------------------------- never by names


def varied(shuffle: Optional[int]) -> Net:
    """A network of five blocks, in several spellings, and some layers between them."""
    net = Net(channels=3, shuffle=shuffle)
    y = NORMS["fused"](net, net.conv(net.x, 8, 3, stride=2, name="stem"))
    y = net.f("Relu6", y)
    for index, (norm_name, act_name, se) in enumerate(
        [("fused", "relu6", False), ("primitive", "swish", True), ("nothing", "hard swish", True)]
    ):
        net.scope = f"block_{index}/"
        layer: Optional[Callable[[str], str]] = net.squeeze_excite if se else None
        y = net.inverted_residual(y, norm=norm_name, act=act_name, se=layer)
    net.scope = ""
    net.f("Relu", net.conv(y, 4, 3))
    return net


@pytest.mark.parametrize("seed", range(12))
def test_names_and_order_do_not_matter(seed: int) -> None:
    plain, renamed = varied(None), varied(seed)
    last = [net.lines[-1].split(" = ")[0] for net in (plain, renamed)]
    expected = gs.find_blocks(plain.graph(last[0])).blocks
    found = gs.find_blocks(renamed.graph(last[1])).blocks

    def essence(found: List[Block], given: Dict[str, str]) -> object:
        return sorted(
            (
                block.kind,
                sorted((role, given[name]) for role, name in block.roles),
                sorted(map(given.get, block.nodes)),
            )
            for block in found
        )

    assert len(expected) == 5
    back = {own: name for name, own in renamed.given.items()}
    assert essence(found, back) == essence(expected, {name: name for name in plain.given})
