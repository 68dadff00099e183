"""Matrices that ZeRO has cut over the ranks, put together for a moment, each on one of them."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.optimizers.placement import Piece, Placement


class MatrixExchange:
    """Sends the pieces of cut matrices to one rank each, and what becomes of them back.

    A matrix that lies on one rank stays there: at stages 1 and 2 these are nearly all. The work on the others
    is spread over the ranks that hold them.
    """

    def __init__(self, placement: Placement, shapes: Sequence[torch.Size]) -> None:
        self._placement, self._shapes = placement, shapes
        owners = owners_of_cut(placement.by_rank, [shape.numel() for shape in shapes])
        self._whole = [piece for piece in placement.own if piece.number not in owners]
        ranks = range(len(placement.by_rank))
        self._to = [self._cut_pieces(placement.rank, rank, owners) for rank in ranks]
        self._from = [self._cut_pieces(rank, placement.rank, owners) for rank in ranks]
        self._is_any_cut = bool(owners)

    def replace_each(self, flat: Tensor, rule: Callable[[Tensor], Tensor]) -> None:
        """Replace each parameter in a vector, in its shape, by what `rule` makes of it; with other ranks."""
        for piece in self._whole:
            matrix = piece.of(flat).view(self._shapes[piece.number])
            matrix.copy_(rule(matrix.to(self._placement.device)))
        if self._is_any_cut:
            outgoing = torch.cat([piece.of(flat) for pieces in self._to for piece in pieces] or [flat[:0]])
            arrived = _all_to_all(outgoing.to(self._placement.device), self._to, self._from)
            del outgoing  # or there were three of such vectors when they return
            self._replace_arrived(arrived, rule)
            returned = _all_to_all(arrived, self._from, self._to).to(flat.device)
            kept = [piece for pieces in self._to for piece in pieces]
            for piece, values in zip(kept, returned.split([piece.count for piece in kept]), strict=True):
                piece.of(flat).copy_(values)

    def _replace_arrived(self, arrived: Tensor, rule: Callable[[Tensor], Tensor]) -> None:
        """Apply `rule` to the matrices whose pieces have come, a rank's after another's."""
        pieces = [piece for of_rank in self._from for piece in of_rank]
        parts: dict[int, list[tuple[int, Tensor]]] = defaultdict(list)
        for piece, values in zip(pieces, arrived.split([piece.count for piece in pieces]), strict=True):
            parts[piece.number].append((piece.start, values))
        for number, of_matrix in parts.items():
            in_order = [values for _, values in sorted(of_matrix, key=lambda part: part[0])]
            matrix = rule(torch.cat(in_order).view(self._shapes[number])).reshape(-1)
            for values, result in zip(in_order, matrix.split([len(v) for v in in_order]), strict=True):
                values.copy_(result)

    def _cut_pieces(self, rank: int, owner: int, owners: dict[int, int]) -> list[Piece]:
        """What `rank` sends to `owner`."""
        return [piece for piece in self._placement.by_rank[rank] if owners.get(piece.number) == owner]


def owners_of_cut(by_rank: Sequence[Sequence[Piece]], sizes: Sequence[int]) -> dict[int, int]:
    """By the number of each cut matrix the rank that puts it together: of its holders the least busy.

    Args:
        by_rank: what each rank holds of a flat vector.
        sizes: elements of each parameter, by number.
    """
    busy = [0] * len(by_rank)
    holders = defaultdict(list)
    for rank, pieces in enumerate(by_rank):
        for piece in pieces:
            if piece.count < sizes[piece.number]:
                holders[piece.number].append(rank)
            else:
                busy[rank] += piece.count
    owners = {}
    for number in sorted(holders, key=lambda number: (-sizes[number], number)):
        owners[number] = min(holders[number], key=lambda rank: busy[rank])
        busy[owners[number]] += sizes[number]
    return owners


def _all_to_all(values: Tensor, to: list[list[Piece]], source: list[list[Piece]]) -> Tensor:
    """Send each rank its part of a vector; what the others have sent, by rank."""
    sent, received = ([sum(piece.count for piece in pieces) for pieces in side] for side in (to, source))
    arrived = values.new_empty(sum(received))
    dist.all_to_all_single(arrived, values, received, sent)
    return arrived
