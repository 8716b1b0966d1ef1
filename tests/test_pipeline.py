"""Passes, their registry and their runner."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List, NamedTuple

import pytest

import graphslim as gs
from graphslim.errors import GraphslimError, PassError
from graphslim.graphdef import load
from graphslim.ir import DType, Graph, Port
from graphslim.pipeline import (
    CheckInvariants,
    Dump,
    FindBlocks,
    Observer,
    Outcome,
    Pass,
    Pipeline,
    Timing,
    find_pass,
    passes,
    register,
)
from graphslim.pipeline import steps as registry
from graphslim.scoring import find_criterion
from graphslim.scoring import registry as criteria_registry
from graphslim.support import importing as plugins
from graphslim.support.importing import DefinitionWarning
from graphslim.testing import from_text, to_text


class Touch(Pass):
    """Changes an attribute."""

    name = "touch"

    def run(self, graph: Graph) -> Outcome:
        graph.set_attr("y", "T", DType.float64)
        return Outcome(True, ("touched",))


class Look(Pass):
    """Changes nothing."""

    name = "look"
    after = {"touch": "it looks at what was touched"}

    def run(self, graph: Graph) -> Outcome:
        return Outcome(False)


@pytest.fixture
def graph() -> Graph:
    return from_text("x = Placeholder() dtype=float32 shape=<1,2>\ny = Relu(x) T=float32")


@pytest.fixture
def clean_registry(monkeypatch: Any) -> None:
    passes()
    monkeypatch.setattr(registry, "_PASSES", dict(registry._PASSES))


# ------------------------------------------------------------------- running


def test_passes_run_in_order_and_report(graph: Graph) -> None:
    results = Pipeline([Touch(), Look()]).run(graph)
    assert results == [("touch", Outcome(True, ("touched",))), ("look", Outcome(False))]
    assert graph["y"].attrs["T"] is DType.float64


def test_a_wrong_order_is_refused_with_the_reason() -> None:
    with pytest.raises(PassError, match="look: must come after touch: it looks at what was"):
        Pipeline([Look(), Touch()])


def test_a_constraint_on_a_pass_that_does_not_run_is_none(graph: Graph) -> None:
    assert Pipeline([Look()]).run(graph) == [("look", Outcome(False))]


def test_the_built_in_order_holds() -> None:
    with pytest.raises(PassError, match="remove-dead-channels: must come after find-"):
        Pipeline(["remove-dead-channels", "find-squeeze-excite"])


def lying(outcome: Any, change: bool) -> Pass:
    class Lie(Pass):
        """Lies."""

        name = "lie"

        def run(self, graph: Graph) -> Any:
            if change:
                graph.set_attr("y", "T", DType.float64)
            return outcome

    return Lie()


@pytest.mark.parametrize(
    ("outcome", "change", "told"),
    [
        (Outcome(False), True, "lie: changed the graph and reports otherwise"),
        (Outcome(True), False, "lie: changed nothing and reports otherwise"),
        (None, False, "lie: gives None, not an Outcome"),
        (True, True, "lie: gives True, not an Outcome"),
    ],
)
def test_lies_are_refused(graph: Graph, outcome: Any, change: bool, told: str) -> None:
    with pytest.raises(PassError, match=told):
        Pipeline([lying(outcome, change)]).run(graph)


def test_a_pass_that_raises_is_named(graph: Graph) -> None:
    class Fail(Pass):
        """Fails."""

        name = "fail"

        def run(self, graph: Graph) -> Outcome:
            raise KeyError("oh")

    with pytest.raises(PassError, match="fail: fails: KeyError: 'oh'") as caught:
        Pipeline([Fail()]).run(graph)
    assert isinstance(caught.value.__cause__, KeyError), "its traceback is lost"


def test_a_pass_that_fails_is_told_with_its_line(graph: Graph) -> None:
    class Lost(Pass):
        """Asks for a node that is not there."""

        name = "lost"

        def run(self, graph: Graph) -> Outcome:
            return Outcome(graph["nope"] is None)

    see = f"see the pass Lost, of {__name__}:{Lost.run.__code__.co_firstlineno}"
    with pytest.raises(GraphslimError, match=f"nope: .*{see}"):
        Pipeline([Lost()]).run(graph)


def test_what_is_no_pass_or_does_nothing_is_refused(clean_registry: None) -> None:
    with pytest.raises(PassError, match="is not a Pass .subclass graphslim.Pass"):
        register(type("Other", (), {"name": "other"}))  # type: ignore[type-var]
    idle = type("Idle", (Pass,), {"name": "idle", "__doc__": "Does nothing."})
    with pytest.raises(PassError, match="idle: a pass needs a run"):
        register(idle)


def test_a_plug_in_is_told_with_its_package_and_prints_nothing_on_stdout(
    clean_registry: None, monkeypatch: Any, capsys: Any
) -> None:
    class Brought(NamedTuple):
        name: str
        value: str
        dist: Any
        load: Any

    def gone() -> None:
        print("loading")
        raise ModuleNotFoundError("No module named 'theirs.gone'", name="theirs.gone")

    dist = SimpleNamespace(metadata={"Name": "their-package"})
    monkeypatch.setattr(plugins, "_loaded", False)
    points = [Brought("mine", "theirs.gone", dist, gone)]
    monkeypatch.setattr(plugins, "_entry_points", lambda: points)
    told = "plug-in mine of their-package: left out: .*its own module is missing: reinstall"
    with pytest.warns(DefinitionWarning, match=told):
        passes()
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "loading\n")


def test_what_a_pass_says_itself_stays(graph: Graph) -> None:
    class Refuse(Pass):
        """Refuses."""

        name = "refuse"

        def run(self, graph: Graph) -> Outcome:
            raise GraphslimError("not this one", "y", "take another")

    with pytest.raises(GraphslimError, match=r"^y: not this one \(take another\)$"):
        Pipeline([Refuse()]).run(graph)


# ------------------------------------------------------------------- observers


def test_observers_see_each_pass_before_and_after(graph: Graph) -> None:
    seen: List[Any] = []

    class Watch(Observer):
        def before(self, graph: Graph, step: Pass) -> None:
            seen.append(("before", step.name, graph["y"].attrs["T"]))

        def after(self, graph: Graph, step: Pass, outcome: Outcome) -> None:
            seen.append(("after", step.name, outcome.changed))

    Pipeline([Touch(), Look()]).run(graph, [Watch()])
    assert seen == [
        ("before", "touch", DType.float32),
        ("after", "touch", True),
        ("before", "look", DType.float64),
        ("after", "look", False),
    ]


def test_verify_names_the_pass_that_broke_the_graph(graph: Graph) -> None:
    class Break(Pass):
        """Makes a cycle."""

        name = "break"

        def run(self, graph: Graph) -> Outcome:
            graph.set_inputs("y", [Port("y")])
            return Outcome(True)

    with pytest.raises(PassError, match="break: left a broken graph: .*cycle"):
        Pipeline([Break(), Look()]).run(graph, [CheckInvariants()])


def test_timing_has_one_entry_a_pass(graph: Graph) -> None:
    timing = Timing()
    Pipeline([Touch(), Look()]).run(graph, [timing])
    assert [name for name, _ in timing.seconds] == ["touch", "look"]
    assert all(0 <= seconds < 10 for _, seconds in timing.seconds)


def test_dump_writes_after_the_named_passes(graph: Graph, tmp_path: Path) -> None:
    dump = Dump(str(tmp_path), ["look"])
    Pipeline([Touch(), Look()]).run(graph, [dump])
    assert dump.written == [str(tmp_path / "02-look.pbtxt")]
    assert [path.name for path in tmp_path.iterdir()] == ["02-look.pbtxt"]
    assert to_text(load(tmp_path / "02-look.pbtxt")) == to_text(graph)


def test_dump_writes_after_each_pass_where_none_is_named(graph: Graph, tmp_path: Path) -> None:
    Pipeline([Touch(), Look()]).run(graph, [Dump(str(tmp_path))])
    assert {path.name for path in tmp_path.iterdir()} == {"01-touch.pbtxt", "02-look.pbtxt"}


# ------------------------------------------------------------------- registry


def test_built_in_passes_have_names_and_summaries() -> None:
    known = passes()
    assert {"fold-identity", "drop-unused", "remove-dead-channels"} <= set(known)
    for name, cls in known.items():
        assert cls.name == name and cls.summary().endswith("."), name


def test_register(clean_registry: None) -> None:
    assert register(Touch) is Touch
    assert find_pass("touch") is Touch


@pytest.mark.parametrize("again", [Touch, type("Other", (Touch,), {"__doc__": "Another."})])
def test_a_name_is_taken_once(clean_registry: None, again: Any) -> None:
    register(Touch)
    with pytest.raises(PassError, match="touch: a pass of that name is registered already"):
        register(again)


@pytest.mark.parametrize(
    "lacks", [{"name": ""}, {"__doc__": None}, {"__doc__": ""}, {"__doc__": " "}]
)
def test_a_pass_needs_a_name_and_a_docstring(clean_registry: None, lacks: Any) -> None:
    cls = type("Lacking", (Touch,), {"__doc__": "Something.", "name": "lacking", **lacks})
    with pytest.raises(PassError, match="Lacking: a pass needs a name and a docstring"):
        register(cls)


USER = """
from __future__ import annotations
from dataclasses import dataclass
import graphslim as gs

