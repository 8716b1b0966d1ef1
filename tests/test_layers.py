"""Imports go one way: the layers of the package, read from the source with `ast`."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, FrozenSet, Iterator, List, Tuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS: Tuple[Tuple[str, ...], ...] = (
    ("_version", "errors"),
    ("support",),
    ("ir",),
    ("graphdef", "channels"),
    ("ops",),
    ("analysis",),
    ("match", "layout", "scoring"),
    ("pattern", "plans"),
    ("rewrite",),
    ("runtime",),
    ("engines",),
    ("pipeline",),
    ("measure",),
    ("recovery", "delivery"),
    ("checkpoint", "sweep"),
    ("planner",),
    ("report",),
    ("api", "testing"),
    ("method", "training"),
    ("__init__",),
    ("cli",),
    ("__main__",),
)
"""Modules and packages of graphslim/; each imports only from rows above its own, or from itself."""
SETS_OF_OPS = 24
"""So many constants outside of families.py hold sets of ops."""
RANK: Dict[str, int] = {name: rank for rank, row in enumerate(LAYERS) for name in row}
PUBLIC = ("graphslim", "graphslim.pattern", "graphslim.passes")
SOURCES = sorted((ROOT / "graphslim").rglob("*.py"))

pytestmark = pytest.mark.skipif(
    not (ROOT / "graphslim").is_dir(), reason="there is no checkout beside the tests"
)


def unit(path: Path) -> str:
    """The module or package right below graphslim/ that a file belongs to."""
    return path.relative_to(ROOT / "graphslim").parts[0].replace(".py", "")


def imports(path: Path) -> Iterator[Tuple[str, str, int]]:
    """Every import of a file, those inside functions too: module, name or `""`, line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, "", node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                yield node.module or "", alias.name, node.lineno


def modules() -> Dict[str, Path]:
    """The files of graphslim/ by the names under which they are imported."""
    names = {}
    for path in SOURCES:
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def target(module: str, name: str) -> str:
    """The unit of graphslim/ that an import reaches."""
    parts = module.split(".")
    if len(parts) > 1:
        return parts[1]
    return name if name in RANK else "__init__"


def test_every_module_has_a_layer() -> None:
    assert {unit(path) for path in SOURCES} == set(RANK)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_down(path: Path) -> None:
    wrong: List[str] = []
    own = unit(path)
    for module, name, line in imports(path):
        if module.split(".")[0] != "graphslim":
            continue
        other = target(module, name)
        if other == "passes":
            wrong.append(f"line {line} imports passes, which are found by name")
        elif other != own and RANK[other] >= RANK[own]:
            wrong.append(f"line {line}: {own} imports {other}, which is not below it")
    assert not wrong, "; ".join(wrong)


def test_no_module_is_loaded_by_name_from_below_it() -> None:
    """The text of a module's name, as `import_module` takes it, is an import like any other."""
    names = modules()
    wrong = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            # Python 3.7 calls a string Str, and its text `s`.
            text = getattr(node, "value", getattr(node, "s", None))
            if isinstance(text, str) and text in names and text != "graphslim":
                other, own = text.split(".")[1], unit(path)
                if other != own and RANK[other] >= RANK[own]:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} names {text}")
    assert not wrong, wrong


def test_no_cycle_between_modules() -> None:
    """The layers forbid cycles between packages; this forbids them within one."""
    names = modules()
    reads = {
        name: {
            found
            for module, item, _ in imports(path)
            for found in (module, f"{module}.{item}")
            if found in names and found != name and not name.startswith(found + ".")
        }
        for name, path in names.items()
    }
    done: List[str] = []

    def visit(name: str, trail: Tuple[str, ...]) -> None:
        assert name not in trail, "cycle: " + " -> ".join([*trail, name])
        if name not in done:
            for other in sorted(reads[name]):
                visit(other, (*trail, name))
            done.append(name)

    for name in sorted(names):
        visit(name, ())


def named_sets(known: FrozenSet[str], names: FrozenSet[str]) -> Iterator[str]:
    """Constants of modules that hold two or more ops or families of ops, tables excepted."""
    for path in (*SOURCES, *sorted((ROOT / "passes").rglob("*.py"))):
        where = path.relative_to(ROOT).as_posix()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
                continue
            parts = list(ast.walk(node.value))
            if where.endswith(("ir/families.py", "__init__.py")) or any(
                isinstance(part, (ast.Dict, ast.DictComp)) for part in parts
            ):
                continue
            # Python 3.7 calls a string Str, later versions call it Constant.
            strings = [part for part in parts if type(part).__name__ in ("Str", "Constant")]
            texts = [ast.literal_eval(part) for part in strings]
            families = [getattr(part, "id", getattr(part, "attr", None)) for part in parts]
            mentions = [text for text in texts if isinstance(text, str) and text in known]
            if len(mentions + [name for name in families if name in names]) > 1:
                yield f"{where}:{node.lineno}"


