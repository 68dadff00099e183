"""LAMB and Muon on whole parameters, by other roads to the same numbers; cut ones: test_exactness.py."""

import pytest
import torch
from torch import nn

from pipeline.config import OptimizerConfig
from pipeline.optimizers import build_optimizer
from pipeline.optimizers.muon import orthogonalize


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def twins(*shapes):
    """Two models of the same parameters."""
    some = nn.ParameterList([nn.Parameter(torch.randn(shape)) for shape in shapes])
    others = nn.ParameterList([nn.Parameter(p.detach().clone()) for p in some])
    return some, others


def step_together(optimizers, models):
    """One step with the same random gradients."""
    for parameters in zip(*models, strict=True):
        gradient = torch.randn_like(parameters[0])
        for parameter in parameters:
            parameter.grad = gradient.clone()
    for optimizer in optimizers:
        optimizer.step()


def test_a_step_of_lamb_is_as_long_as_the_matrix_times_the_learning_rate():
    (matrix,), (before,) = twins((30, 20))
    matrix.grad = 1e-4 * torch.randn_like(matrix)
    build_optimizer(nn.ParameterList([matrix]), OptimizerConfig(name="lamb", lr=0.01)).step()
    step, length = (matrix - before).detach().norm(), before.detach().norm()
    assert float(step) == pytest.approx(0.01 * float(length), rel=1e-5)


def test_lamb_moves_vectors_as_adamw_does():
    models = twins((7,))
    names = ("lamb", "adamw")
    optimizers = [
        build_optimizer(model, OptimizerConfig(name=name)) for name, model in zip(names, models, strict=True)
    ]
    for _ in range(5):
        step_together(optimizers, models)
    torch.testing.assert_close(models[0][0], models[1][0], rtol=0, atol=1e-7)


@pytest.mark.parametrize("matrix, gradient", [("zeros", "ones"), ("ones", "zeros")])
def test_where_a_norm_is_zero_lamb_has_ratio_1(matrix, gradient):
    parameter = nn.Parameter(getattr(torch, matrix)(3, 4))
    before = parameter.detach().clone()
    parameter.grad = getattr(torch, gradient)(3, 4)
    config = OptimizerConfig(name="lamb", lr=0.01, weight_decay=0.0)
    build_optimizer(nn.ParameterList([parameter]), config).step()
    # Adam's direction is 1 wherever the gradient has been the same, and 0 where there was none.
    torch.testing.assert_close(parameter, before - 0.01 * (gradient == "ones"), rtol=0, atol=1e-7)


@pytest.mark.parametrize("shape", [(24, 24), (24, 60), (60, 24)], ids=["square", "wide", "tall"])
def test_orthogonalizing_keeps_singular_vectors_and_brings_singular_values_near_1(shape):
    matrix = torch.randn(shape, dtype=torch.float64)
    u, s, v = torch.linalg.svd(matrix / matrix.norm(), full_matrices=False)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    result = orthogonalize(matrix.float(), torch.float32)
    torch.testing.assert_close(result, (u @ torch.diag(s) @ v).float(), rtol=0, atol=1e-5)
    assert 0.6 < float(torch.linalg.svdvals(result)[len(s) // 2]) < 1.2


@pytest.mark.parametrize("shape", [(24, 60), (60, 24)], ids=["wide", "tall"])
def test_muon_in_bf16_is_torchs_muon(shape):
    models = twins(shape)
    config = OptimizerConfig(name="muon", muon_lr=0.02, weight_decay=0.1)
    optimizers = (
        build_optimizer(models[0], config, dict.fromkeys(models[0], 1), torch.bfloat16),
        torch.optim.Muon(models[1], lr=0.02, weight_decay=0.1, momentum=0.95),
    )
    before = models[1][0].detach().clone()
    for _ in range(5):
        step_together(optimizers, models)
    change = float((models[1][0] - before).abs().max())
    assert float((models[0][0] - models[1][0]).abs().max()) <= 0.02 * change


@pytest.mark.parametrize("shape", [(24, 60), (60, 24)], ids=["wide", "tall"])
def test_muon_takes_each_matrix_of_a_weight_that_stacks_several_for_itself(shape):
    apart = nn.ParameterList([nn.Parameter(size * torch.randn(shape)) for size in (1, 2, 3)])
    stacked = nn.ParameterList([nn.Parameter(torch.cat(list(apart)).detach())])
    config = OptimizerConfig(name="muon", muon_lr=0.02, weight_decay=0.1)
    optimizers = [
        build_optimizer(stacked, config, {stacked[0]: 3}),
        build_optimizer(apart, config, dict.fromkeys(apart, 1)),
    ]
    for _ in range(3):
        gradients = [size * torch.randn(shape) for size in (1, 2, 3)]
        stacked[0].grad = torch.cat(gradients)
        for matrix, gradient in zip(apart, gradients, strict=True):
            matrix.grad = gradient
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(stacked[0], torch.cat(list(apart)))


def test_muon_leaves_all_that_is_not_hidden_to_adamw():
    models = twins((6, 4), (4, 4), (4,))
    optimizers = (
        build_optimizer(models[0], OptimizerConfig(name="muon"), {models[0][1]: 1}),
        build_optimizer(models[1], OptimizerConfig()),
    )
    for _ in range(3):
        step_together(optimizers, models)
    embedding, hidden, bias = zip(*models, strict=True)
    assert torch.equal(*embedding)
    assert torch.equal(*bias)
    assert float((hidden[0] - hidden[1]).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["lamb", "muon"])
@pytest.mark.parametrize("number", [0, 1])
def test_a_step_moves_the_groups_that_are_there_alone(name, number):
    """DeepSpeed steps one after another, with the gradients of all at hand where they are offloaded."""
    (model, before) = twins((4, 4), (4,), (6, 4))
    for parameter in model:
        parameter.grad = torch.ones_like(parameter)
    optimizer = build_optimizer(model, OptimizerConfig(name=name), {model[2]: 1})
    optimizer.param_groups = [optimizer.param_groups[number]]
    optimizer.step()
    moved = [p for p, old in zip(model, before, strict=True) if not torch.equal(p, old)]
    assert [id(p) for p in moved] == [id(p) for p in optimizer.param_groups[0]["params"]]
