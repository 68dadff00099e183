"""Messages of a kind: how many, of how many bytes, and what a rank sends of them."""

from dataclasses import dataclass
from typing import Literal

Operation = Literal["all_reduce", "all_gather", "reduce_scatter", "reduce", "all_to_all"]


@dataclass(frozen=True)
class Traffic:
    """Messages of one kind in a step. A message has the bytes of the whole buffer that it fills or reduces.

    `num_messages` is the least; buckets that do not come out even make a few more. Where ranks have more and
    less to send, in an all-to-all, it is the one that has most.
    """

    what: str
    operation: Operation
    num_bytes: int
    """Of all messages together."""
    num_messages: int
    num_ranks: int

    @property
    def sent_bytes(self) -> float:
        """By a rank, in a ring: each of W ranks sends its W-th part W − 1 times, twice where all reduce."""
        passes = 2 if self.operation == "all_reduce" else 1
        return passes * self.num_bytes * (self.num_ranks - 1) / self.num_ranks
