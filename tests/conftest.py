"""What several test modules need: helpers beside the tests, data beside the checkout."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Iterator

import pytest

# The helpers that stand beside the tests, wherever pytest is started.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import once  # noqa: E402

# While tests are collected nothing is garbage.
gc.disable()

# Timing leaves TensorFlow's kernels as shipped, if it comes first; other tests compare exactly.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

# Tables are as wide as they need to be, whatever the terminal that the tests run in.
for _name in ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"):
    os.environ.pop(_name, None)

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published networks beside the checkout."""
    if not (SHARED / "mobilepose").is_dir():
        pytest.skip("the published networks are not beside the checkout (../shared)")
    return SHARED


@pytest.fixture(scope="session")
def converter() -> Iterator[Any]:
    """One process that converts to other formats, for the tests that are not about the process."""
    from graphslim.delivery.converter import Converter

    with Converter() as shared:
        yield shared


def model_files() -> list:
    """Every binary graph that is there, of the fixtures and beside the checkout."""
    found = [*(ROOT / "fixtures").glob("**/*.pb"), *SHARED.glob("*/*.pb")]
    return [pytest.param(path, id=path.name) for path in sorted(found)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "model_file" in metafunc.fixturenames:
        metafunc.parametrize("model_file", model_files())


def pytest_configure(config: pytest.Config) -> None:
    """A folder for what is made once in a test run; workers inherit the variable that names it."""
    if once.VARIABLE not in os.environ:
        config.made_once = os.environ[once.VARIABLE] = tempfile.mkdtemp(prefix="graphslim-tests-")


def pytest_collection_finish() -> None:
    """Has Python look for garbage less often, and not among the tests: a sixth of the time."""
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "made_once"):
        del os.environ[once.VARIABLE]
        shutil.rmtree(config.made_once)
