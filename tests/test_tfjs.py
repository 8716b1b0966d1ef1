"""TensorFlow.js graph models as inputs, written here by their public format."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import pytest
from command import Run

import graphslim as gs
from graphslim.errors import LoadError
from graphslim.graphdef.protos import json_format
from graphslim.runtime import Session
from graphslim.testing import assert_mask_equivalent, from_text, random_plan

CONV = 'T=float32 data_format="NHWC" padding="SAME" strides=[1,1,1,1] dilations=[1,1,1,1]'
CONSTANTS = """
w = Const() dtype=float32 value=float32[3,3,3,8]{random 1}
b = Const() dtype=float32 value=float32[8]{random 2}
d = Const() dtype=float32 value=float32[3,3,8,1]{random 3}
e = Const() dtype=float32 value=float32[8]{random 4}
slope = Const() dtype=float32 value=float32[8]{random 5}
axes = Const() dtype=int32 value=int32[2]{1 2}
m = Const() dtype=float32 value=float32[8,5]{random 6}
n = Const() dtype=float32 value=float32[5]{random 7}
"""
INPUT = "x = Placeholder() dtype=float32 shape=<?,6,6,3>\n"
FUSED = f"""{INPUT}{CONSTANTS}
conv = _FusedConv2D(x, w, b, slope) fused_ops=["BiasAdd","Prelu"] num_args=2 epsilon=0.0 {CONV}
deep = FusedDepthwiseConv2dNative(conv, d, e) fused_ops=["BiasAdd","Relu6"] num_args=2 {CONV}
bent = Prelu(deep, slope)
pool = Mean(bent, axes) T=float32 Tidx=int32 keep_dims=false
y = _FusedMatMul(pool, m, n) T=float32 fused_ops=["BiasAdd"] num_args=1 transpose_a=false \
transpose_b=false
"""


def prelu(name: str, x: str) -> str:
    return f"""
{name}/a = Relu({x}) T=float32
{name}/b = Neg({x}) T=float32
{name}/c = Relu({name}/b) T=float32
{name}/d = Mul(slope, {name}/c) T=float32
{name} = Sub({name}/a, {name}/d) T=float32
"""


SPELLED = f"""{INPUT}{CONSTANTS}
conv/1 = Conv2D(x, w) {CONV}
conv/2 = BiasAdd(conv/1, b) T=float32
{prelu("conv", "conv/2")}
deep/1 = DepthwiseConv2dNative(conv, d) {CONV}
deep/2 = BiasAdd(deep/1, e) T=float32
deep = Relu6(deep/2) T=float32
{prelu("bent", "deep")}
pool = Mean(bent, axes) T=float32 Tidx=int32 keep_dims=false
y/1 = MatMul(pool, m) T=float32 transpose_a=false transpose_b=false
y = BiasAdd(y/1, n) T=float32
"""


def graph_of(text: str) -> gs.Graph:
    return from_text(text.replace("\\\n", ""))


def write(
    folder: Path, graph: gs.Graph, quantized: Optional[str] = None, shards: int = 2, **more: Any
) -> Path:
    """Writes a graph model; gives the path of its model.json."""
    folder.mkdir(exist_ok=True)
    topology = json_format.MessageToDict(gs.to_graph_def(graph))
    data, weights = b"", []
    for node in topology["node"]:
        if node["op"] != "Const":
            continue
        tensor = graph[node["name"]].attrs["value"]
        kept = node["attr"]["value"]["tensor"]
        node["attr"]["value"]["tensor"] = {
            key: kept[key] for key in ("dtype", "tensorShape") if key in kept
        }
        values = np.asarray(tensor.array)
        weight: Dict[str, Any] = {
            "name": node["name"], "shape": list(values.shape), "dtype": values.dtype.name
        }  # fmt: skip
        if values.dtype == object:
            weight["dtype"] = "string"
            data += b"".join([struct.pack("<I", len(text)) + text for text in values.ravel()])
        else:
            if quantized and values.dtype == np.float32:
                weight["quantization"], values = _quantized(values, quantized)
            data += values.tobytes()
        weights.append(weight)
    size = -(-len(data) // shards)
    paths = [f"group1-shard{index + 1}of{shards}.bin" for index in range(shards)]
    for index, name in enumerate(paths):
        (folder / name).write_bytes(data[index * size : (index + 1) * size])
    tree = {
        "format": "graph-model",
        "modelTopology": topology,
        "weightsManifest": [{"paths": paths, "weights": weights}],
        **more,
    }
    (folder / "model.json").write_text(json.dumps(tree))
    return folder / "model.json"


def _quantized(values: np.ndarray, kind: str) -> Any:
    if kind == "float16":
        return {"dtype": kind, "original_dtype": "float32"}, values.astype(np.float16)
    low, most = float(values.min()), np.iinfo(kind).max
    scale = float(values.max() - low) / most or 1.0
    stored = np.rint((values - low) / scale).astype(kind)
    return {"dtype": kind, "min": low, "scale": scale, "original_dtype": "float32"}, stored


def run_graph(graph: gs.Graph) -> List[np.ndarray]:
    x = np.random.RandomState(0).rand(2, 6, 6, 3).astype(np.float32)
    with Session(graph) as session:
        return session.run({graph.inputs[0]: x})


@pytest.fixture
def run(tmp_path: Path, capsys: Any, monkeypatch: Any) -> Run:
    return Run(tmp_path, capsys, monkeypatch)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "web", graph_of(SPELLED))


def test_the_values_are_those_that_were_written(tmp_path: Path) -> None:
    wanted = graph_of(SPELLED)
    path = write(tmp_path / "web", wanted)
    for given in (path, path.parent):
        graph = gs.load(given)
        assert (graph.inputs, graph.outputs) == (wanted.inputs, wanted.outputs)
        for node in wanted:
            if node.op == "Const":
                np.testing.assert_array_equal(
                    graph[node.name].attrs["value"].array, node.attrs["value"].array
                )


@pytest.mark.parametrize(("kind", "share"), [("uint8", 256), ("uint16", 65536), ("float16", 1024)])
def test_quantised_weights_become_numbers(kind: str, share: int, tmp_path: Path) -> None:
    wanted = graph_of(SPELLED)
    graph = gs.load(write(tmp_path / "web", wanted, kind))
    for name in ("w", "b", "m"):
        array = wanted[name].attrs["value"].array
        read = graph[name].attrs["value"].array
        assert read.dtype == np.float32
        assert 0 < np.abs(read - array).max() <= np.ptp(array) / share
    assert graph["axes"].attrs["value"].array.tolist() == [1, 2]


@pytest.mark.tf
def test_fused_ops_become_what_they_were(tmp_path: Path) -> None:
    graph = gs.load(write(tmp_path / "web", graph_of(FUSED)))
    ops = {node.op for node in graph}
    assert not any("Fused" in op for op in ops) and "Prelu" not in ops
    assert [str(port) for port in graph.outputs] == ["y"]
    (wanted,), (result,) = run_graph(graph_of(SPELLED)), run_graph(graph)
    np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-5)
    assert_mask_equivalent(graph, random_plan(graph, 1))


def test_the_signature_says_what_is_fed(tmp_path: Path) -> None:
    more = {
        "signature": {
            "inputs": {"image": {"name": "x:0", "dtype": "DT_FLOAT"}},
            "outputs": {"early": {"name": "pool:0"}, "classes": {"name": "y:0"}},
        }
    }
    path = write(tmp_path / "web", graph_of(SPELLED), **more)
    graph = gs.load(path)
    assert (graph.inputs, [str(port) for port in graph.outputs]) == (["x"], ["pool", "y"])
    assert graph.signature["outputs"] == {"early": "pool", "classes": "y"}
    assert [str(port) for port in gs.load(path, outputs=["bent"]).outputs] == ["bent"]


def test_texts_among_the_weights(tmp_path: Path) -> None:
    graph = graph_of(
        "x = Placeholder() dtype=string shape=<2>\n"
        'c = Const() dtype=string value=string[2]{"ab" ""}\n'
        "y = StringJoin(x, c) N=2"
    )
    read = gs.load(write(tmp_path / "web", graph))
    assert read["c"].attrs["value"].array.tolist() == graph["c"].attrs["value"].array.tolist()


def test_more_texts_than_there_are_bytes_are_refused_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "web", graph_of('c = Const() dtype=string value=string[2]{"ab" ""}'))
    tree = json.loads(path.read_text())
    tree["weightsManifest"][0]["weights"][0]["shape"] = [1 << 40]
    path.write_text(json.dumps(tree))
    with pytest.raises(LoadError, match="too short for the weight c"):
        gs.load(path)


def test_commands_take_it(model: Path, run: Run) -> None:
    told = run("prune", "web", "-o", "slim.pb", "--no-verify", "--criterion", "l1",
               "--ratio", "0.5", "--multiple-of", "1")  # fmt: skip
    assert "Written to slim.pb" in told.out + told.err
    assert gs.load("slim.pb")["w"].attrs["value"].shape[-1] == 4
    told = run("prune", "web", "-o", "web/group1-shard1of2.bin", status=2)
    assert not told.out


def test_what_is_damaged_or_something_else(model: Path, tmp_path: Path) -> None:
    def refused(wanted: str, change: Any = None) -> None:
        tree = json.loads(text)
        if change is not None:
            change(tree)
        model.write_text(json.dumps(tree))
        with pytest.raises(LoadError, match=wanted):
            gs.load(model)

    text = model.read_text()
    weights = ["weightsManifest", 0, "weights"]
    refused(
        "a layers model.*tensorflowjs_converter", lambda tree: tree.update(format="layers-model")
    )
    refused("a layers model", lambda tree: tree.update(modelTopology={"model_config": {}}))
    refused("no TensorFlow.js model", lambda tree: tree.pop("modelTopology"))
    refused("a damaged TensorFlow.js", lambda tree: tree["modelTopology"]["node"].append({"op": 3}))
    refused("a damaged TensorFlow.js", lambda tree: _at(tree, weights)[0].pop("shape"))
    refused("a damaged TensorFlow.js", lambda tree: _at(tree, weights)[0].update(shape=[[1], 2]))
    bare = {"name": "bare", "op": "Prelu", "input": ["x"]}
    refused("a damaged TensorFlow.js", lambda tree: tree["modelTopology"]["node"].append(bare))
    refused("a damaged TensorFlow.js", lambda tree: _at(tree, weights)[0].update(dtype="x"))
    refused("its files hold .* and its weights", lambda tree: _at(tree, weights).pop())
    refused("no weights for the constant w", lambda tree: _at(tree, weights)[0].update(name="q"))
    refused("too short", lambda tree: _at(tree, weights)[0].update(shape=[1 << 40]))
    refused("too short", lambda tree: _at(tree, weights)[0].update(shape=[-5]))
    refused("outside of", lambda tree: _at(tree, weights[:2])["paths"].append("../x.bin"))
    (model.parent / "group1-shard2of2.bin").unlink()
    refused(r"shard2of2.bin: a file of its weights is missing \(copy it too")
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(LoadError, match="not JSON"):
        gs.load(tmp_path / "p.json")


def _at(tree: Any, keys: List[Any]) -> Any:
    for key in keys:
        tree = tree[key]
    return tree