COUNT = []
COUNT.append(1)

@dataclass(frozen=True)
class Mine(gs.Pass):
    '''Does nothing.'''
    name = "mine"
    times: int = 3
    def run(self, graph):
        return gs.Outcome(False, (f"{self.times} {len(COUNT)}",))
"""


def test_a_pass_from_a_file(tmp_path: Path, graph: Graph, monkeypatch: Any) -> None:
    """Dataclasses with postponed annotations look their module up in sys.modules."""
    (tmp_path / "mine.py").write_text(USER, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    absolute = f"{tmp_path / 'mine.py'}:Mine"
    results = Pipeline(["mine.py:Mine", absolute]).run(graph)
    assert [outcome.notes for _, outcome in results] == [("3 1",), ("3 1",)]
    assert find_pass("mine.py:Mine") is find_pass(absolute), "the file is run once"


def test_a_pass_from_a_module() -> None:
    found = find_pass("graphslim.passes.fold_identity:FoldIdentity")
    assert found is passes()["fold-identity"]


def test_a_file_that_failed_may_be_mended(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("oops", encoding="utf-8")
    with pytest.raises(PassError, match="NameError"):
        find_pass(f"{file}:Mine")
    # Python takes a .pyc for current by whole seconds and size.
    file.write_text(USER, encoding="utf-8")
    assert find_pass(f"{file}:Mine").name == "mine"


@pytest.mark.parametrize("error", [ValueError("no"), TypeError("no")])
def test_a_pass_that_cannot_be_made_is_told(clean_registry: None, error: Exception) -> None:
    def fail(self: Any) -> None:
        raise error

    register(type("Unmade", (Touch,), {"__doc__": "Fails.", "name": "unmade", "__init__": fail}))
    with pytest.raises(PassError, match="unmade: cannot be made: no"):
        Pipeline(["unmade"])


def test_the_name_of_one_pass_is_a_pipeline() -> None:
    assert [step.name for step in Pipeline("fold-identity").steps] == ["fold-identity"]


@pytest.mark.parametrize("find", [find_pass, find_criterion])
def test_a_script_that_ends_python_is_told(tmp_path: Path, find: Any) -> None:
    (tmp_path / "script.py").write_text("import sys\nsys.exit(0)", encoding="utf-8")
    with pytest.raises(GraphslimError, match="script.py cannot be imported: SystemExit: 0"):
        find(f"{tmp_path / 'script.py'}:Mine")


class Point:
    def __init__(self, load: Any) -> None:
        self.name, self.load = "their-plugin", load


def test_plugins_are_loaded_once(clean_registry: None, monkeypatch: Any) -> None:
    loads: List[int] = []

    def plug() -> None:
        loads.append(1)
        register(Touch)

    monkeypatch.setattr(plugins, "_loaded", False)
    monkeypatch.setattr(plugins, "_entry_points", lambda: [Point(plug)])
    assert passes()["touch"] is Touch
    assert find_pass("touch") is Touch
    assert loads == [1]


def test_a_plugin_that_fails_is_told_and_blocks_no_other(
    clean_registry: None, monkeypatch: Any
) -> None:
    def broken() -> None:
        raise RuntimeError("oh")

    def ends() -> None:
        raise SystemExit(1)

    def half_broken() -> None:
        register(type("Nameless", (Touch,), {"name": ""}))
        register(Touch)

    monkeypatch.setattr(plugins, "_loaded", False)
    points = [Point(broken), Point(ends), Point(half_broken)]
    monkeypatch.setattr(plugins, "_entry_points", lambda: points)
    with pytest.warns(DefinitionWarning) as told:
        assert passes()["touch"] is Touch
    lines = [function.__code__.co_firstlineno + 1 for function in (broken, ends)]
    assert [str(one.message).replace(__file__, "here.py") for one in told] == [
        "plug-in their-plugin: left out: RuntimeError: oh, at here.py:"
        f"{lines[0]} (update or uninstall it)",
        "plug-in their-plugin: left out: SystemExit: 1, at here.py:"
        f"{lines[1]} (update or uninstall it)",
        "plug-in their-plugin: left out: Nameless: a pass needs a name and a docstring",
    ]


@pytest.mark.parametrize(
    "line, remedy",
    [
        ("import no_such_module", "install no_such_module for .*, or uninstall the plug-in"),
        ("from json import no_such_name", "was written for another version of json: update"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_told_with_what_to_do(
    clean_registry: None, monkeypatch: Any, line: str, remedy: str
) -> None:
    monkeypatch.setattr(plugins, "_loaded", False)
    monkeypatch.setattr(plugins, "_entry_points", lambda: [Point(lambda: exec(line, {}))])
    with pytest.warns(DefinitionWarning, match=f"plug-in their-plugin: left out: .*{remedy}"):
        passes()


def test_a_plugin_may_bring_a_criterion(clean_registry: None, monkeypatch: Any) -> None:
    def plug() -> None:
        @gs.criterion("theirs")
        def theirs(weights: Any) -> Any:
            """Theirs."""

    monkeypatch.setattr(criteria_registry, "_CRITERIA", dict(gs.criteria()))
    monkeypatch.setattr(plugins, "_loaded", False)
    monkeypatch.setattr(plugins, "_entry_points", lambda: [Point(plug)])
    assert criteria_registry.find_criterion("theirs").source == "Theirs."
    assert "theirs" in gs.criteria()


@pytest.mark.parametrize("module, what", [("graphslim.ops", "rules"), ("graphslim.passes", "pass")])
def test_built_in_definitions_that_are_missing_are_named(
    monkeypatch: Any, module: str, what: str
) -> None:
    monkeypatch.setattr(plugins, "_loaded", False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PassError, match=f"{module}: the built-in {what}.* are not installed: "):
        plugins.load_plugins()


def test_entry_points_are_read() -> None:
    assert isinstance(plugins._entry_points(), list)


def test_a_kind_of_block_is_found_by_one_pass(clean_registry: None) -> None:
    class FindAgain(FindBlocks):
        """Finds what is found."""

        name = "find-again"
        kind = "squeeze_excite"

    with pytest.raises(PassError, match="find-again: the pass find-squeeze-excite finds blocks of"):
        register(FindAgain)


def test_a_finder_without_a_pattern_is_told(graph: Graph) -> None:
    class FindNothing(FindBlocks):
        """Finds what nobody declared."""

        name = "find-nothing"
        kind = "nothing"

    with pytest.raises(PassError, match="find-nothing: no block pattern 'nothing'.*declare it"):
        Pipeline([FindNothing()]).run(graph)


def test_a_misspelt_kind_of_block_is_told(clean_registry: None, graph: Graph) -> None:
    @register
    class FindMisspelt(FindBlocks):
        """Finds what is declared by another name."""

        name = "find-misspelt"
        kind = "squeeze_exite"

    with pytest.warns(DefinitionWarning, match="FindMisspelt: left out: .*mean squeeze_excite"):
        gs.find_blocks(graph)


def test_a_finder_replaces_its_own_blocks_and_counts_them(graph: Graph) -> None:
    results = Pipeline(["find-squeeze-excite", "find-squeeze-excite"]).run(graph)
    assert [outcome.notes for _, outcome in results] == [("0 squeeze_excite blocks",)] * 2
    assert graph.blocks == []


def test_options_are_the_fields_of_a_dataclass(graph: Graph) -> None:
    @dataclass(frozen=True)
    class Option(Touch):
        """Has an option."""

        value: str = "a"

        def run(self, graph: Graph) -> Outcome:
            return Outcome(False, (self.value,))

    results = Pipeline([Option(), Option("b")]).run(graph)
    assert [outcome.notes for _, outcome in results] == [("a",), ("b",)]
