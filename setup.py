"""Packages graphslim; the only file that states requirements and pins."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent

# TensorFlow has no one name: tensorflow-cpu is the small build, but it has no
# wheels for macOS or arm, where plain tensorflow is built for the CPU anyway.
CPU_WHEELS = "sys_platform == 'linux' and platform_machine == 'x86_64'"
NO_CPU_WHEELS = "(sys_platform != 'linux' or platform_machine != 'x86_64')"

INSTALL_REQUIRES = [
    "click>=8.0",
    # Holds a plan against its schema; the first whose errors tell the rule that is broken.
    "fastjsonschema>=2.15",
    "importlib-metadata>=1.4; python_version < '3.8'",
    "networkx>=2.6",
    "numpy>=1.16",
    # The GraphDef message classes without TensorFlow; on 3.7 TensorFlow 1.15 wants 1.15,
    # whose generated messages no protobuf after 3.20 accepts.
    "tensorboard>=1.15; python_version < '3.8'",
    "tensorboard>=2.10; python_version >= '3.8'",
    "protobuf>=3.9,<3.21; python_version < '3.8'",
    "protobuf>=3.19; python_version >= '3.8'",
    "pyyaml>=5.1",
    "rich>=10.0",
    "typing_extensions>=3.7.4; python_version < '3.8'",
]

# The first of each that is tested is the last for Python 3.7.
ONNX = ["tf2onnx>=1.16.1", "onnxruntime>=1.14.1"]
# TensorFlow brings an interpreter too, which older Pythons take.
TFLITE = ["ai-edge-litert>=1.0; python_version >= '3.10'"]
OPENVINO = ["openvino>=2023.1"]

EXTRAS_REQUIRE = {
    "tf": [
        "tensorflow==1.15.0; python_version < '3.8'",
        # No other TensorFlow is tested, but an extra that installs nothing would be a trap.
        "tensorflow>=2.10; python_version >= '3.8' and python_version < '3.10'",
        f"tensorflow-cpu>=2.15; python_version >= '3.10' and {CPU_WHEELS}",
        f"tensorflow>=2.15; python_version >= '3.10' and {NO_CPU_WHEELS}",
    ],
    # Converts to ONNX, and runs that.
    "onnx": ONNX,
    "tflite": TFLITE,
    "openvino": OPENVINO,
    # Shares measurements out over machines; the last that Python 3.7 takes is 2022.2.
    "dask": ["distributed>=2022.2"],
    # Draws the charts of `prune --report`; 3.4 is the first with `stairs`.
    "report": ["matplotlib>=3.4"],
    "test": [
        *ONNX,
        *TFLITE,
        *OPENVINO,
        "distributed>=2022.2",
        "hypothesis>=6.0",
        # Holds the plan's schema against another implementation of JSON schema than ours.
        "jsonschema>=3.2",
        "matplotlib>=3.4",
        "pillow>=6.0",
        "pytest>=7.0",
        "pytest-xdist>=3.2",
    ],
    # Exact versions, so that `make check` says the same today and tomorrow. numpy and
    # click are here for their type hints, which change from release to release.
    "dev": [
        "ruff==0.17.6",
        "mypy==2.4.1; python_version >= '3.10'",
        "mypy==1.4.1; python_version < '3.10'",
        "numpy==2.2.6; python_version >= '3.10'",
        "click==8.1.8",
    ],
    "fixtures": ["scikit-learn>=1.0"],
    # What `make mutants` plants faults with; cosmic-ray needs Python 3.9.
    "mutants": ["cosmic-ray==8.7.0", "pytest-cov>=5"],
    # The site of `make docs`. Exact versions, since a warning of theirs is an error.
    "docs": [
        "furo==2025.12.19",
        "myst-parser==5.2.0",
        "sphinx==9.0.4",
        "sphinx-click==6.2.0",
    ],
}


def version() -> str:
    """Read the version as text: importing graphslim would need its requirements."""
    text = (ROOT / "graphslim" / "_version.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError("graphslim/_version.py states no __version__")
    return match.group(1)


def long_description() -> str:
    """Return the README, where the checkout has one."""
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.is_file() else ""


def packages() -> list[str]:
    """Name the packages: graphslim and its own, and the passes under their installed name."""
    own = find_packages(str(ROOT), include=["graphslim", "graphslim.*"])
    passes = [f"graphslim.passes.{name}" for name in find_packages(str(ROOT / "passes"))]
    return [*own, "graphslim.passes", *passes]


setup(
    # On PyPI `graphslim` is another project; the package and the command keep that name.
    name="tf-graphslim",
    version=version(),
    description="A compiler that makes TensorFlow frozen graphs narrower",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.7",
    packages=packages(),
    package_dir={"graphslim.passes": "passes"},
    package_data={
        "graphslim": ["py.typed"],
        "graphslim.plans": ["schema.json"],
        "graphslim.report": ["style.css", "template.html"],
    },
    zip_safe=False,
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    entry_points={"console_scripts": ["graphslim = graphslim.cli:main"]},
)
