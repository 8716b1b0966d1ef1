"""Imports go one way: the layers of the package, read from the source with `ast`."""

from __future__ import annotations

import ast
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
    ("pipeline",),
    ("measure",),
    ("checkpoint",),
    ("planner",),
    ("report",),
    ("api", "testing"),
    ("method", "training"),
    ("__init__",),
    ("cli",),
    ("__main__",),
)
"""Modules and packages of graphslim/; each imports only from rows above its own, or from itself."""
SETS_OF_OPS = 25
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


def test_no_cycle_between_modules() -> None:
    """The layers forbid cycles between packages; this forbids them within one."""
    names = {}
    for path in SOURCES:
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
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
    import graphslim  # noqa: F401 - registers the rules
    from graphslim.channels.rules import CHANNEL_RULES, VALUE_RULES
    from graphslim.graphdef.body import OUTPUTS
    from graphslim.ir import families

    sets = {name: ops for name, ops in vars(families).items() if isinstance(ops, frozenset)}
    known = frozenset().union(CHANNEL_RULES, VALUE_RULES, OUTPUTS, *sets.values())
    found = list(named_sets(known, frozenset(sets)))
    assert len(found) <= SETS_OF_OPS, "\n".join(found)


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
