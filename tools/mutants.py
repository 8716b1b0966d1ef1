"""Plants small faults in the core, one at a time, and counts how many of them the tests catch.

    tools/mutants.py --cover           runs the tests once, and notes which of them reach a line
    tools/mutants.py --count 400       plants so many mutants, drawn by a seed; prints survivors
    tools/mutants.py --count 50 PATH   of one file or folder alone

The mutants are cosmic-ray's: another comparison, another number, `and` for `or`, a loop that does
not run, a decorator less. Each is judged by the tests that reach its line, the quickest and those
that know most of its file first, one of each function before a second, until one fails or the time
is up; what none reaches survives.
Where only the import reaches a line, as it does a decorator's, the tests of the function below
judge, or else those of the file. Everything happens in copies of the checkout below
`build/mutants/`, with each verdict in `verdicts-SEED.jsonl`. `make mutants` does both steps.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import gc
import json
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, NamedTuple, Sequence, Set, Tuple
from xml.etree import ElementTree

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from coverage.numbits import numbits_to_nums

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "mutants"
TARGETS = ("graphslim/channels", "graphslim/ops", "graphslim/rewrite", "graphslim/graphdef/emit.py")
COPIED = ("graphslim", "passes", "tests", "fixtures", "examples", "docs", "pyproject.toml")
OPERATORS = (
    *("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_FloorDiv"),
    *("BitAnd_BitOr", "BitOr_BitAnd"),
)
COMPARISONS = (
    *("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Lt_GtE", "GtE_Lt"),
    *("Is_IsNot", "IsNot_Is"),
)
OTHERS = (
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr"),
    *("ReplaceOrWithAnd", "ReplaceBreakWithContinue", "ReplaceContinueWithBreak"),
    *("NumberReplacer", "RemoveDecorator", "ZeroIterationForLoop"),
    *("ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_USub_UAdd"),
)
"""Cosmic-ray's operators, but for those that only make another mutant of the same place."""
_SLACK = 60.0
_SLOWER = 4.0
"""A mutant hangs, which is a death, after so many seconds and so many times what its tests took."""
_FIRST = 6
"""How many tests are tried before all others."""


class Mutant(NamedTuple):
    """One fault: a file of the checkout, an operator, and which of its places in the file."""

    path: str
    operator: str
    occurrence: int


class Verdict(NamedTuple):
    """What became of a mutant: the lines that differ, and the test that caught it, if any did."""

    mutant: Mutant
    diff: str
    killed_by: str
    tests: int


def names() -> Iterator[str]:
    """The names of all operators, as cosmic-ray has them."""
    yield from (f"core/ReplaceBinaryOperator_{kind}" for kind in OPERATORS)
    yield from (f"core/ReplaceComparisonOperator_{kind}" for kind in COMPARISONS)
    yield from (f"core/{kind}" for kind in OTHERS)


def mutants_of(path: Path) -> List[Mutant]:
    """Every mutant of a file, as many of each operator as it has places for it."""
    nodes = list(ast_nodes(get_ast(path.read_text(encoding="utf-8"))))
    return [
        Mutant(path.relative_to(ROOT).as_posix(), name, occurrence)
        for name in names()
        for occurrence in range(
            sum(len(list(get_operator(name)().mutation_positions(node))) for node in nodes)
        )
    ]


def draw(mutants: List[Mutant], count: int, seed: int) -> List[Mutant]:
    """So many of some mutants, without those that are no code or change an annotation alone."""
    drawn: List[Mutant] = []
    for mutant in random.Random(seed).sample(mutants, len(mutants)):
        if len(drawn) == count:
            break
        code, mutated = codes(mutant)
        try:
            compile(mutated, mutant.path, "exec", dont_inherit=True)
        except SyntaxError:
            continue
        if not is_annotation(code, mutated):
            drawn.append(mutant)
    return drawn


def codes(mutant: Mutant) -> Tuple[str, str]:
    """The code of a mutant's file as it is, and with the fault in it."""
    code = (ROOT / mutant.path).read_text(encoding="utf-8")
    return code, mutate_code(code, get_operator(mutant.operator)(), mutant.occurrence)


def is_annotation(code: str, mutated: str) -> bool:
    """Whether the changed line is one that states types, which `__future__` never evaluates."""
    line = code.splitlines()[changed_lines(code, mutated)[0] - 1]
    return "Union[" in line or line.lstrip().startswith(("from ", "import "))


def changed_lines(code: str, mutated: str) -> List[int]:
    """The numbers of the lines of `code` that a mutant changes."""
    matcher = difflib.SequenceMatcher(None, code.splitlines(), mutated.splitlines(), False)
    return [
        line + 1
        for tag, start, end, _, _ in matcher.get_opcodes()
        if tag != "equal"
        for line in range(start, max(end, start + 1))
    ]


