"""Imports the modules of users and of other packages, and attributes of packages on first use.

One bad definition does not block the others: a file may define several passes, criteria, block
patterns and rules for ops. While a file is imported here, a definition that is refused (see
`definition`) is noted, and the rest of the file is imported. If the refused definition is the one
that was asked for, its error is raised; else a `DefinitionWarning` reports it.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import shlex
import sys
import traceback
import warnings
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple, Type

from graphslim._version import __version__
from graphslim.errors import GraphslimError, PassError

_FROM_FILE = "graphslim_user_"
_Refused = List[Tuple[object, GraphslimError]]
_collecting: List[_Refused] = []
"""Where refused definitions are noted, the innermost import last; empty outside of imports."""
_refused_in: Dict[str, _Refused] = {}
"""By module, the definitions of it that were refused."""


class DefinitionWarning(UserWarning):
    """A definition of a user or of another package was refused; the others are registered."""


@contextmanager
def definition(defined: object) -> Iterator[None]:
    """Lets an import go on after the definition that is registered in this block is refused.

    Args:
        defined: the function or class that is being registered.

    Raises:
        GraphslimError: the definition is refused, and is not part of a module that is imported
            here.
    """
    try:
        yield
    except GraphslimError as error:
        if not _collecting:
            raise
        _collecting[-1].append((defined, error))


def collecting(load: Callable[[], Any]) -> _Refused:
    """Calls a function that imports definitions; returns the refused ones with their errors."""
    refused: _Refused = []
    _collecting.append(refused)
    try:
        # Standard output is for what a command was asked for, such as JSON.
        with redirect_stdout(sys.stderr):
            load()
    finally:
        _collecting.pop()
    return refused


def warn_of(refused: _Refused, where: str) -> None:
    """Warns of each definition that was refused."""
    for _, error in refused:
        warnings.warn(f"{where}: left out: {error}", DefinitionWarning, stacklevel=2)


def place_of(function: Any) -> str:
    """Where a function is declared: its module, or the name of its file, and the line.

    Of a pass it is the line of its `run`, if that is its own. Of what is called like a function
    and has no line of its own, it is the module alone.
    """
    own = vars(function).get("run") if isinstance(function, type) else function
    code, module = getattr(own, "__code__", None), str(function.__module__)
    if code is None:
        return module
    if module == "__main__" or module.startswith(_FROM_FILE):
        module = os.path.basename(code.co_filename)
    return f"{module}:{code.co_firstlineno}"


def is_built_in(function: Any) -> bool:
    """Whether a function or class is one of graphslim's own."""
    return (getattr(function, "__module__", None) or "").startswith("graphslim.")


def raised_by_graphslim(error: BaseException) -> bool:
    """Whether an error was raised in graphslim's own code."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and str(frames[-1].f_globals.get("__name__")).startswith("graphslim.")


def named(noun: str, function: Any, op: str = "") -> str:
    """What an extension is called in a message: its kind, its name and where it is declared."""
    name = getattr(function, "__name__", type(function).__name__)
    return f"the {noun} {name}{f' for {op}' if op else ''}, of {place_of(function)}"


@contextmanager
def blaming(
    noun: str, function: Any, where: Optional[str], error: Type[GraphslimError], op: str = ""
) -> Iterator[None]:
    """Tells a failure in the code of an extension by the name, the file and the line of that code.

    What the code gives is checked in the block too: a check raises a TypeError or a ValueError.

    Args:
        noun: what kind of extension it is.
        function: the function or class at fault.
        where: the file, node or option at which it is called.
        error: the class of the error that is raised.
        op: the op that it is registered for, if it is a rule.

    Raises:
        GraphslimError: of the given class, if anything else than a GraphslimError was raised.
    """
    try:
        yield
    except (GraphslimError, MemoryError):
        raise
    except Exception as failure:  # the code of an extension may raise anything
        raise error(
            f"{named(noun, function, op)}, fails ({type(failure).__name__}: {failure})",
            where,
            f"mend the {noun}; --debug prints the line",
        ) from failure


def metadata() -> Any:
    """The module `importlib.metadata`, or its backport on Python 3.7."""
    old = sys.version_info < (3, 8)
    return import_module("importlib_metadata" if old else "importlib.metadata")


DISTRIBUTION = "tf-graphslim"
"""What is installed is called so: `graphslim` on PyPI is another project, of graph networks."""
_COMMAND = "graphslim.cli:main"
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""The folder that holds the package: a checkout, or site-packages."""
_PACKAGES = {
    "dask": "distributed",
    "onnx": "tf2onnx onnxruntime",
    "report": "matplotlib",
    "tf": "tensorflow",
}
"""By extra, the package that it is about."""


