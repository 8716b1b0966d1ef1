"""Small transformers, frozen: one like BERT, with three projections, and one like ViT, with one."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphslim as gs

BATCH, TIME, HIDDEN, HEADS, SIZE, INNER = 2, 5, 16, 4, 4, 24
"""Sizes: `HEADS` heads of `SIZE` channels each, which need not come to `HIDDEN`."""


def bert(layers: int = 2, **options: Any) -> gs.Graph:
    """Word embeddings, layers with the norms behind the sums, and a product for each position."""
    return _frozen("bert", layers, **options)


def vit(layers: int = 2, **options: Any) -> gs.Graph:
    """Patches of an image, layers with the norms before, q, k and v in one, a class at the end."""
    return _frozen("vit", layers, **options)


def keras(einsum: bool = False, **options: Any) -> gs.Graph:
    """Like `vit`, its attention as Keras's MultiHeadAttention: weights (hidden, heads, size).

    Keras 2 multiplies by Einsum. Keras 3 makes matrices of the weights, and multiplies by these.
    """
    return _frozen("einsum" if einsum else "keras", 1, **options)


def _frozen(kind: str, layers: int, **options: Any) -> gs.Graph:
    from tensorflow.compat import v1  # type: ignore[import-not-found,unused-ignore]

    with v1.Graph().as_default() as graph:
        output = _Builder(v1, **options).network(kind, layers)
        text = graph.as_graph_def().SerializeToString()
    from graphslim.graphdef import parse, signature

    parsed = parse(text, f"{kind}.pb")
    signature.settle(parsed, ["input"], [output.op.name], {})
    return parsed


class _Builder:
    def __init__(self, v1: Any, size: int = SIZE, batch: Any = BATCH) -> None:
        self.v1, self.rng, self.size, self.batch = v1, np.random.RandomState(0), size, batch

    def weights(self, name: str, *shape: int) -> Any:
        value = self.rng.normal(scale=0.5, size=shape).astype(np.float32)
        return self.v1.constant(value, name=name)

    def dense(self, x: Any, width: int, name: str) -> Any:
        """A product over the last axis, as a matrix product of all positions."""
        v1, wide = self.v1, int(x.shape[-1])
        with v1.name_scope(name):
            flat = v1.reshape(x, [-1, wide], name="flat")
            y = v1.matmul(flat, self.weights("w", wide, width), name="product")
            y = v1.nn.bias_add(y, self.weights("b", width))
            time = int(x.shape[1])
            return v1.reshape(y, [-1, time, width], name="y")

    def norm(self, x: Any, name: str) -> Any:
        v1, width = self.v1, int(x.shape[-1])
        with v1.name_scope(name):
            mean, variance = v1.nn.moments(x, [-1], keep_dims=True)
            gamma = 1 + 0.2 * self.rng.normal(size=width)
            return v1.nn.batch_normalization(
                x,
                mean,
                variance,
                self.weights("beta", width),
                v1.constant(gamma.astype(np.float32), name="gamma"),
                1e-3,
            )

    def heads(self, x: Any, name: str) -> Any:
        """(batch, time, heads * size) to (batch, heads, time, size)."""
        v1 = self.v1
        x = v1.reshape(x, [-1, int(x.shape[1]), HEADS, self.size], name=f"{name}_split")
        return v1.transpose(x, [0, 2, 1, 3], name=f"{name}_heads")

    def attention(self, x: Any, fused: bool) -> Any:
        v1, width = self.v1, HEADS * self.size
        if fused:
            joined = self.dense(x, 3 * width, "qkv")
            joined = v1.reshape(joined, [-1, int(x.shape[1]), 3, HEADS, self.size])
            q, k, v = v1.unstack(v1.transpose(joined, [2, 0, 3, 1, 4]), axis=0)
        else:
            q, k, v = [self.heads(self.dense(x, width, name), name) for name in "qkv"]
        scores = v1.matmul(q, k, transpose_b=True, name="scores") * (self.size**-0.5)
        mixed = v1.matmul(v1.nn.softmax(scores), v, name="mixed")
        mixed = v1.transpose(mixed, [0, 2, 1, 3], name="back")
        mixed = v1.reshape(mixed, [-1, int(x.shape[1]), width], name="joined")
        return self.dense(mixed, HIDDEN, "out")

    def attention_of_heads(self, x: Any, by_einsum: bool) -> Any:
        """Each projection has a weight, and a bias, for every channel of every head."""
        v1, time, flat = self.v1, int(x.shape[1]), HEADS * self.size
        made = []
        for name in "qkv":
            w = self.weights(f"{name}/w", HIDDEN, HEADS, self.size)
            if by_einsum:
                y = v1.einsum("abc,cde->abde", x, w, name=f"{name}/product")
            else:
                matrix = v1.reshape(w, [HIDDEN, flat])
                y = v1.raw_ops.BatchMatMulV2(x=x, y=matrix, name=f"{name}/product")
                y = v1.reshape(y, [-1, time, HEADS, self.size])
            made.append(y + self.weights(f"{name}/b", HEADS, self.size))
        w = self.weights("out/w", HEADS, self.size, HIDDEN)
        if by_einsum:
            scores = v1.einsum("aecd,abcd->acbe", made[1], made[0])
            mixed = v1.einsum("acbe,aecd->abcd", v1.nn.softmax(scores), made[2])
            return v1.einsum("abcd,cde->abe", mixed, w, name="out/product")
        q, k, v = [v1.transpose(each, [0, 2, 1, 3]) for each in made]
        mixed = v1.matmul(v1.nn.softmax(v1.matmul(q, k, transpose_b=True)), v)
        mixed = v1.reshape(v1.transpose(mixed, [0, 2, 1, 3]), [-1, time, flat])
        return v1.raw_ops.BatchMatMulV2(
            x=mixed, y=v1.reshape(w, [flat, HIDDEN]), name="out/product"
        )

    def inner(self, x: Any) -> Any:
        return self.dense(self.v1.nn.relu(self.dense(x, INNER, "up")), HIDDEN, "down")

    def network(self, kind: str, layers: int) -> Any:
        v1 = self.v1
        if kind == "bert":
            words = v1.placeholder(v1.int32, [self.batch, TIME], name="input")
            x = v1.gather(self.weights("words", 11, HIDDEN), words)
            x = self.norm(x + self.weights("places", 1, TIME, HIDDEN), "first")
        else:
            image = v1.placeholder(v1.float32, [self.batch, 4, 4, 3], name="input")
            filters = self.weights("patches/w", 2, 2, 3, HIDDEN)
            x = v1.nn.conv2d(image, filters, [1, 2, 2, 1], "VALID", name="patches")
            x = v1.reshape(x, [-1, 4, HIDDEN]) + self.weights("places", 1, 4, HIDDEN)
        for layer in range(layers):
            with v1.name_scope(f"layer{layer}"):
                if kind == "bert":
                    x = self.norm(x + self.attention(x, fused=False), "norm1")
                    x = self.norm(x + self.inner(x), "norm2")
                elif kind in ("keras", "einsum"):
                    x = x + self.attention_of_heads(self.norm(x, "norm1"), kind == "einsum")
                else:
                    x = x + self.attention(self.norm(x, "norm1"), fused=True)
                    x = x + self.inner(self.norm(x, "norm2"))
        if kind == "vit":
            x = v1.reduce_mean(self.norm(x, "last"), axis=1, keepdims=True)
        return self.dense(x, 3, "classes")
