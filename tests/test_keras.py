"""Keras models as inputs: what is loaded computes what Keras computes, the rest is told."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest
from command import Run

import graphslim as gs
from graphslim import runtime
from graphslim.errors import LoadError, RuntimeUnavailable
from graphslim.runtime import Session
from graphslim.runtime import keras as loader
from graphslim.support.importing import install_hint

OF_OLD = sys.version_info < (3, 8)
"""Whether TensorFlow is 1.15, whose Keras writes HDF5 alone."""
ENDING = ".h5" if OF_OLD else ".keras"

CUSTOM = """
from tensorflow import keras

class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x

class Own(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(x)
"""


def saved(path: Path, build: Callable[[Any], Any], x: Any = None) -> Any:
    """Saves a Keras model whose weights are random; gives what it computes of `x`."""
    tf = runtime.tensorflow()
    keras = loader._keras(tf)
    holder = tf.Graph() if OF_OLD else None
    if holder is None:
        return _saved(keras, path, build, x)
    with holder.as_default(), tf.Session().as_default():
        keras.backend.set_learning_phase(0)
        return _saved(keras, path, build, x)


def _saved(keras: Any, path: Path, build: Callable[[Any], Any], x: Any) -> Any:
    model = build(keras)
    rng = np.random.RandomState(0)
    model.set_weights([rng.uniform(0.1, 1, array.shape) for array in model.get_weights()])
    model.save(str(path))
    return None if x is None else model.predict(x)


def network(keras: Any) -> Any:
    layers = keras.layers
    x = layers.Input((6, 6, 3), name="image")
    y = layers.Conv2D(8, 3, name="conv")(x)
    y = layers.ReLU()(layers.BatchNormalization(name="norm")(y))
    y = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(y))
    return keras.Model(x, layers.Dense(5, name="classes")(y))


def two_sided(keras: Any) -> Any:
    layers = keras.layers
    first, second = layers.Input((4,), name="zebra"), layers.Input((3,), name="ant")
    hidden = layers.Dense(6, name="hidden")(layers.Concatenate()([first, second]))
    return keras.Model([first, second], [hidden, layers.Dense(2, name="left")(hidden)])


@pytest.fixture
def run(tmp_path: Path, capsys: Any, monkeypatch: Any) -> Run:
    return Run(tmp_path, capsys, monkeypatch)


@pytest.fixture(scope="module")
def example(tmp_path_factory: Any) -> Any:
    """A saved model, what it was fed, and what Keras computed."""
    path = tmp_path_factory.mktemp("keras") / f"model{ENDING}"
    x = np.random.RandomState(1).rand(2, 6, 6, 3).astype(np.float32)
    return path, x, saved(path, network, x)


@pytest.mark.tf
def test_it_computes_what_keras_computes(example: Any) -> None:
    path, x, wanted = example
    graph = gs.load(str(path))
    assert graph.inputs == ["image"] and graph.name == path.name
    assert all(node.op != "VarHandleOp" for node in graph)
    assert list(graph.signature["outputs"]) == ["classes"]
    with Session(graph) as session:
        (result,) = session.run({"image": x})
    np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.tf
def test_each_load_gives_the_same_bytes(example: Any) -> None:
    """So that a plan that was made for it fits it the next time."""
    path, _, _ = example
    assert gs.serialize(gs.load(str(path))) == gs.serialize(gs.load(str(path)))


@pytest.mark.tf
def test_commands_take_it(example: Any, run: Run) -> None:
    path, _, _ = example
    told = run("inspect", str(path), "--input-shape", "2,6,6,3", "--json").json
    assert told["inputs"] == ["image"]
    wish = ("--criterion", "l1", "--ratio", "0.5", "--multiple-of", "1")
    run("prune", str(path), "-o", "slim.pb", "--plan-out", "p.json", *wish)
    assert gs.load("slim.pb").outputs == gs.load(path).outputs
    run("verify", str(path), "slim.pb", "--plan", "p.json")


@pytest.mark.tf
def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    rng = np.random.RandomState(2)
    fed = [rng.rand(2, size).astype(np.float32) for size in (4, 3)]
    wanted = saved(tmp_path / f"m{ENDING}", two_sided, fed)
    graph = gs.load(tmp_path / f"m{ENDING}")
    names = graph.signature
    by_name = dict(zip(("zebra", "ant"), fed))
    if OF_OLD:
        assert set(graph.inputs) == set(by_name)
    ports = [names["outputs"].get(key, key) for key in ("hidden", "left")]
    with Session(graph) as session:
        results = session.run({names["inputs"][key]: by_name[key] for key in by_name}, ports)
    for result, each in zip(results, wanted):
        np.testing.assert_allclose(result, each, rtol=1e-5)


@pytest.mark.tf
@pytest.mark.skipif(OF_OLD, reason="Keras of TensorFlow 1.15 saves no such model")
def test_a_model_that_learned_its_input_when_called(tmp_path: Path) -> None:
    own: Dict[str, Any] = {}

    def build(keras: Any) -> Any:
        exec(CUSTOM, own)
        model = own["Own"]()
        model(np.zeros((1, 4), np.float32))
        return model

    x = np.ones((2, 4), np.float32)
    wanted = saved(tmp_path / "m.keras", build, x)
    graph = gs.load(tmp_path / "m.keras", custom_objects={"Own": own["Own"]})
    assert (graph.inputs, list(graph.signature["outputs"])) == (["inputs"], ["output_0"])
    with Session(graph) as session:
        (result,) = session.run({"inputs": x})
    np.testing.assert_allclose(result, wanted, rtol=1e-5)


@pytest.mark.tf
def test_custom_objects(run: Run) -> None:
    Path("own.py").write_text(CUSTOM)

    def build(keras: Any) -> Any:
        own: Dict[str, Any] = {}
        exec(CUSTOM, own)
        x = keras.layers.Input((4,))
        return keras.Model(x, own["Twice"]()(keras.layers.Dense(3)(x)))

    saved(Path(f"m{ENDING}"), build)
    model = f"m{ENDING}"
    told = run("inspect", model, status=2).err
    assert "does not know the" in told and "--custom-objects package.module:Twice" in told
    assert "Mul" in {node.op for node in gs.load(model, custom_objects=["own.py:Twice"])}
    assert "params" in run("inspect", model, "--custom-objects", "own.py:Twice").out
    told = run("inspect", model, "--custom-objects", "own.py:Thrice", status=2).err
    assert "there is no 'Thrice' in own.py" in told
    told = run("inspect", model, "--custom-objects", "no_such:Twice", status=2).err
    assert "cannot be imported" in told
    assert "is not of the form" in run("inspect", model, "--custom-objects", "own", status=2).err


@pytest.mark.tf
def test_what_does_not_state_its_input(tmp_path: Path) -> None:
    path = tmp_path / f"m{ENDING}"
    if OF_OLD:
        pytest.skip("Keras of TensorFlow 1.15 does not save it")
    keras = loader._keras(runtime.tensorflow())
    keras.Sequential([keras.layers.Dense(3)]).save(str(path))
    with pytest.raises(LoadError, match="does not state its inputs.*never called"):
        gs.load(path)


@pytest.mark.tf
def test_weights_alone(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "m.weights.h5"
    with h5py.File(str(path), "w") as file:
        file["layer/kernel"] = np.zeros(3)
    with pytest.raises(LoadError, match=r"holds weights and no model \(save it with model.save"):
        gs.load(path)


LAMBDAS = [
    {"class_name": "Lambda", "config": {"function": ["4wE=", None], "function_type": "lambda"}},
    {"class_name": "Lambda", "config": {"function": {"class_name": "__lambda__", "config": {}}}},
]


def zipped(path: Path, config: Any) -> Path:
    with zipfile.ZipFile(str(path), "w") as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
    return path


@pytest.mark.tf
@pytest.mark.parametrize("layer", LAMBDAS)
def test_code_in_a_file_is_not_run(layer: Any, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    config = {"class_name": "Functional", "config": {"layers": [{"class_name": "Dense"}, layer]}}
    with h5py.File(str(tmp_path / "m.h5"), "w") as file:
        file.attrs["model_config"] = json.dumps(config)
    zipped(tmp_path / "m.keras", config)
    for name in ("m.h5", "m.keras"):
        with pytest.raises(LoadError, match="Python code of its own.*which is not run"):
            gs.load(tmp_path / name)


@pytest.mark.tf
def test_files_that_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(LoadError, match="a damaged HDF5 file"):
        gs.load(tmp_path / "cut.h5")
    with pytest.raises(LoadError, match="a damaged zip file"):
        gs.load(zipped(tmp_path / "text.keras", "{"))
    with pytest.raises(LoadError, match="by another name .let its name end with .keras"):
        gs.load(zipped(tmp_path / "model.zip", {}))
    (tmp_path / "text.keras").write_text("hello")
    with pytest.raises(LoadError, match="not a Keras model, whatever its name"):
        gs.load(tmp_path / "text.keras")
    refused = "reads no .keras files" if OF_OLD else "cannot load it"
    with pytest.raises(LoadError, match=refused):
        gs.load(zipped(tmp_path / "empty.keras", {"class_name": "Model", "config": 3}))


def test_options_of_other_models(tmp_path: Path) -> None:
    path = zipped(tmp_path / "m.keras", {})
    for options, wanted in (
        ({"signature": "x"}, "is no SavedModel"),
        ({"tags": ["x"]}, "is no SavedModel"),
        ({"averages": True}, "is no checkpoint"),
    ):
        with pytest.raises(LoadError, match=wanted):
            gs.load(path, **options)
    with pytest.raises(LoadError, match="is no Keras model"):
        gs.load(tmp_path / "x.pb", custom_objects={"a": 1})


def test_without_tensorflow_or_with_another_keras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "m.keras", {})
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tensorflow", None)
        with pytest.raises(RuntimeUnavailable) as error:
            gs.load(path)
        assert str(error.value) == (
            f"Keras models are read with it: TensorFlow is not installed ({install_hint('tf')})"
        )

    class Version:
        __version__ = "2.20"

    class Other:
        class backend:
            @staticmethod
            def backend() -> str:
                return "jax"

    monkeypatch.setitem(sys.modules, "keras", Other)
    with pytest.raises(RuntimeUnavailable, match="Keras runs on jax here"):
        loader._keras(Version)
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(RuntimeUnavailable, match="Keras does not load.*pip install keras"):
        loader._keras(Version)


def test_an_older_keras_is_asked_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Keras:
        __version__ = "3.1"

        def __init__(self, model: Any) -> None:
            self.models, self._model = self, model

        def load_model(self, path: str, **options: Any) -> Any:
            if isinstance(self._model, Exception):
                raise self._model
            return self._model

    old = tmp_path / "tf_keras.py"
    old.write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    newest = Keras(ValueError("no such format\nand more"))
    monkeypatch.setitem(sys.modules, "tf_keras", Keras("loaded"))  # type: ignore[arg-type]
    monkeypatch.setattr(loader.importlib.util, "find_spec", lambda name: name)
    assert loader._loaded(newest, "m.h5", {}) == "loaded"
    monkeypatch.setitem(sys.modules, "tf_keras", newest)  # type: ignore[arg-type]
    with pytest.raises(LoadError, match="Keras 3.1 cannot load it: no such format .was it saved"):
        loader._loaded(newest, "m.h5", {})
