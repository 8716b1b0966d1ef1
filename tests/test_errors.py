"""Messages: the command line names its options, the library its keyword arguments."""

from __future__ import annotations

import inspect

import pytest

import graphslim as gs
from graphslim.checkpoint import open_checkpoint
from graphslim.errors import KEYWORDS, GraphslimError, in_library_words
from graphslim.measure.bench import bench
from graphslim.measure.verify import verify


@pytest.mark.parametrize(
    "told, words",
    [
        ("--macs 0.5: too much", "macs=0.5: too much"),
        ("--macs and --params: choose one", "macs and params: choose one"),
        ("add one, such as --criterion l1", 'add one, such as criterion="l1"'),
        ("add one of: --macs, --loss-output", "add one of: macs, loss_output"),
        (
            "add --input-shape input=1,224,224,3",
            'add input_shapes={"input": [1, 224, 224, 3]}',
        ),
        ("add --input-shape x:0=?,4", 'add input_shapes={"x:0": [None, 4]}'),
        ("give the input's with --input-shape", "give the input's with input_shapes"),
        ("--force applies it", "force=True applies it"),
        ("--no-meta writes the checkpoint", "write_meta=False writes the checkpoint"),
        ("--threshold 1e-05: x", "threshold=1e-05: x"),
        ("--no-verify prunes without running it", "--no-verify prunes without running it"),
        ("a/b--macs and --macs-like", "a/b--macs and --macs-like"),
        ("`graphslim inspect` lists them", "`graphslim inspect` lists them"),
        ("run `tool --inputs x`, or name --inputs", "run `tool --inputs x`, or name inputs"),
    ],
)
def test_options_and_keywords(told: str, words: str) -> None:
    assert in_library_words(told) == words
    error = GraphslimError(told, "somewhere", told)
    assert error.told == f"somewhere: {told} ({told})"
    assert str(error) == f"somewhere: {words} ({words})"


def test_every_keyword_is_one_of_the_library() -> None:
    known = {
        name
        for function in (
            *(gs.load, gs.plan, gs.prune_gradually, gs.strip, gs.optimize, open_checkpoint),
            *(verify, bench, gs.sensitivity, gs.export),
        )
        for name in inspect.signature(function).parameters
    }
    assert {word.partition("=")[0] for word in KEYWORDS.values()} <= known