def install_hint(extra: str) -> str:
    """The command that installs what an extra of graphslim needs, in the environment at hand.

    In a checkout that is the checkout. Where graphslim is installed, pip knows the extra from what
    is installed, and looks no further for its name. Where it is neither, nothing says that a
    package index has it under that name, and only the package that the extra is about is named.
    """
    if os.path.isfile(os.path.join(_ROOT, "setup.py")):
        return f"pip install -e {shlex.quote(f'{_ROOT}[{extra}]')}"
    if glob.glob(os.path.join(glob.escape(_ROOT), f"{DISTRIBUTION.replace('-', '_')}-*.dist-info")):
        return f"pip install '{DISTRIBUTION}[{extra}]'"
    return f"pip install {_PACKAGES.get(extra, extra)}"


def impostor() -> Optional[str]:
    """One line about another project's package `graphslim` that shares this one's folder.

    Both install their files into one folder, where those that came last have replaced the others
    of the same name. None where there is none.
    """
    if getattr(sys.modules.get("graphslim"), "__version__", None) == __version__:
        try:
            other = metadata().distribution("graphslim")
        except ImportError:  # importlib.metadata.PackageNotFoundError is one
            return None
        # Earlier versions of this project were installed by that name.
        if any(point.value == _COMMAND for point in other.entry_points):
            return None
    return (
        f"{os.path.join(_ROOT, 'graphslim')}: another project's package graphslim is installed "
        f"beside or over this one (`pip uninstall graphslim`, then install {DISTRIBUTION} again)"
    )


def import_named(name: str, attribute: str) -> ModuleType:
    """The module of a name such as `package.module`, or of a path such as `folder/file.py`.

    A file is executed once, whoever asks for it.

    Args:
        name: the module's name or path.
        attribute: the attribute of the module that is asked for.

    Raises:
        ImportError: there is no such module; a user's module may raise anything else, too.
        GraphslimError: the attribute is a definition that was refused.
    """
    key = _key_of(name)
    if key not in _refused_in or key not in sys.modules:
        refused = collecting(lambda: _load(name, key))
        requested = getattr(sys.modules[key], attribute, None)
        warn_of([(defined, error) for defined, error in refused if defined is not requested], name)
        _refused_in[key] = refused
    module = sys.modules[key]
    for defined, error in _refused_in[key]:
        if defined is getattr(module, attribute, None):
            raise error
    return module


def user_object(
    name: str, where: str, error: Type[GraphslimError], wanted: str = "function"
) -> Any:
    """What `package.module:name` or `path/to/file.py:name` names, which a user wrote.

    Args:
        name: the module or file, and the attribute behind the last colon.
        where: what the name was given to, for messages.
        error: the class of the errors that are raised.
        wanted: what the attribute is, as the form of names shows it; a `function` has to be one.

    Raises:
        GraphslimError: of the given class: there is no such file, module or attribute, or
            importing it fails. A definition that was refused raises the error that says why.
    """
    place, _, attribute = name.rpartition(":")
    hint = f"write package.module:{wanted} or path/to/file.py:{wanted}"
    if place.endswith(".py") and not os.path.isfile(place):
        raise error(f"no such file: {place}", where, hint)
    try:
        module = import_named(place, attribute)
    except GraphslimError:
        raise
    except (Exception, SystemExit) as failure:  # a user's file may raise anything, or be a script
        told = f"{place} cannot be imported: {type(failure).__name__}: {failure}"
        raise error(told, where, hint) from failure
    value = getattr(module, attribute, None)
    kind = "function " if wanted == "function" else ""
    if value is None or (kind and not isinstance(value, FunctionType)):
        raise error(f"there is no {kind}{attribute!r} in {place}", where, hint)
    return value