def copy_tree(name: str) -> Path:
    """A fresh copy of what is tested; `shared` beside the checkout is linked beside the copy."""
    tree = BUILD / name / "tree"
    shutil.rmtree(tree.parent, ignore_errors=True)
    tree.mkdir(parents=True)
    for item in COPIED:
        source = ROOT / item
        if source.is_dir():
            shutil.copytree(source, tree / item, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, tree / item)
    if (ROOT.parent / "shared").exists():
        os.symlink(ROOT.parent / "shared", tree.parent / "shared")
    return tree


def cover(jobs: int, tests: List[str]) -> None:
    """Runs the tests, and keeps how long those that pass take, and which lines they reach."""
    tree = copy_tree("cover")
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests),
        *("-n", str(jobs), f"--cov={tree / 'graphslim'}", "--cov-context=test", "--cov-report="),
        *("--junitxml", str(tree / "times.xml"), "-o", "junit_family=xunit1"),
    ]
    subprocess.run(command, cwd=str(tree), env={**os.environ, "PYTHONPATH": str(tree)}, check=False)
    times = {
        f"{case.get('file')}::{case.get('name')}": float(case.get("time", "0"))
        for case in ElementTree.parse(tree / "times.xml").iter("testcase")
        if all(case.find(outcome) is None for outcome in ("failure", "error", "skipped"))
    }
    (BUILD / "times.json").write_text(json.dumps(times), encoding="utf-8")
    shutil.copy(tree / ".coverage", BUILD / "coverage.sqlite")


def tests_by_line(path: str) -> Dict[int, Set[str]]:
    """For each line of a file the tests that reach it."""
    times = json.loads((BUILD / "times.json").read_text(encoding="utf-8"))
    database = sqlite3.connect(BUILD / "coverage.sqlite")
    rows = database.execute(
        "select context.context, line_bits.numbits from line_bits"
        " join file on file.id = line_bits.file_id join context on context.id = context_id"
        " where file.path like ?",
        ("%/" + path,),
    )
    reached: Dict[int, Set[str]] = {}
    for context, bits in rows:
        test = context.rpartition("|")[0]
        if test in times:
            for line in numbits_to_nums(bits):
                reached.setdefault(line, set()).add(test)
    return reached


def statement_lines(code: str, line: int) -> range:
    """The lines of the innermost statement with a line, of a function those of its body too."""
    spans = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.stmt):
            decorators = getattr(node, "decorator_list", [])
            first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
            if first <= line <= node.end_lineno:
                spans.append(range(first, node.end_lineno + 1))
    return min(spans, key=len, default=range(0))


def tests_of(mutant: Mutant, reached: Dict[int, Set[str]]) -> Set[str]:
    """The tests that reach the changed lines, or else their statement, or else the file."""
    code, mutated = codes(mutant)
    lines = changed_lines(code, mutated)
    for some in (lines, statement_lines(code, lines[-1]), reached):
        tests = {test for line in some for test in reached.get(line, ())}
        if tests:
            return tests
    return set()


