"""Inference of spaCy's convolutional taggers, laid out for speed: a column a word, nothing kept for training.

A tagger is an embedding that looks at one word, a stack of convolutions that look at its neighbours, and a
linear layer. What a word contributes is computed once (`embed`); what remains is matrix products (`labels`).
Every product has a fixed shape, so that a word's label does not depend on what else is in the batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from thinc.api import Model, NumpyOps, Ragged

Floats = NDArray[np.float32]
Features = NDArray[np.uint64]

_TILE = 1024
"""Words per product: a layer's arrays then fit the second-level cache."""
_EMBED_TILE = 256
_EPSILON = 1e-8
"""Thinc's, in its layer norm."""


class UnknownArchitectureError(Exception):
    """The model is not of the kind that this module computes."""


@dataclass(frozen=True)
class _Convolution:
    """A residual layer: window, maxout of P pieces, layer norm; I inputs (width × window), O = width."""

    kernel: Floats
    """[P × O, I + 1]; the last column is the bias."""
    scale: Floats
    """[O, 1]"""
    shift: Floats
    """[O, 1]"""
    reach: int
    """Neighbours on either side."""

    def __call__(self, x: Floats) -> Floats:
        """[O, N] to [O, N - 2 × reach]: only words with all their neighbours."""
        width, length = len(x), x.shape[1] - 2 * self.reach
        window = np.empty((self.kernel.shape[1], length), np.float32)
        for place in range(2 * self.reach + 1):
            window[place * width : (place + 1) * width] = x[:, place : place + length]
        window[-1] = 1
        pieces = (self.kernel @ window).reshape(-1, width, length)
        y = pieces[0]
        for piece in pieces[1:]:
            np.maximum(y, piece, out=y)
        y -= y.mean(axis=0)
        variance = np.einsum("on,on->n", y, y) / width
        y *= 1 / np.sqrt(variance + _EPSILON)
        y *= self.scale
        y += self.shift
        y += x[:, self.reach : self.reach + length]
        return y


class ConvolutionalTagger:
    """The network of a `tagger`, `morphologizer` or `senter` component with its own or a shared tok2vec."""

    def __init__(self, tagger: Model, tok2vec: Model) -> None:
        """Take the weights over.

        Args:
            tagger: the component's model.
            tok2vec: the model that its first layer stands for.

        Raises:
            UnknownArchitectureError: other layers than HashEmbed with MaxoutWindowEncoder and softmax.
        """
        embed, encode = _reference(tok2vec, "embed"), _reference(tok2vec, "encode")
        names = [layer.name.split("(")[0] for layer in embed.layers]
        _require(
            names == ["extract_features", "list2ragged", "with_array", "with_array", "ragged2list"], embed
        )
        self.columns: list[str] = list(embed.layers[0].attrs["columns"])
        """Attributes of a word that the embedding is a function of."""
        self._embed = embed.layers[2:4]
        for layer in self._embed:
            for node in layer.walk():
                node.ops = NumpyOps(use_blis=False)
        self._convolutions = list(_convolutions(encode))
        # With less padding, Thinc lets the texts of a batch see each other.
        _require(encode.attrs["pad"] >= self.halo, encode)
        output = _reference(tagger, "output_layer")
        _require(len(tagger.layers) == 2 and output.name == "softmax", tagger)
        self._output = np.ascontiguousarray(output.get_param("W"))
        self._bias = _column(output, "b")
        self.width: int = len(self._convolutions[0].scale)

    @property
    def halo(self) -> int:
        """Words on either side that a label depends on."""
        return sum(convolution.reach for convolution in self._convolutions)

    def embed(self, features: Features) -> Floats:
        """Vectors [N, width] of words with `features` [N, columns]."""
        vectors = np.empty((len(features), self.width), np.float32)
        tile = np.zeros((_EMBED_TILE, len(self.columns)), np.uint64)
        for start in range(0, len(features), _EMBED_TILE):
            part = features[start : start + _EMBED_TILE]
            tile[: len(part)] = part
            y: Any = Ragged(tile, np.array([_EMBED_TILE], np.int32))  # type: ignore[arg-type]
            for layer in self._embed:
                y = layer.predict(y)
            vectors[start : start + len(part)] = y.dataXd[: len(part)]
        return vectors

    def labels(self, table: Floats, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """The best label of each word.

        Args:
            table: vectors [M, width]; the first is zero.
            rows: the word's vector [N]; `halo` zeros between two texts.

        Returns:
            [N]; those of padding mean nothing.
        """
        halo = self.halo
        stride = _TILE - 2 * halo
        labels = np.empty(len(rows), np.intp)
        padded = np.zeros(-(-len(rows) // stride) * stride + 2 * halo, np.intp)
        padded[halo : halo + len(rows)] = rows
        for start in range(0, len(rows), stride):
            y = np.ascontiguousarray(table[padded[start : start + _TILE]].T)
            for convolution in self._convolutions:
                y = convolution(y)
            scores = self._output @ y + self._bias
            labels[start : start + stride] = scores.argmax(axis=0)[: len(rows) - start]
        return labels


def _convolutions(encode: Model) -> Iterator[_Convolution]:
    leaves = [node for node in encode.walk(order="dfs_pre") if not node.layers]
    layers = [leaves[start : start + 4] for start in range(0, len(leaves), 4)]
    residual = "residual(expand_window>>maxout>>layernorm>>dropout)"
    num_residual = sum(node.name == residual for node in encode.walk())
    _require(encode.name.startswith("with_array(") and num_residual == len(layers) > 0, encode)
    for layer in layers:
        names = [node.name for node in layer]
        _require(names == ["expand_window", "maxout", "layernorm", "dropout"], encode)
        expand, maxout, norm, _ = layer
        weight: Any = maxout.get_param("W")  # [O, P, I]
        bias: Any = maxout.get_param("b")  # [O, P]
        kernel = np.concatenate([weight, bias[:, :, None]], axis=2).transpose(1, 0, 2)
        yield _Convolution(
            kernel=np.ascontiguousarray(kernel.reshape(-1, kernel.shape[2])),
            scale=_column(norm, "G"),
            shift=_column(norm, "b"),
            reach=expand.attrs["window_size"],
        )


def _column(model: Model, name: str) -> Floats:
    values: Any = model.get_param(name)
    return values[:, None]


def _reference(model: Model, name: str) -> Model:
    _require(name in model.ref_names and model.has_ref(name) is True, model)
    return model.get_ref(name)


def _require(condition: bool, model: Model) -> None:
    if not condition:
        raise UnknownArchitectureError(model.name)
