"""Cut matrices are put together, changed, and sent back; on more ranks: test_exactness.py."""

import gc

import pytest
import torch
import torch.distributed as dist

from pipeline.optimizers.matrices import MatrixExchange
from pipeline.optimizers.placement import Piece, Placement

SHAPES = [torch.Size([4, 6]), torch.Size([10, 3])]
COUNT = sum(shape.numel() for shape in SHAPES)


@pytest.fixture
def exchange():
    """Between one rank and itself, of two matrices that are in two pieces each."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    pieces = [Piece(0, 0, 0, 7), Piece(0, 7, 7, 17), Piece(1, 11, 24, 19), Piece(1, 0, 43, 11)]
    yield MatrixExchange(Placement([pieces], 0, torch.device("cpu")), SHAPES)
    dist.destroy_process_group()


def num_vectors():
    """Vectors of all elements that are there now, each with memory of its own."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor]
    return len({tensor.data_ptr() for tensor in tensors if tensor.shape == (COUNT,)})


def test_each_matrix_is_what_the_rule_makes_of_it_wherever_its_pieces_lie(exchange):
    flat = torch.randn(COUNT)
    matrices = flat[:24].view(4, 6).clone(), torch.cat([flat[43:], flat[24:43]]).view(10, 3).clone()
    exchange.replace_each(flat, lambda matrix: matrix.cumsum(0))
    assert torch.equal(flat[:24].view(4, 6), matrices[0].cumsum(0))
    assert torch.equal(torch.cat([flat[43:], flat[24:43]]).view(10, 3), matrices[1].cumsum(0))


def test_an_exchange_takes_8_bytes_an_element_beside_the_vector(exchange):
    """Two vectors: what is sent goes as soon as it has arrived, before what comes back needs room."""
    flat, found = torch.randn(COUNT), []
    before = num_vectors()

    def rule(matrix):
        found.append(num_vectors() - before)
        return matrix

    exchange.replace_each(flat, rule)
    assert found == [1, 1]  # and `returned` is still to come