def _key_of(name: str) -> str:
    """The name of a module in `sys.modules`."""
    if not name.endswith(".py"):
        return name
    import hashlib  # takes as long as Python's start, and few commands read a user's file

    return _FROM_FILE + hashlib.sha256(os.path.abspath(name).encode()).hexdigest()[:16]


def _load(name: str, key: str) -> None:
    if key in sys.modules:
        return
    if not name.endswith(".py"):
        import_module(name)
        return
    spec = importlib.util.spec_from_file_location(key, os.path.abspath(name))
    if spec is None or spec.loader is None:
        raise ImportError(name)
    # Before it is executed, since dataclasses look their module up.
    sys.modules[key] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(sys.modules[key])
    except BaseException:
        del sys.modules[key]
        raise


def names_of(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package (PEP 562): imports an attribute when it is first asked for.

    A module of the package is an attribute too.

    Args:
        package: the package's name.
        places: by attribute, the module that defines it, followed by `:` and the name that it has
            there if it is another.
    """

    def find(name: str) -> Any:
        module, _, defined_as = places.get(name, f"{package}.{name}").partition(":")
        try:
            value: Any = import_module(module)
        except ModuleNotFoundError as error:
            if name in places or error.name != module:
                raise
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from None
        if name in places:
            value = getattr(value, defined_as or name)
            setattr(sys.modules[package], name, value)
        return value

    return find


# --- Loads the passes, criteria, patterns and rules of ops that other packages bring.

ENTRY_POINTS = "graphslim.passes"
"""Group of entry points."""
_built_in: Dict[str, str] = {}
_loaded = False


def bring(module: str, what: str) -> None:
    """Names a module of built-in definitions, which `load_plugins` imports before all others.

    Args:
        module: the module's name.
        what: what it defines, for the message where it is not installed.
    """
    _built_in[module] = what


def load_plugins() -> None:
    """Imports the built-in definitions, and every entry point of the group, once.

    A plug-in that fails causes a `DefinitionWarning`, and the others are loaded all the same.

    Raises:
        PassError: a module of built-in definitions is not installed.
    """
    global _loaded
    if _loaded:
        return
    _loaded = True
    for module, what in _built_in.items():
        try:
            import_module(module)
        except ImportError as error:
            _loaded = False
            raise PassError(
                f"the built-in {what} are not installed: {error}",
                module,
                impostor() or "pip install -e . in the checkout",
            ) from None
    for point in _entry_points():
        try:
            refused = collecting(point.load)
        except (Exception, SystemExit) as error:  # a plug-in may raise anything
            failure = PassError(
                f"{type(error).__name__}: {error}{_line_of(error)}", hint=_remedy(error, point)
            )
            refused = [(point, failure)]
        brought_by = getattr(getattr(point, "dist", None), "metadata", {})
        package = f" of {brought_by['Name']}" if "Name" in brought_by else ""
        warn_of(refused, f"plug-in {point.name}{package}")


def _line_of(error: BaseException) -> str:
    """Where an error was raised while a plug-in was imported; nothing if Python's import did."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        file, module = frame.f_code.co_filename, str(frame.f_globals.get("__name__"))
        if not module.startswith(("graphslim.", "importlib")) and "importlib" not in file:
            return f", at {file}:{line}"
    return ""


def _remedy(error: BaseException, point: Any) -> str:
    """What to do about a plug-in, given by its entry point, that could not be loaded."""
    own = str(getattr(point, "value", "")).partition(":")[0]
    if isinstance(error, ModuleNotFoundError) and f"{own}.".startswith(f"{error.name}."):
        return "its own module is missing: reinstall, update or uninstall it"
    if isinstance(error, ModuleNotFoundError):
        return f"install {error.name} for {sys.executable}, or uninstall the plug-in"
    if isinstance(error, ImportError):
        return (
            f"the plug-in was written for another version of {error.name or 'what it imports'}: "
            "update or uninstall it"
        )
    return "update or uninstall it"


def _entry_points() -> List[Any]:
    points: Any = metadata().entry_points()
    if hasattr(points, "select"):
        return list(points.select(group=ENTRY_POINTS))
    return list(points.get(ENTRY_POINTS, []))
