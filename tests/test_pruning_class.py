"""`graphslim.Pruning`: its arguments, scopes and errors, and the published network."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any, Dict, List

import naive_method as naive
import pytest
from networks import Net

import graphslim as gs
from graphslim.errors import LoadError, PlanError, VerifyError
from graphslim.graphdef import parse
from graphslim.graphdef.meta_graph import read_meta
from graphslim.ir.families import VARIABLES
from graphslim.method.scopes import Scopes

ARGUMENTS = [
    "input_ckpt_path",
    "scope_names",
    "scope_conv_dict",
    "conv_vars_dict",
    "bias_vars_dict",
    "pruning_filters_dict",
    "pruned_ckpt_path",
    "retrained_ckpt_path",
    "rebuild_meta_graph",
    "input_tensors_map",
    "ckpt_to_strip",
    "strip_nodes_dict",
    "strip_vars_dict",
    "output_dir",
    "output_nodes",
    "export_ckpt_path",
    "export_pb_path",
]
BLOCKS = naive.TRAINED
SCOPES = list(BLOCKS)


def read(*parts: Any) -> Any:
    with open(os.path.join(*map(str, parts)), encoding="utf-8") as file:
        return json.load(file)


def lines(*parts: Any) -> List[str]:
    with open(os.path.join(*map(str, parts)), encoding="utf-8") as file:
        return file.read().splitlines()


# ---------------------------------------------------------------------- what needs no TensorFlow


def test_the_arguments_are_those_of_the_published_class() -> None:
    parameters = list(inspect.signature(gs.Pruning.__init__).parameters.values())[1:]
    assert [one.name for one in parameters] == ARGUMENTS
    assert {one.kind for one in parameters} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}
    assert not [one for one in parameters if isinstance(one.default, (dict, list))]


def test_two_of_them_share_nothing(tmp_path: Path) -> None:
    one, other = gs.Pruning(str(tmp_path / "a")), gs.Pruning(str(tmp_path / "b"))
    one._pruning_filters_dict["SE1"] = [1]
    assert other._pruning_filters_dict == {}


def test_the_checkpoint_and_folders_have_to_be_given(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="input_ckpt_path"):
        gs.Pruning()
    with pytest.raises(TypeError, match="dir_path"):
        gs.Pruning(str(tmp_path / "model")).set_output_dir()


def test_folders_are_made(tmp_path: Path) -> None:
    pruning = gs.Pruning(str(tmp_path / "model"), output_dir=str(tmp_path / "a" / "b"))
    pruning.set_output_dir(str(tmp_path / "c" / "d"))
    assert (tmp_path / "a" / "b").is_dir() and (tmp_path / "c" / "d").is_dir()
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(gs.GraphslimError, match="the folder cannot be made"):
        pruning.set_output_dir(str(tmp_path / "file" / "x"))


def test_steps_out_of_order_say_which_comes_first(tmp_path: Path) -> None:
    pruning = gs.Pruning(str(tmp_path / "model"))
    for step in (pruning.get_pruning_summary, pruning.get_rebuild_graph):
        with pytest.raises(LoadError, match=r"call get_retrained_ckpt\(\) first"):
            step()
    for other in (pruning.get_strip_params, pruning.get_strip_ckpt):
        with pytest.raises(LoadError, match=r"call get_rebuild_graph\(\) first"):
            other()


@pytest.fixture(scope="module")
def many() -> gs.Graph:
    """SE1 and SE10, expanded_conv_1 and _10, one with an SE block inside, one that must stay."""
    net = Net()
    y = net.x
    for scope in ("SE1/", "deep/SE10/inner/"):
        net.scope = scope
        y = net.squeeze_excite(y, hidden=8)
    for scope in ("net/expanded_conv_1/", "net/expanded_conv_10/"):
        net.scope = scope
        y = net.inverted_residual(y)
    net.scope = "held/"
    y = net.inverted_residual(y, hidden=16)
    soft = net.f("Softmax", net.given["held/expand"])
    net.scope = ""
    y = net.conv(y, 4, name="head")
    return gs.find_blocks(net.graph(y, soft))


def test_a_scope_is_a_whole_name(many: gs.Graph) -> None:
    scopes = Scopes(many, frozenset())
    for name in ("SE1", "SE1/", "net/expanded_conv_1", "net/expanded_conv_10/"):
        block = scopes.named([name])[name].block
        assert block.name == name.strip("/")
    assert scopes.named(["deep"])["deep"].block.name.startswith("deep/SE10")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("SE", "there is .*SE1"),
        ("SE2", "there is .*SE1"),
        ("expanded_conv_1", "there is net/expanded_conv_1[^0]"),
        ("net/expanded_conv_", "there is net/expanded_conv_1"),
        ("net", "holds 2 blocks.*net/expanded_conv_1, net/expanded_conv_10"),
        ("held", "its channels must stay: .*held/softmax"),
        ("", "an empty name"),
        ("qqqqqq", "graphslim inspect"),
    ],
)
def test_a_scope_without_its_block_says_what_there_is(many: gs.Graph, name: str, told: str) -> None:
    with pytest.raises(PlanError, match=told) as caught:
        Scopes(many, frozenset()).named([name])
    assert "\n" not in str(caught.value)


def test_a_block_is_named_once(many: gs.Graph) -> None:
    with pytest.raises(PlanError, match="the same block as 'SE1'"):
        Scopes(many, frozenset()).named(["SE1", "SE1/"])


def test_without_names_all_blocks_whose_channels_may_go(many: gs.Graph) -> None:
    found = Scopes(many, frozenset()).every()
    assert sorted(found) == [
        "SE1",
        "deep/SE10/inner",
        "net/expanded_conv_1",
        "net/expanded_conv_10",
    ]
    with pytest.raises(PlanError, match="no block"):
        Scopes(gs.find_blocks(Net().graph("x")), frozenset()).every()


def test_known_convolutions_tell_the_block_whatever_its_scope(many: gs.Graph) -> None:
    known = {"first": [["SE1/squeeze", 3], ["SE1/excite", 2]], "odd": [["SE1/excite", 3]], "no": 7}
    scopes = Scopes(many, frozenset())
    assert scopes.named(["first"], known)["first"].block.name == "SE1"
    with pytest.raises(PlanError, match="SE1/excite is the scoring convolution of no block"):
        scopes.named(["odd"], known)
    with pytest.raises(PlanError, match="not followed by pairs"):
        scopes.named(["no"], known)


# ---------------------------------------------------------------------- the other ways in


@pytest.fixture(scope="module")
def start(tmp_path_factory: Any) -> str:
    pytest.importorskip("tensorflow")
    import trained

    return trained.train(tmp_path_factory.mktemp("start"), steps=1)


def started(start: str, folder: Path, **options: Any) -> Any:
    import trained

    options.setdefault("output_nodes", trained.OUTPUT)
    return gs.Pruning(start, output_dir=str(folder), **options)


@pytest.mark.tf
@pytest.mark.parametrize("ending", ["pkl", "json"])
def test_filters_of_an_old_pickle_are_pruned(start: str, tmp_path: Path, ending: str) -> None:
    import trained

    filters = {"block_0/": [7, 2, 9], "block_1/SE": [0]}
    file = tmp_path / f"Pruned_Filters.{ending}"
    file.write_bytes(
        pickle.dumps(filters, 3) if ending == "pkl" else json.dumps(filters).encode("utf-8")
    )
    pruning = started(start, tmp_path / "out")
    prefix = pruning.get_pruning_ckpt(pruning_filters_path=str(file))
    assert prefix == str(tmp_path / "out" / "Pruned_Dir" / "model")
    wanted = naive.zeroed(trained.values(start), BLOCKS, filters)
    for key, array in trained.values(prefix).items():
        assert array.tobytes() == wanted[key].tobytes(), key
    assert f"Pruning dict is {file}" in lines(tmp_path, "out/Pruned_Dir/Pruned_Filters.txt")
    pruning.get_retrained_ckpt(os.path.dirname(prefix))
    assert pruning.get_pruning_summary() == 0.0


@pytest.mark.tf
def test_dictionaries_of_earlier_runs_may_be_given(start: str, tmp_path: Path) -> None:
    """By position as well, as pickles, JSON or themselves."""
    import trained

    first = started(start, tmp_path / "first", scope_names=SCOPES)
    first.get_pruning_params()
    old = tmp_path / "Scope_Conv_Dict.pkl"
    old.write_bytes(pickle.dumps(first._scope_conv_dict, 2))
    given = [str(old), str(tmp_path / "first/Pruning_Dict/Conv_Vars_Dict.json"), {}]
    pruning = gs.Pruning(start, [], *given, {"block_2/": [1, 2]}, output_nodes=trained.OUTPUT)
    pruning.set_output_dir(str(tmp_path / "second"))
    values = trained.values(pruning.get_pruning_ckpt())
    wanted = naive.zeroed(trained.values(start), BLOCKS, {"block_2/": [1, 2]})
    assert all(values[key].tobytes() == array.tobytes() for key, array in wanted.items())


@pytest.mark.tf
def test_without_names_blocks_are_found_by_structure(start: str, tmp_path: Path) -> None:
    import trained

    pruning = started(start, tmp_path)
    pruning.set_threshold(0.6)
    pruning.get_pruning_filters()
    blocks = {name.strip("/"): block for name, block in BLOCKS.items()}
    wanted = naive.filters_to_remove(trained.values(start), blocks, 0.6)
    assert read(tmp_path, "Pruning_Dict", "Pruned_Filters.json") == wanted != {}


@pytest.mark.tf
@pytest.mark.parametrize(
    ("filters", "told"),
    [
        ({"block_0": [16]}, "block_0: has only 16 filters, 16 is none of them"),
        ({"block_0": list(range(16))}, "block_0: would lose all its filters"),
        ({"block": [1]}, "no block is in a scope of that name"),
    ],
)
def test_filters_that_do_not_fit_are_refused(
    start: str, tmp_path: Path, filters: Dict[str, List[int]], told: str
) -> None:
    pruning = started(start, tmp_path / "out", pruning_filters_dict=filters)
    with pytest.raises(PlanError, match=told):
        pruning.get_pruning_ckpt()
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.tf
def test_a_threshold_that_nothing_exceeds_prunes_nothing(start: str, tmp_path: Path) -> None:
    import trained

    pruning = started(start, tmp_path)
    pruning.set_threshold(1.0)
    prefix = pruning.pruning_process()
    before, after = trained.values(start), trained.values(prefix)
    assert all(after[key].tobytes() == array.tobytes() for key, array in before.items())
    pruning.get_retrained_ckpt(os.path.dirname(prefix))
    assert pruning.get_pruning_summary() == 0.0


@pytest.mark.tf
def test_a_folder_without_a_checkpoint_gives_one_line(start: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no checkpoint in this folder"):
        started(start, tmp_path).get_retrained_ckpt(str(tmp_path))


@pytest.mark.tf
def test_filters_that_came_back_are_not_stripped(start: str, tmp_path: Path) -> None:
    """Nothing was pruned in this checkpoint: every filter is alive."""
    pruning = started(
        start, tmp_path, pruning_filters_dict={"block_0": [1, 2]}, retrained_ckpt_path=start
    )
    pruning.get_rebuild_graph()
    with pytest.raises(VerifyError, match="6 of the 6 filters to be cut are not zero"):
        pruning.get_strip_ckpt()
    assert not (tmp_path / "Stripped_Dir").exists()


@pytest.mark.tf
@pytest.mark.parametrize("given", ["name", "placeholder"])
def test_rebuilds_from_a_given_graph_with_another_input(
    start: str, tmp_path: Path, given: str
) -> None:
    import tensorflow.compat.v1 as tf
    import trained

    meta = str(tmp_path / "inference.meta")
    trained.write_inference_meta(meta, start)
    with tf.Graph().as_default():
        fed = "fed" if given == "name" else tf.placeholder(tf.float32, [2, 8, 8, 3], name="fed")
    pruning = started(
        start,
        tmp_path / "out",
        rebuild_meta_graph=meta,
        input_tensors_map={"image": fed},
        pruning_filters_dict={"block_0": [3, 5, 6, 7]},
    )
    pruning.get_retrained_ckpt(os.path.dirname(pruning.get_pruning_ckpt()))
    prefix = pruning.get_rebuild_graph()
    assert sorted(trained.values(prefix)) == sorted(set(trained.values(start)) - {"global_step"})
    pruning.get_strip_params()
    pruning.get_strip_ckpt()
    slim = gs.load(str(tmp_path / "out" / "Stripped_Dir" / "modify.pb"))
    assert slim.inputs == ["fed"]
    dims = slim["fed"].attrs["shape"].dims
    assert dims == ((2, 8, 8, 3) if given == "placeholder" else (None, 8, 8, 3))
    assert slim["block_0/expand/weights"].attrs["value"].shape == (1, 1, 8, 12)


@pytest.mark.tf
def test_an_input_that_is_not_there_gives_one_line(start: str, tmp_path: Path) -> None:
    pruning = started(
        start, tmp_path, retrained_ckpt_path=start, input_tensors_map={"nothing": "fed"}
    )
    with pytest.raises(LoadError, match="no node 'nothing' to replace"):
        pruning.get_rebuild_graph()
    assert os.listdir(tmp_path) == []


@pytest.mark.tf
def test_without_output_nodes_the_loss_tells_the_output(start: str, tmp_path: Path) -> None:
    pruning = gs.Pruning(start, output_dir=str(tmp_path))
    pruning.get_pruning_params()
    assert sorted(read(tmp_path, "Pruning_Dict", "Scope_Conv_Dict.json")) == sorted(
        [name.strip("/") for name in SCOPES]
    )


# ---------------------------------------------------------------------- the published network


@pytest.mark.tf
def test_the_published_network_is_pruned_as_it_was(shared: Path, tmp_path: Path) -> None:
    """Its users' scopes; the filters, and the stripped graph, are those that were published."""
    from graphslim.runtime import write_checkpoint

    folder = shared / "mobilepose"
    values = gs.load(str(folder / "inflated.pb"))
    meta = read_meta(str(folder / "model.meta"))
    variables = [n.name for n in parse(meta.graph, "m", has_variables=True) if n.op in VARIABLES]
    write_checkpoint(
        str(tmp_path / "model"), {one: values[one].attrs["value"].numbers() for one in variables}
    )
    shutil.copyfile(str(folder / "model.meta"), str(tmp_path / "model.meta"))
    scopes = ["SE1", "SE2", "SE3"] + [f"MobilenetV2/expanded_conv_{i}/" for i in range(1, 17)]
    pruning = gs.Pruning(str(tmp_path / "model"), scopes, output_dir=str(tmp_path / "out"))
    pruning.set_threshold(0.6)
    ckpt = pruning.pruning_process()
    wanted = read(folder, "removed.json")
    filters = read(tmp_path, "out", "Pruning_Dict", "Pruned_Filters.json")
    assert {name.strip("/"): gone for name, gone in filters.items()} == wanted
    assert set(filters) <= set(scopes)
    pruning.get_retrained_ckpt(os.path.dirname(ckpt))
    assert pruning.get_pruning_summary() == 0.0
    pruning.get_rebuild_graph()
    pruning.get_strip_params()
    pruning.get_strip_ckpt()
    slim = gs.load(str(tmp_path / "out" / "Stripped_Dir" / "modify.pb"))
    constants = [n for n in gs.load(str(folder / "stripped.pb")) if n.op == "Const"]
    for node in constants:
        assert slim[node.name].attrs["value"].array.tobytes() == (
            node.attrs["value"].array.tobytes()
        ), node.name
