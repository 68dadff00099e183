"""The micro-batches of a step as one tensor, on their way between processes."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.data.interface import MicroBatch

_ALIGNMENT = 16
"""Bytes; a tensor of any type may start at a multiple of them."""
_COUNTS = ""
"""Stands for the counts among the names of inputs."""


@dataclass(frozen=True)
class _Part:
    """A tensor of a micro-batch, and where it lies in the buffer, in bytes."""

    index: int
    name: str
    first: int
    num_bytes: int
    dtype: torch.dtype
    shape: torch.Size


@dataclass(frozen=True)
class PackedMicroBatches:
    """Micro-batches by index, all their tensors in one buffer [bytes] uint8.

    A tensor that goes to another process costs a file descriptor and a handshake, whatever its size, and one
    that is copied to a GPU a page-locked allocation: so there is one for all.
    """

    buffer: Tensor
    parts: tuple[_Part, ...]
    num_tokens: dict[int, int]

    @staticmethod
    def of(batches: Mapping[int, MicroBatch]) -> "PackedMicroBatches":
        """A copy of `batches`."""
        parts: list[_Part] = []
        tensors: list[Tensor] = []
        end = 0
        for index, batch in batches.items():
            for name, tensor in {_COUNTS: batch.counts, **batch.inputs}.items():
                parts.append(_Part(index, name, end, tensor.nbytes, tensor.dtype, tensor.shape))
                tensors.append(tensor)
                end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        num_tokens = {index: batch.num_tokens for index, batch in batches.items()}
        packed = PackedMicroBatches(torch.zeros(end, dtype=torch.uint8), tuple(parts), num_tokens)
        for part, tensor in zip(parts, tensors, strict=True):
            packed._view(part).copy_(tensor)
        return packed

    def unpacked(self) -> dict[int, MicroBatch]:
        """The micro-batches; their tensors are views of the buffer."""
        tensors: dict[int, dict[str, Tensor]] = {index: {} for index in self.num_tokens}
        for part in self.parts:
            tensors[part.index][part.name] = self._view(part)
        return {
            index: MicroBatch(counts=inputs.pop(_COUNTS), inputs=inputs, num_tokens=self.num_tokens[index])
            for index, inputs in tensors.items()
        }

    def pin_memory(self) -> "PackedMicroBatches":
        """The same in page-locked memory; torch's DataLoader calls it."""
        return PackedMicroBatches(self.buffer.pin_memory(), self.parts, self.num_tokens)

    def _view(self, part: _Part) -> Tensor:
        return self.buffer[part.first : part.first + part.num_bytes].view(part.dtype).view(part.shape)
