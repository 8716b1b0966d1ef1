"""Constant tensors in every encoding that TensorFlow writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphslim.errors import IRError, LoadError
from graphslim.graphdef import load, serialize
from graphslim.graphdef.protos import GraphDef, TensorProto
from graphslim.graphdef.values import decode_tensor, encode_tensor
from graphslim.ir import DType, Tensor

NUMERIC = {
    DType.float32: ("float_val", [1.5, -2.0, 0.1]),
    DType.float64: ("double_val", [1.5, -2.0, 0.1]),
    DType.float16: ("half_val", [0x3C00, 0xC000, 0x7BFF]),
    DType.bfloat16: ("half_val", [0x3F80, 0xC000, 0x7F7F]),
    DType.int32: ("int_val", [1, -2, 2**31 - 1]),
    DType.int64: ("int64_val", [1, -2, 2**63 - 1]),
    DType.uint8: ("int_val", [1, 2, 255]),
    DType.int8: ("int_val", [1, -2, 127]),
    DType.int16: ("int_val", [1, -2, 32767]),
    DType.uint16: ("int_val", [1, 2, 65535]),
    DType.uint32: ("uint32_val", [1, 2, 2**32 - 1]),
    DType.uint64: ("uint64_val", [1, 2, 2**64 - 1]),
    DType.bool: ("bool_val", [True, False, True]),
    DType.quint8: ("int_val", [1, 2, 255]),
    DType.qint8: ("int_val", [1, -2, 127]),
    DType.qint32: ("int_val", [1, -2, 3]),
    DType.qint16: ("int_val", [1, -2, 3]),
    DType.quint16: ("int_val", [1, 2, 65535]),
}


def proto(dtype: DType, shape: Any, **fields: Any) -> Any:
    message = TensorProto(dtype=int(dtype), **fields)
    message.tensor_shape.SetInParent()
    for size in shape:
        message.tensor_shape.dim.add().size = size
    return message


def stored(dtype: DType, values: Any) -> np.ndarray:
    if dtype is DType.float16:
        return np.array(values, np.uint16).view(np.float16)
    return np.array(values, dtype.storage)


@pytest.mark.parametrize("dtype", NUMERIC, ids=lambda dtype: dtype.name)
def test_typed_values(dtype: DType) -> None:
    field, values = NUMERIC[dtype]
    tensor = decode_tensor(proto(dtype, [3], **{field: values}))
    assert tensor.array.dtype == dtype.storage
    assert tensor.array.tolist() == stored(dtype, values).tolist()


@pytest.mark.parametrize("dtype", NUMERIC, ids=lambda dtype: dtype.name)
def test_tensor_content(dtype: DType) -> None:
    array = stored(dtype, NUMERIC[dtype][1]).reshape(1, 3)
    tensor = decode_tensor(proto(dtype, [1, 3], tensor_content=array.tobytes()))
    assert tensor.array.dtype == dtype.storage
    assert tensor.array.tolist() == array.tolist()


@pytest.mark.parametrize("dtype", NUMERIC, ids=lambda dtype: dtype.name)
def test_the_last_value_fills_the_shape(dtype: DType) -> None:
    field, values = NUMERIC[dtype]
    one, two = stored(dtype, values[1:2]).tolist(), stored(dtype, values[:2]).tolist()
    assert (
        decode_tensor(proto(dtype, [2, 2], **{field: values[1:2]})).array.tolist() == [one * 2] * 2
    )
    partly = decode_tensor(proto(dtype, [4], **{field: values[:2]}))
    assert partly.array.tolist() == [two[0], two[1], two[1], two[1]]


@pytest.mark.parametrize("dtype", [*NUMERIC, DType.string], ids=lambda dtype: dtype.name)
def test_no_value_is_zero_everywhere(dtype: DType) -> None:
    expected = b"" if dtype is DType.string else 0
    assert decode_tensor(proto(dtype, [2])).array.tolist() == [expected, expected]
    assert decode_tensor(proto(dtype, [0, 4])).array.shape == (0, 4)


@pytest.mark.parametrize("dtype", [*NUMERIC, DType.complex64], ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("shape", [(), (3,), (1, 3), (0,), (2, 0)])
def test_encoded_and_decoded_again(dtype: DType, shape: Any) -> None:
    source = NUMERIC.get(dtype, ("", [1 + 2j, -3j, 0.5]))[1]
    array = np.resize(stored(dtype, source), shape)
    again = decode_tensor(encode_tensor(Tensor.of(array, dtype)))
    assert (again.shape, again.dtype) == (shape, dtype)
    assert again.array.tobytes() == array.tobytes()


def test_complex_values() -> None:
    tensor = decode_tensor(proto(DType.complex64, [2], scomplex_val=[1, 2, 3, 4]))
    assert tensor.array.tolist() == [1 + 2j, 3 + 4j]
    tensor = decode_tensor(proto(DType.complex128, [3], dcomplex_val=[1, 2]))
    assert tensor.array.tolist() == [1 + 2j] * 3


def test_strings() -> None:
    values = [b"one", b"", b"tail\0"]
    tensor = decode_tensor(proto(DType.string, [3], string_val=values))
    assert tensor.array.tolist() == values
    assert decode_tensor(encode_tensor(tensor)).array.tolist() == values
    splat = decode_tensor(proto(DType.string, [2], string_val=[b"tail\0"]))
    assert splat.array.tolist() == [b"tail\0"] * 2, "numpy's own string type drops the NUL"
    assert splat.array.dtype == object


def test_strings_as_content() -> None:
    tensor = decode_tensor(proto(DType.string, [2], tensor_content=b"\x03\x00one"))
    assert tensor.array.tolist() == [b"one", b""]
    for bad in (b"\x03\x09one", b"\x03", b"\x03\x00o"):
        with pytest.raises(LoadError, match="do not fit the shape"):
            decode_tensor(proto(DType.string, [2], tensor_content=bad)).array  # noqa: B018


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (proto(DType.float32, [3], tensor_content=bytes(8)), "8 bytes .* takes 12"),
        (proto(DType.float32, [], tensor_content=bytes(8)), "8 bytes .* takes 4"),
        (proto(DType.float32, [2, 0], tensor_content=bytes(4)), "4 bytes .* takes 0"),
        (proto(DType.int64, [1], tensor_content=bytes(4)), "4 bytes .* takes 8"),
        (proto(DType.float32, [2], float_val=[1, 2, 3]), "3 values .* takes 2"),
        (proto(DType.complex64, [1], scomplex_val=[1, 2, 3, 4]), "2 values .* takes 1"),
        (proto(DType.float32, [-1], float_val=[1]), "unknown shape"),
    ],
)
def test_elements_that_do_not_fit_the_shape_are_refused(message: Any, told: str) -> None:
    with pytest.raises(LoadError, match=told):
        decode_tensor(message)


def test_an_unknown_rank_is_refused() -> None:
    message = TensorProto(dtype=1)
    message.tensor_shape.unknown_rank = True
    with pytest.raises(LoadError, match="unknown shape"):
        decode_tensor(message)


def test_reference_types_are_their_element_type() -> None:
    message = proto(DType.float32, [1], float_val=[2])
    message.dtype += 100
    assert decode_tensor(message).dtype is DType.float32


# ------------------------------------------------------------------- views


def graph_def(size: int) -> Any:
    message = GraphDef()
    for name, op in (("x", "Placeholder"), ("k", "Const"), ("y", "Add")):
        message.node.add(name=name, op=op)
    message.node[0].attr["dtype"].type = 1
    content = np.arange(size, dtype=np.float32).tobytes()
    message.node[1].attr["dtype"].type = 1
    message.node[1].attr["value"].tensor.CopyFrom(
        proto(DType.float32, [size], tensor_content=content)
    )
    message.node[2].input.extend(["x", "k"])
    return message


def test_a_large_constant_is_a_view_of_the_file() -> None:
    graph = load(graph_def(5000))
    whole = np.frombuffer(graph.origin.data, np.uint8)
    array = graph["k"].attrs["value"].array
    assert np.shares_memory(array, whole)
    assert array.tolist() == list(range(5000))


def test_a_shared_copy_of_a_graph_shares_its_tensors() -> None:
    graph = load(graph_def(5000))
    twin = graph.copy()
    assert np.shares_memory(graph["k"].attrs["value"].array, twin["k"].attrs["value"].array)


def test_elements_are_read_only() -> None:
    for size in (3, 5000):
        array = load(graph_def(size))["k"].attrs["value"].array
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        Tensor.of(np.zeros(3)).array[0] = 1


def test_elements_are_read_once_and_late() -> None:
    reads = []
    tensor = Tensor((2,), DType.float32, lambda: reads.append(1) or np.ones(2, np.float32))
    cut = tensor.take(0, np.array([True, False]))
    assert (reads, cut.shape) == ([], (1,))
    assert (cut.array.tolist(), tensor.array.tolist(), reads) == ([1], [1, 1], [1])


def test_elements_of_another_shape_than_promised_are_refused() -> None:
    with pytest.raises(IRError, match="shape"):
        Tensor((3,), DType.float32, lambda: np.zeros(2, np.float32)).array  # noqa: B018


# ------------------------------------------------------------------- cutting and numbers


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_take(axis: int) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    keep = np.arange(array.shape[axis]) != 1
    tensor = Tensor.of(array).take(axis, keep)
    assert tensor.array.tolist() == np.delete(array, 1, axis).tolist()
    assert tensor.shape == tensor.array.shape


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 1), (3, 1, 1), (1, 3), (2, 0), (0, 1)])
@pytest.mark.parametrize("kept", [0, 1, 2])
def test_take_cuts_as_numpy_does_and_in_its_order(shape: Any, kept: int) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    for axis, size in enumerate(shape):
        mask = np.arange(size) < kept
        cut, wanted = Tensor.of(array).take(axis, mask).array, np.compress(mask, array, axis)
        assert (cut.shape, cut.tolist()) == (wanted.shape, wanted.tolist())
        assert cut.flags.c_contiguous, "sums over it are rounded as before"


def test_take_of_take() -> None:
    tensor = Tensor.of(np.arange(12).reshape(3, 4))
    cut = tensor.take(0, np.array([1, 0, 1], bool)).take(1, np.array([0, 1, 1, 0], bool))
    assert cut.array.tolist() == [[1, 2], [9, 10]]


def test_take_keeps_its_own_mask() -> None:
    keep = np.array([True, False, True])
    cut = Tensor.of(np.arange(3)).take(0, keep)
    keep[:] = False
    assert cut.array.tolist() == [0, 2]


@pytest.mark.parametrize(("axis", "size"), [(0, 3), (1, 2), (2, 3), (-1, 3)])
def test_take_refuses_what_does_not_fit(axis: int, size: int) -> None:
    with pytest.raises(IRError, match="does not fit axis"):
        Tensor.of(np.zeros((2, 3))).take(axis, np.ones(size, bool))


@pytest.mark.parametrize("shape", [(), (1,), (2, 2)])
def test_bfloat16_as_numbers(shape: Any) -> None:
    tensor = decode_tensor(proto(DType.bfloat16, shape, half_val=[0x3FC0]))
    numbers = tensor.numbers()
    assert (numbers.dtype, numbers.shape) == (np.float32, shape)
    assert (numbers == 1.5).all()
    again = tensor.with_numbers(numbers)
    assert (again.dtype, again.array.tolist()) == (DType.bfloat16, tensor.array.tolist())


def test_bfloat16_is_rounded_to_the_nearest_even() -> None:
    bits = np.array([0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001, 0x7F800000], np.uint32)
    stored_bits = Tensor.from_numbers(bits.view(np.float32), DType.bfloat16).array
    assert [hex(n) for n in stored_bits] == ["0x3f80", "0x3f80", "0x3f82", "0x3f81", "0x7f80"]
    nan = np.array([0x7FFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(Tensor.from_numbers(nan, DType.bfloat16).numbers()).all()


def test_integers_are_rounded_not_cut() -> None:
    assert Tensor.from_numbers(np.array([2.7, -2.7]), DType.int32).array.tolist() == [3, -3]


def test_a_numpy_type_without_a_name_in_tensorflow_is_refused() -> None:
    with pytest.raises(IRError, match="no element type"):
        Tensor.of(np.array(["text"]))


def test_every_numeric_type_has_a_storage() -> None:
    assert all(dtype.storage.kind != "O" for dtype in NUMERIC)
    assert DType.string.storage.hasobject
    assert DType.bfloat16.is_floating and not DType.bfloat16.is_integral
    assert DType.uint8.is_integral and not DType.quint8.is_integral


def test_big_endian_arrays_are_stored_as_little() -> None:
    tensor = Tensor.of(np.array([1, 2], ">i4"))
    assert (tensor.dtype, tensor.array.dtype.str) == (DType.int32, "<i4")
    assert tensor.array.tolist() == [1, 2]


def test_a_cut_constant_is_written() -> None:
    graph = load(graph_def(5000))
    keep = np.arange(5000) < 2
    graph.set_attr("k", "value", graph["k"].attrs["value"].take(0, keep))
    message = GraphDef.FromString(serialize(graph))
    assert decode_tensor(message.node[1].attr["value"].tensor).array.tolist() == [0, 1]
