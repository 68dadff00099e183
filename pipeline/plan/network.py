"""How long messages take on a network: so much for each hop of each message, and the bytes at a bandwidth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.plan.traffic import Traffic

_GIGA = 1e9


@dataclass(frozen=True)
class Network:
    """The α-β model.

    `gb_per_s` is the bus bandwidth of a rank in 10⁹ bytes per second, as nccl-tests measures it (`busbw`);
    `latency_s` what a hop takes whatever it carries. Messages go along trees, which is what NCCL chooses for
    small ones: log₂ W hops up, and as many down where all reduce. In an all-to-all a rank sends to the others
    one after another.
    """

    gb_per_s: float
    latency_s: float = 10e-6

    def seconds(self, traffic: Sequence[Traffic]) -> float:
        """Of messages one after the other, with nothing computed beside them."""
        return sum(
            kind.sent_bytes / (self.gb_per_s * _GIGA) + kind.num_messages * _hops(kind) * self.latency_s
            for kind in traffic
        )


def _hops(traffic: Traffic) -> int:
    if traffic.operation == "all_to_all":
        return traffic.num_ranks - 1
    depth = math.ceil(math.log2(traffic.num_ranks))
    return 2 * depth if traffic.operation == "all_reduce" else depth