def test_kinds_of_ops_are_declared_in_one_place() -> None:
    """What is known of ops stands in families.py; a new set elsewhere is one too many.

    The sets that are left state what one module alone asks. Take the bound down with them.
    """
    from graphslim.graphdef.body import OUTPUTS
    from graphslim.ir import families
    from graphslim.ops import CHANNEL_RULES, VALUE_RULES

    sets = {name: ops for name, ops in vars(families).items() if isinstance(ops, frozenset)}
    known = frozenset().union(CHANNEL_RULES, VALUE_RULES, OUTPUTS, *sets.values())
    found = list(named_sets(known, frozenset(sets)))
    assert len(found) <= SETS_OF_OPS, "\n".join(found)


def test_tables_of_rules_are_read_where_they_are_full() -> None:
    """Who takes a table from `channels.rules` may find it empty; `graphslim.ops` fills it."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} takes {name} from {module}"
        for path in SOURCES
        if RANK[unit(path)] > RANK["ops"]
        for module, name, line in imports(path)
        if module == "graphslim.channels.rules" and name.isupper()
    ]
    assert not wrong, wrong


EACH_ALONE = """
import importlib, json, os, sys
from importlib.machinery import SourceFileLoader

import click, networkx, numpy, yaml  # once for all
import graphslim.channels.groups, graphslim.graphdef  # they stand below the rules

paths = json.loads(sys.argv[1])
codes = {}
for name, path in paths.items():
    with open(path, encoding="utf-8") as file:
        codes[name] = compile(file.read(), path, "exec", dont_inherit=True)
SourceFileLoader.get_code = lambda loader, name, usual=SourceFileLoader.get_code: (
    codes[name] if name in codes else usual(loader, name)
)

def state(name):
    values = vars(sys.modules[name]).items()
    tables = [(key, value) for key, value in values if isinstance(value, (dict, frozenset, set))]
    return {key: sorted([text for text in table if isinstance(text, str)])
            for key, table in tables if not key.startswith("__")}

def imported(names):
    reading, writing = os.pipe()
    if os.fork() == 0:
        told = {}
        try:
            for name in names:
                importlib.import_module(name)
            told = {name: state(name) for name in names}
        except BaseException as error:
            told = {name: repr(error) for name in names}
        finally:
            with os.fdopen(writing, "w") as file:
                json.dump(told, file)
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        told = json.load(file)
    os.wait()
    return told

together = imported(list(paths))
alone = {name: imported([name])[name] for name, tables in together.items() if tables}
print(json.dumps([together, alone]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process per module, each from this one")
def test_no_order_of_imports_finds_a_table_empty() -> None:
    """A module that is imported first holds the same sets and tables as one imported last."""
    paths = {
        name: str(path)
        for name, path in modules().items()
        if RANK["ops"] < RANK[unit(path)] < RANK["__main__"]
        and unit(path) not in ("training", "method")  # they load TensorFlow
        # Its tables are filled by the modules that import it.
        and name != "graphslim.checkpoint.training_walk"
    }
    done = subprocess.run(
        [sys.executable, "-c", EACH_ALONE, json.dumps(paths)], stdout=subprocess.PIPE, check=True
    )
    together, alone = json.loads(done.stdout)
    assert len(alone) > 20
    for name in alone:
        assert alone[name] == together[name], f"{name} depends on what was imported before it"


def owners(package: str) -> List[str]:
    """The files of graphslim/ that import a third-party package."""
    return sorted(
        {
            path.relative_to(ROOT / "graphslim").as_posix()
            for path in SOURCES
            for module, _, _ in imports(path)
            if module == package or module.startswith(package + ".")
        }
    )


def test_one_module_imports_tensorflow() -> None:
    assert owners("tensorflow") == ["runtime/library.py"]


def test_one_folder_knows_the_protobuf_messages() -> None:
    found = owners("tensorboard") + owners("google")
    assert found and all(path.startswith("graphdef/") for path in found), found


def test_passes_use_public_names_alone() -> None:
    import graphslim
    import graphslim.pattern

    wrong = []
    for path in sorted((ROOT / "passes").rglob("*.py")):
        for module, name, line in imports(path):
            if module.split(".")[0] == "graphslim":
                known = module in PUBLIC or module.startswith("graphslim.passes.")
                public = {"graphslim": graphslim, "graphslim.pattern": graphslim.pattern}.get(
                    module
                )
                named = public is None or not name or name in public.__all__
                if not known or not named:
                    wrong.append(f"{path.name}:{line} imports {module} {name}")
    assert not wrong, wrong
