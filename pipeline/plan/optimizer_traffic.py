"""What LAMB and Muon send, whose updates look at whole parameters where ZeRO has cut them."""

from collections.abc import Iterator
from itertools import accumulate

from pipeline.optimizers.matrices import owners_of_cut
from pipeline.optimizers.placement import Piece
from pipeline.plan.layout import Layout, filled_up
from pipeline.plan.traffic import Traffic

_FP32_BYTES, _FP64_BYTES = 4, 8
ALIGNMENT = 2
"""Elements, to a multiple of which DeepSpeed fills up each rank's part of a group at stages 1 and 2."""

Pieces = list[list[Piece]]
"""By rank those that it holds of the parameters of a flat vector."""


def optimizer_traffic(layout: Layout, stage: int, world_size: int, sub_group_size: int) -> list[Traffic]:
    """The collectives of an update beside ZeRO's; none at stage 0, where nothing is cut."""
    if stage == 0:
        return []
    num_norms, exchanged, num_exchanges = 0, [0] * world_size, 0
    for group in layout.groups:
        for vector in vectors_of(group.parameters, layout, stage, world_size, sub_group_size):
            if group.rule == "norms":
                num_norms += 1
            elif group.rule == "matrices":
                elements = _exchanged(_pieces(vector, layout, stage, world_size), layout)
                exchanged = [before + more for before, more in zip(exchanged, elements, strict=True)]
                num_exchanges += any(elements)
    # ‖x‖² and ‖update‖² of all trained parameters, whichever of them the vector holds.
    norms = 2 * _FP64_BYTES * len(layout.trained) * num_norms
    kinds = [
        Traffic("optimizer's norms", "all_reduce", norms, num_norms, world_size),
        # There and back.
        Traffic(
            "optimizer's matrices",
            "all_to_all",
            2 * _FP32_BYTES * max(exchanged),
            2 * num_exchanges,
            world_size,
        ),
    ]
    return [kind for kind in kinds if kind.num_bytes]


def vectors_of(
    parameters: tuple[int, ...], layout: Layout, stage: int, world_size: int, sub_group_size: int
) -> Iterator[tuple[int, ...]]:
    """The parameters of each flat vector that is updated of a group: one but for stage 3's sub-groups."""
    if stage < 3:
        yield parameters
        return
    first, num_elements = 0, 0
    for last, index in enumerate(parameters, start=1):
        num_elements += -(-layout.sizes[index] // world_size)
        if num_elements >= sub_group_size or last == len(parameters):
            yield parameters[first:last]
            first, num_elements = last, 0


def _pieces(vector: tuple[int, ...], layout: Layout, stage: int, world_size: int) -> Pieces:
    """Where ZeRO cuts: stage 3 every parameter, stages 1 and 2 the parameters laid end to end."""
    sizes = [layout.sizes[index] for index in vector]
    if stage == 3:
        cuts = [(index, 0, size, -(-size // world_size)) for index, size in zip(vector, sizes, strict=True)]
    else:
        part = filled_up(sum(sizes), ALIGNMENT * world_size) // world_size
        starts = accumulate(sizes, initial=0)
        cuts = [(index, start, size, part) for index, start, size in zip(vector, starts, sizes, strict=False)]
    by_rank: Pieces = [[] for _ in range(world_size)]
    for index, before, size, part in cuts:
        for rank in range(before // part, -(-(before + size) // part)):
            first, end = max(before, rank * part), min(before + size, (rank + 1) * part)
            by_rank[rank].append(Piece(index, first - before, 0, end - first))
    return by_rank


def _exchanged(by_rank: Pieces, layout: Layout) -> list[int]:
    """Elements of cut matrices that a rank sends to their owners, or gets as an owner where it is more."""
    owners = owners_of_cut(by_rank, layout.sizes)
    sent, arriving = [0] * len(by_rank), [0] * len(by_rank)
    for rank, pieces in enumerate(by_rank):
        for piece in pieces:
            if piece.number in owners:
                sent[rank] += piece.count
                arriving[owners[piece.number]] += piece.count
    return list(map(max, sent, arriving))