def run_tests(tree: Path, tests: Sequence[str], seconds: float, warm: bool = False) -> str:
    """What ended the tests of a copy in a fork of this process, which has TensorFlow already.

    Args:
        tree: the copy.
        tests: their pytest ids.
        seconds: how much processor time they may take, which a busy machine does not use up; s.
        warm: whether bytecode is kept; that of a mutant could pass for that of the file.
    """
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), resource.RLIM_INFINITY))
        log = os.open(str(tree.parent / "log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(str(tree))
        os.environ["PYTHONPATH"] = sys.path[0] = str(tree)
        sys.dont_write_bytecode = not warm
        status = 1
        try:
            status = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-rfE", *tests]))
        finally:
            os._exit(status)
    deadline = time.monotonic() + 20 * seconds  # of one that waits for ever, and uses no processor
    ended, status = os.waitpid(child, os.WNOHANG)
    while not ended and time.monotonic() < deadline:
        time.sleep(0.05)
        ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not ended or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return "time"
    if status == 0:
        return ""
    text = (tree.parent / "log").read_text(encoding="utf-8", errors="replace").strip()
    return text.splitlines()[-1] if text else f"status {status}"


def judge(work: Tuple[Mutant, Dict[str, float]]) -> Verdict:
    """Plants a mutant in this process's copy of the checkout, and runs its tests there.

    Args:
        work: the mutant, and how long each test took without it, in the order to run them; s.
    """
    mutant, times = work
    tests = list(times)
    tree = BUILD / f"worker-{os.getpid()}" / "tree"
    if not tree.exists():
        shutil.copytree(BUILD / "warm", tree.parent, symlinks=True)
    code, mutated = codes(mutant)
    lines = difflib.unified_diff(code.splitlines(), mutated.splitlines(), lineterm="", n=0)
    diff = "\n".join(list(lines)[2:])
    (tree / mutant.path).write_text(mutated, encoding="utf-8")
    killed_by = ""
    # Nearly all die by the first of them, and each file of tests takes a while to be read.
    for some in (tests[:_FIRST], tests[_FIRST:]):
        seconds = _SLACK + _SLOWER * sum(times[test] for test in some)
        killed_by = killed_by or (run_tests(tree, some, seconds) if some else "")
    (tree / mutant.path).write_text(code, encoding="utf-8")
    return Verdict(mutant, diff, killed_by, len(tests))


def chosen(
    tests: Iterable[str], reached: Dict[int, Set[str]], times: Dict[str, float], seconds: float
) -> Dict[str, float]:
    """As many tests as fit into so many seconds, by turns a quick one and one that knows the file.

    Variants of one function are much alike, so that each has to wait until all functions had one;
    a test that takes more than a twentieth of the time is left out.

    Args:
        tests: those to choose from; nearly all of them reach the walk and the analysis.
        reached: for each line of the mutant's file the tests that reach it.
        times: how long each test takes; s.
        seconds: how long all may take together; s.

    Returns:
        how long each of those takes, in the order to run them; s.
    """
    lines: Dict[str, int] = {}
    for test in (test for some in reached.values() for test in some):
        lines[test] = lines.get(test, 0) + 1
    quick = sorted(tests, key=lambda test: (times[test], test))
    knowing = sorted(quick, key=lambda test: lines.get(test, 0), reverse=True)
    pairs = zip(by_turns(quick), by_turns(knowing))
    taken: Dict[str, float] = {}
    for test in (test for pair in pairs for test in pair):
        if not taken or (times[test] < seconds / 20 and sum(taken.values()) < seconds):
            taken[test] = times[test]
    return taken


def by_turns(tests: Iterable[str]) -> List[str]:
    """Some tests in their order, but for the variants of one function, which take turns."""
    turns: Dict[str, int] = {}
    order: List[Tuple[int, str]] = []
    for test in tests:
        function = test.partition("[")[0]
        turns[function] = turns.get(function, -1) + 1
        order.append((turns[function], test))
    return [test for _, test in sorted(order, key=lambda pair: pair[0])]


def main() -> int:
    """Gives the exit status: 1 where fewer of the mutants died than `--at-least` says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--cover", action="store_true", help="note first which tests reach what")
    parser.add_argument("--tests", default="", help="these test files alone, for a quick look")
    parser.add_argument("--count", type=int, default=0, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=120.0, help="of tests for each mutant")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--at-least", type=float, default=0.9, help="the share that has to die")
    given = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    if given.cover:
        cover(given.jobs, given.tests.split())
    if not given.count:
        return 0
    places = given.paths or [ROOT / target for target in TARGETS]
    files = sorted(
        {file for place in places for file in ([place] if place.is_file() else place.rglob("*.py"))}
    )
    everything = [mutant for file in files for mutant in mutants_of(file.resolve())]
    drawn = draw(everything, given.count, given.seed)
    times = json.loads((BUILD / "times.json").read_text(encoding="utf-8"))
    reached = {path: tests_by_line(path) for path in {mutant.path for mutant in drawn}}
    work = []
    for mutant in drawn:
        tests = tests_of(mutant, reached[mutant.path])
        work.append((mutant, chosen(tests, reached[mutant.path], times, given.seconds)))
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    for module in ("tensorflow", "hypothesis", "xdist.plugin", "pytest_cov.plugin"):
        import_module(module)  # once, for all the forks
    gc.freeze()
    for folder in BUILD.glob("worker-*"):
        shutil.rmtree(folder)
    run_tests(copy_tree("warm"), ["--collect-only"], 600.0, warm=True)
    start, dead = time.monotonic(), 0
    log = (BUILD / f"verdicts-{given.seed}.jsonl").open("w", encoding="utf-8", buffering=1)
    with log, multiprocessing.Pool(given.jobs) as pool:
        for done, verdict in enumerate(pool.imap_unordered(judge, work), start=1):
            dead += bool(verdict.killed_by)
            log.write(json.dumps(verdict) + "\n")
            if not verdict.killed_by:
                place = f"{verdict.mutant.path} ({verdict.mutant.operator}, {verdict.tests} tests)"
                print(f"survived: {place}\n{verdict.diff}\n", flush=True)
            if done % 20 == 0:
                print(
                    f"{done} of {len(work)}, {dead} dead, {time.monotonic() - start:.0f} s",
                    flush=True,
                )
    print(
        f"{dead} of {len(work)} mutants died ({dead / len(work):.1%}); "
        f"there are {len(everything)} in all"
    )
    return 0 if dead >= given.at_least * len(work) else 1


if __name__ == "__main__":
    sys.exit(main())
