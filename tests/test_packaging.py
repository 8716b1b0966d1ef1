"""What is installed is what the checkout holds, under the names that it promises."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import graphslim
import graphslim.cli
from graphslim.support import importing

try:
    from importlib import metadata
except ImportError:  # Python 3.7
    import importlib_metadata as metadata

ROOT = Path(__file__).resolve().parents[1]
INSTALLED = Path(graphslim.__file__).resolve().parent
EXPECT_WHEEL = os.environ.get("GRAPHSLIM_EXPECT_WHEEL") == "1"

pytestmark = pytest.mark.skipif(
    not (ROOT / "setup.py").is_file(), reason="there is no checkout beside the tests"
)
wheel_only = pytest.mark.skipif(
    not EXPECT_WHEEL, reason="tests an installed wheel: make test WHEEL=1"
)


def files_on_disk() -> dict[str, Path]:
    """Map the installed path of each file that the checkout holds, to the file."""
    files = {}
    for folder, installed_as in (("graphslim", "graphslim"), ("passes", "graphslim/passes")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                files[f"{installed_as}/{path.relative_to(ROOT / folder).as_posix()}"] = path
    return files


def modules_on_disk() -> list[str]:
    """Name every module of the checkout as it is imported."""
    names = [
        name[: -len(".py")].replace("/", ".") for name in files_on_disk() if name.endswith(".py")
    ]
    packages = [name for name in names if name.endswith(".__init__")]
    return sorted({*names} - {*packages} | {name[: -len(".__init__")] for name in packages})


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and keep what it says; pytest may have set COLUMNS meanwhile."""
    plain = {name: text for name, text in os.environ.items() if name != "COLUMNS"}
    return subprocess.run(
        command, cwd=str(cwd), env=plain, capture_output=True, text=True, timeout=120, check=False
    )


def test_version_is_the_same_everywhere() -> None:
    text = (ROOT / "graphslim" / "_version.py").read_text(encoding="utf-8")
    stated = re.findall(r'__version__ = "(.+)"', text)
    assert [graphslim.__version__] == stated
    assert metadata.version("tf-graphslim") == graphslim.__version__


@pytest.mark.parametrize("name", modules_on_disk())
def test_module_is_importable_from_where_it_belongs(name: str) -> None:
    if name.endswith("__main__"):  # importing it runs the command line
        spec = importlib.util.find_spec(name)
        assert spec is not None, f"{name} is on disk but not installed"
        origin = spec.origin
    else:
        origin = importlib.import_module(name).__file__
    # A package without an __init__.py imports too, but has no file and is not in a wheel.
    assert origin is not None, f"{name} has no __init__.py"
    in_checkout = ROOT in Path(origin).resolve().parents
    in_site_packages = "site-packages" in Path(origin).resolve().parts
    assert in_site_packages if EXPECT_WHEEL else in_checkout and not in_site_packages


@pytest.mark.parametrize("folder", ["graphslim", "passes"])
def test_every_folder_of_modules_is_a_package(folder: str) -> None:
    """Packages are found by their __init__.py: a folder without one is left out of a wheel."""
    folders = {path.parent for path in (ROOT / folder).rglob("*.py")}
    assert folders, f"{folder}/ holds no module"
    without = {path.relative_to(ROOT) for path in folders if not (path / "__init__.py").exists()}
    assert without == set()


