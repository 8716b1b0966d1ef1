"""Old pickles: plain data of every protocol is read, anything else refused and never run."""

from __future__ import annotations

import os
import pickle
import random
from collections import OrderedDict
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest

from graphslim.errors import LoadError
from graphslim.method.dictionaries import parse_pickle, read_dictionary, read_filters, read_pickle

FILTERS = {"SE1": [6, 11, 12, 300], "net/expanded_conv_1/": list(range(0, 64, 4))}
CONVOLUTIONS = {"SE1": [["SE1/conv1/Conv2D", 3], ["SE1/conv2/Conv2D", 2]]}
VECTORS = {"SE1/conv1/Conv2D": [["SE1/conv1/bias:0"], 0], "SE1/conv2/Conv2D": [["b:0"], None]}
PLAIN = [
    FILTERS,
    CONVOLUTIONS,
    VECTORS,
    {},
    [None, True, False, 0, -1, 255, 256, 65536, -(2**31), 2**40, -(2**70), 1.5, -0.0, 1e300],
    ["", "plain", "line\nbreak 'quoted' \\", "Straße", "\U0001f600", "x" * 300],
    [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [[[]]], {"a": {"b": ({},)}}],
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", PLAIN, ids=str)
def test_reads_plain_data_of_every_protocol(value: Any, protocol: int) -> None:
    assert parse_pickle(pickle.dumps(value, protocol), "x") == value


def test_reads_sets() -> None:
    value = [{1, 2}, frozenset([3]), set()]
    assert parse_pickle(pickle.dumps(value, 4), "x") == value


PYTHON_2 = [
    # {'SE1': [6, 300], u'SE2': [7L]} by Python 2.7, protocols 0, 1 and 2
    b"(dp0\nVSE2\np1\n(lp2\nL7L\nasS'SE1'\np3\n(lp4\nI6\naI300\nas.",
    b"}q\x00(X\x03\x00\x00\x00SE2q\x01]q\x02L7L\naU\x03SE1q\x03]q\x04(K\x06M,\x01eu.",
    b"\x80\x02}q\x00(X\x03\x00\x00\x00SE2q\x01]q\x02\x8a\x01\x07aU\x03SE1q\x03]q\x04(K\x06M,\x01eu.",
]


@pytest.mark.parametrize("data", PYTHON_2, ids=["protocol 0", "protocol 1", "protocol 2"])
def test_reads_what_python_2_wrote(data: bytes) -> None:
    assert parse_pickle(data, "x") == {"SE1": [6, 300], "SE2": [7]} == pickle.loads(data)


class Shell:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> Tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


class Nested:
    """Reduces to a call whose argument is itself a call."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> Tuple[Any, ...]:
        return list, ((Shell(self.mark),),)


class Evaluated:
    """Evaluates an expression."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> Tuple[Any, ...]:
        return eval, (f"open({self.mark!r}, 'w')",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", [Shell, Nested, Evaluated])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path, kind: Any, protocol: int) -> None:
    mark = tmp_path / "ran"
    data = pickle.dumps({"SE1": [1, kind(str(mark))]}, protocol)
    file = tmp_path / "Pruned_Filters.pkl"
    file.write_bytes(data)
    with pytest.raises(LoadError, match="more than containers, numbers and strings") as caught:
        read_pickle(str(file))
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    assert not mark.exists()
    pickle.loads(data)
    assert mark.exists(), "the pickle of this test is harmless, and shows nothing"


def hostile() -> List[Any]:
    """Pickles written by hand: every way to name, build or call something."""
    return [
        pytest.param(b"cos\nsystem\n(S'true'\ntR.", id="GLOBAL"),
        pytest.param(b"(S'true'\nios\nsystem\n.", id="INST"),
        pytest.param(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.", id="STACK_GLOBAL"),
        pytest.param(b"(cos\nsystem\nS'true'\no.", id="OBJ"),
        pytest.param(b"\x80\x02\x82\x01.", id="EXT1"),
        pytest.param(b"\x80\x02\x83\x01\x00.", id="EXT2"),
        pytest.param(b"\x80\x02\x84\x01\x00\x00\x00.", id="EXT4"),
        pytest.param(b"Pid\n.", id="PERSID"),
        pytest.param(b"I1\nQ.", id="BINPERSID"),
        pytest.param(b"]}S'append'\nI1\nsb.", id="BUILD"),
        pytest.param(b"I1\n)R.", id="REDUCE"),
        pytest.param(b"\x80\x02I1\n)\x81.", id="NEWOBJ"),
        pytest.param(b"\x80\x03C\x01a.", id="BINBYTES"),
    ]


@pytest.mark.parametrize("data", hostile())
def test_every_way_to_name_or_call_is_refused(data: bytes) -> None:
    with pytest.raises(LoadError, match="not read: it holds more than"):
        parse_pickle(data, "x.pkl")


@pytest.mark.parametrize("value", [OrderedDict(a=1), np.float32(1), np.arange(3), 1j, b"a", Path()])
def test_objects_are_refused_however_harmless(value: Any) -> None:
    with pytest.raises(LoadError, match="more than containers"):
        parse_pickle(pickle.dumps({"SE1": value}, 2), "x.pkl")


DAMAGED = [
    pytest.param(b"", id="empty"),
    pytest.param(b"no pickle at all", id="text"),
    pytest.param(b'{"SE1": [1]}', id="JSON"),
    pytest.param(pickle.dumps(FILTERS, 3)[:-9], id="cut"),
    pytest.param(b".", id="nothing on the stack"),
    pytest.param(b"a.", id="nothing to append"),
    pytest.param(b"I1\nI2\na.", id="appends to a number"),
    pytest.param(b"]I2\nI3\ns.", id="fills a list like a dict"),
    pytest.param(b"(I1\nd.", id="a key without a value"),
    pytest.param(b"}]I1\ns.", id="a list as key"),
    pytest.param(b"h\x07.", id="nothing remembered"),
    pytest.param(b"e.", id="no mark"),
    pytest.param(b"X\xff\xff\xff\x7fab.", id="a string longer than the file"),
    pytest.param(b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", id="bytes longer than memory"),
    pytest.param(b"I" + b"9" * 5000 + b"\n.", id="an endless number"),
]


@pytest.mark.parametrize("data", DAMAGED)
def test_a_damaged_pickle_gives_one_line(data: bytes) -> None:
    with pytest.raises(LoadError) as caught:
        parse_pickle(data, "x.pkl")
    assert "x.pkl" in str(caught.value) and "\n" not in str(caught.value)


BOMBS = [
    pytest.param(b"}K\x01" + b"2\x86" * 40 + b"K\x01s.", "a tuple as a key", id="hash of a key"),
    pytest.param(b"\x8f(K\x01" + b"2\x86" * 40 + b"\x90.", "a tuple as a key", id="hash in a set"),
    pytest.param(b"(K\x01" + b"2\x86" * 40 + b"\x91.", "a tuple as a key", id="frozen set"),
    pytest.param(
        b"K\x01" + b"2\x86" * 40 + b".", "more than 1,048,576 values", id="doubled tuples"
    ),
    pytest.param(
        b"]q\x00" + b"(h\x00h\x00lq\x00" * 40 + b".", "more than 1,048,576", id="doubled lists"
    ),
    pytest.param(b"]q\x00h\x00a.", "nested deeper than 100", id="a list in itself"),
    pytest.param(b"]" * 200 + b"a" * 199 + b".", "nested deeper than 100", id="deep"),
    pytest.param(b"\x8b\x00\x10\x00\x00" + b"\x7f" * 4096 + b".", "of 32767 bits", id="number"),
    pytest.param(b"}\x8a\x09" + b"\x7f" * 9 + b"Ns.", "more than 64 bits as a key", id="long key"),
]


@pytest.mark.parametrize(("data", "told"), BOMBS)
def test_what_would_take_long_is_refused(data: bytes, told: str) -> None:
    """A few bytes that stand for very much: their cost, or that of walking what they build."""
    with pytest.raises(LoadError, match=told) as caught:
        parse_pickle(data, "x.pkl")
    assert "\n" not in str(caught.value)


def test_a_list_that_is_shared_is_read() -> None:
    shared = [1, 2, 3]
    assert parse_pickle(pickle.dumps({"a": shared, "b": shared}, 2), "x") == {
        "a": shared,
        "b": shared,
    }


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_mutated_pickles_are_read_or_refused(protocol: int) -> None:
    data, pick = pickle.dumps({**FILTERS, "x": (1, 2.5, None, True)}, protocol), random.Random(1)
    for _ in range(500):
        mutant = bytearray(data)
        for _ in range(pick.randint(1, 4)):
            at = pick.randrange(len(mutant))
            mutant[at : at + pick.randint(0, 1)] = bytes([pick.randrange(256)])
        try:
            parse_pickle(bytes(mutant), "x.pkl")
        except LoadError as error:
            assert "\n" not in str(error)


def test_a_huge_memo_index_takes_no_memory() -> None:
    """Python's own reader makes room for as many as the index says."""
    assert parse_pickle(b"]r\xff\xff\xff\xffj\xff\xff\xff\xff0.", "x") == []


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("graphslim.method.dictionaries.LARGEST", 10)
    file = tmp_path / "x.pkl"
    file.write_bytes(pickle.dumps(FILTERS))
    with pytest.raises(LoadError, match="larger than"):
        read_pickle(str(file))


def test_a_missing_file_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"nothing\.pkl: no such file"):
        read_pickle(str(tmp_path / "nothing.pkl"))


def test_dictionaries_come_as_pickles_json_or_themselves(tmp_path: Path) -> None:
    old, new = tmp_path / "Scope_Conv_Dict.pkl", tmp_path / "Scope_Conv_Dict.json"
    old.write_bytes(pickle.dumps(CONVOLUTIONS, 3))
    new.write_text('{"SE1": [["SE1/conv1/Conv2D", 3], ["SE1/conv2/Conv2D", 2]]}', encoding="utf-8")
    for given in (str(old), str(new), CONVOLUTIONS):
        assert read_dictionary(given, "scope_conv_dict") == CONVOLUTIONS
    assert read_dictionary(None, "scope_conv_dict") == {}


def test_what_is_given_is_copied() -> None:
    """The caller's dictionary stays the caller's."""
    given = {"SE1": [3, 1]}
    read_filters(given, "pruning_filters_dict")["SE1"].append(7)
    assert given == {"SE1": [3, 1]}


def test_filters_are_sorted_numbers() -> None:
    given = {"SE1": (np.int64(3), 1, np.uint8(2)), "SE2": np.array([5, 4])}
    assert read_filters(given, "filters") == {"SE1": [1, 2, 3], "SE2": [4, 5]}


LOOP: List[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    "given",
    [[1], "text", {"SE1": 4}, {"SE1": ["4"]}, {"SE1": [1.5]}, {"SE1": [True]}, {1: [2]}]
    + [{"SE1": [1, 1]}, {"SE1": [-1]}, {"SE1": [LOOP]}, {"SE1": LOOP}],
    ids=lambda given: repr(given),
)
def test_lists_of_filters_that_are_none_are_refused(given: Any, tmp_path: Path) -> None:
    file = tmp_path / "x.pkl"
    file.write_bytes(pickle.dumps(given))
    for one in ([] if given == "text" else [given]) + [str(file)]:
        with pytest.raises(LoadError) as caught:
            read_filters(one, "filters")
        assert "\n" not in str(caught.value)


def test_json_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("{", encoding="utf-8")
    with pytest.raises(LoadError, match="not JSON"):
        read_dictionary(str(file), "filters")