def test_passes_are_refused_under_another_name() -> None:
    """As `passes` each pass would be registered a second time."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import passes"
    done = run(sys.executable, "-c", code, cwd=ROOT)
    assert done.returncode == 1
    last_line = done.stderr.strip().splitlines()[-1]
    assert last_line.startswith("ImportError") and "graphslim.passes" in last_line


def test_the_checkout_is_not_on_the_path(tmp_path: Path) -> None:
    """An installation gives graphslim alone, not the folders beside it: tests, fixtures, ..."""
    code = "import graphslim.passes, os, sys; print(*map(os.path.realpath, sys.path), sep='\\n')"
    done = run(sys.executable, "-I", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(ROOT) not in done.stdout.splitlines()


def test_importing_leaves_tensorflow_alone(tmp_path: Path) -> None:
    code = (
        "import sys, graphslim, graphslim.cli, graphslim.passes\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] == 'tensorflow'))"
    )
    done = run(sys.executable, "-c", code, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_the_first_words_import_nothing_that_takes_long(option: str, tmp_path: Path) -> None:
    code = (
        "import sys, graphslim.cli\n"
        "try: graphslim.cli.main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "slow = ['numpy', 'networkx', 'rich', 'google.protobuf', 'tensorflow', 'yaml']\n"
        "print('imported:', [name for name in slow if name in sys.modules])"
    )
    done = run(sys.executable, "-c", code, option, cwd=tmp_path)
    assert done.stdout.endswith("imported: []\n"), done.stdout + done.stderr


NET = """
node { name: 'x' op: 'Placeholder' attr { key: 'dtype' value { type: DT_FLOAT } } }
node { name: 'y' op: 'Relu' input: 'x' attr { key: 'T' value { type: DT_FLOAT } } }
"""


def test_inspect_leaves_tensorflow_and_rich_alone(tmp_path: Path) -> None:
    (tmp_path / "net.pbtxt").write_text(NET, encoding="utf-8")
    code = (
        "import sys, graphslim.cli\n"
        "try: graphslim.cli.main(['inspect', 'net.pbtxt'])\n"
        "except SystemExit as end: assert not end.code\n"
        "print('imported:', [name for name in ('tensorflow', 'rich') if name in sys.modules])"
    )
    done = run(sys.executable, "-c", code, cwd=tmp_path)
    assert done.stdout.endswith("imported: []\n"), done.stdout + done.stderr


def test_what_is_imported_late_leaves_an_analysis_as_it_is(tmp_path: Path) -> None:
    """A module that registers rules of a kind that analyses go by would make them stale."""
    (tmp_path / "net.pbtxt").write_text(NET, encoding="utf-8")
    code = (
        "import graphslim as gs\n"
        "graph = gs.load('net.pbtxt')\n"
        "channels = gs.analyse(graph)\n"
        "gs.find_blocks(graph), gs.plan(graph), gs.to_nhwc, gs.optimize\n"
        "print(gs.analyse(graph) is channels)"
    )
    done = run(sys.executable, "-c", code, cwd=tmp_path)
    assert done.stdout == "True\n", done.stdout + done.stderr


def test_public_names_are_listed_once_for_type_checkers_and_once_for_python() -> None:
    source = (INSTALLED / "__init__.py").read_text(encoding="utf-8")
    (block,) = [node for node in ast.parse(source).body if isinstance(node, ast.If)][:1]
    named = {
        alias.asname: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    named.pop("training")  # a module, which is found by its name
    assert set(named) | {"__version__"} == set(graphslim.__all__)
    for name, (module, defined_as) in named.items():
        assert getattr(graphslim, name) is getattr(importlib.import_module(module), defined_as)
    assert set(graphslim.__all__) <= set(dir(graphslim))
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = graphslim.no_such_name


def test_console_script_is_registered() -> None:
    scripts = [
        entry
        for entry in metadata.distribution("tf-graphslim").entry_points
        if entry.group == "console_scripts"
    ]
    assert [(entry.name, entry.value) for entry in scripts] == [("graphslim", "graphslim.cli:main")]
    assert callable(scripts[0].load())


def test_console_script_runs(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("graphslim")
    done = run(str(script), "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "graphslim" in done.stdout


def test_nothing_sends_people_to_the_other_graphslim() -> None:
    """On PyPI `graphslim` is another project."""
    pages = [*ROOT.glob("*.md"), ROOT / "setup.py", ROOT / "tools" / "env", ROOT / "Makefile"]
    for folder in ("docs", "examples", "benchmarks"):
        pages += (ROOT / folder).rglob("*.md")
    for folder in ("graphslim", "passes", "tests", "examples", "benchmarks", "tools"):
        pages += (ROOT / folder).rglob("*.py")
    wrong = re.compile(r"pip3? install (-\S+ )*['\"]?graphslim\b|(?<![\w-])graphslim\[(?=[a-z])")
    found = [
        f"{page.relative_to(ROOT)}: {match[0]}"
        for page in pages
        if page != Path(__file__).resolve()
        for match in wrong.finditer(page.read_text(encoding="utf-8"))
    ]
    assert not found, found


def test_a_hint_names_what_can_be_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importing, "_ROOT", str(tmp_path / "a b"))
    (tmp_path / "a b").mkdir()
    assert importing.install_hint("tf") == "pip install tensorflow"
    (tmp_path / "a b" / "tf_graphslim-0.1.0.dist-info").mkdir()
    assert importing.install_hint("tf") == "pip install 'tf-graphslim[tf]'"
    (tmp_path / "a b" / "setup.py").touch()
    assert importing.install_hint("tf") == f"pip install -e '{tmp_path}/a b[tf]'"


def test_another_projects_package_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    entry_points = tmp_path / "graphslim-9.dist-info" / "entry_points.txt"
    entry_points.parent.mkdir()
    (entry_points.parent / "METADATA").write_text("Metadata-Version: 2.1\nName: graphslim\n")
    entry_points.write_text("[console_scripts]\ngraphslim = graphslim.cli:main\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert importing.impostor() is None
    entry_points.unlink()
    with pytest.raises(SystemExit) as end:
        graphslim.cli.main(["--version"])
    told = capfd.readouterr()
    assert (end.value.code, told.out) == (0, f"graphslim, version {graphslim.__version__}\n")
    assert "another project's package graphslim" in told.err and told.err.count("\n") == 1
    entry_points.parent.rename(tmp_path / "gone")
    monkeypatch.setattr(graphslim, "__version__", "9")
    assert "another project's package graphslim" in str(importing.impostor())


def test_type_hints_are_announced() -> None:
    assert (INSTALLED / "py.typed").is_file()


@wheel_only
def test_tests_run_against_the_wheel() -> None:
    assert "site-packages" in INSTALLED.parts
    assert INSTALLED.parent != ROOT
    assert Path.cwd().resolve() != ROOT
    assert str(ROOT) not in [os.path.realpath(entry) for entry in sys.path]


@wheel_only
def test_wheel_holds_the_files_of_the_checkout_and_no_others() -> None:
    """A missing file wants a line in setup.py (package_data); a surplus one is stale."""
    installed = {
        f"graphslim/{path.relative_to(INSTALLED).as_posix()}": path.read_bytes()
        for path in INSTALLED.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    on_disk = {name: path.read_bytes() for name, path in files_on_disk().items()}
    assert sorted(installed) == sorted(on_disk)
    assert [name for name in on_disk if installed[name] != on_disk[name]] == []


@wheel_only
def test_wheel_puts_one_folder_in_site_packages() -> None:
    files = metadata.distribution("tf-graphslim").files or []
    tops = {path.parts[0] for path in files if path.parts[0] != ".."}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"graphslim"}
