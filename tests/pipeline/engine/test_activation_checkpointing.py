"""Layers that run again in the backward pass give the same bits, whatever the ZeRO stage, and save memory."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from data_prep.errors import UserError
from pipeline.engine.activation_checkpointing import checkpoint_layers, num_checkpointed

HERE = Path(__file__).parent
SECTIONS = {"all": {}, "first_2": {"number_checkpoints": 2}}
ESTIMATORS = ("two_pass", "batch")
STAGES = [("fp32", stage) for stage in range(4)] + [("bf16", stage) for stage in (1, 2, 3)]


def _cases():
    for (precision, stage), (of_section, section), estimator in itertools.product(
        STAGES, SECTIONS.items(), ESTIMATORS
    ):
        yield {
            "name": f"{precision}-stage{stage}-{of_section}-{estimator}",
            "stage": stage,
            "precision": precision,
            "section": section,
            "keys": {
                "steps": 2,
                "model": {"size": "tiny", "num_layers": 3, "hidden_size": 32, "dropout": 0.1},
                "objective": {"name": "minimax", "estimator": estimator},
                "batch": {"global_size": 10, "micro_size": 2},  # over 2 ranks the last round has an empty one
                "optimizer": {"name": "adamw", "lr": 1e-3},
            },
        }


NAMES = [case["name"] for case in _cases()]


@pytest.fixture(scope="module", params=[1, 2], ids=["1 rank", "2 ranks"])
def results(request, run_cases):
    return run_cases("layers_worker.py", list(_cases()), request.param)


@pytest.mark.parametrize("name", NAMES)
def test_all_parameters_have_the_bits_of_a_run_without_it(results, name):
    assert results[name]["num_parameters"] > 40
    assert results[name]["differing"] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_layers_that_the_json_says_and_no_others_run_once_more_per_backward_pass(results, name):
    again = 1.5 if "two_pass" in name else 2.0  # its first forward pass has no backward pass
    expected = [again] * 3 if "all" in name else [again, again, 1.0]
    assert results[name]["times"] == expected


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(32, 2, 64, dropout=0.1) for _ in range(3))

    def forward(self, hidden):
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


def gradients(section):
    torch.manual_seed(0)
    stack = Stack()
    checkpoint_layers(list(stack.layers), {} if section is None else {"activation_checkpointing": section})
    hidden = torch.randn(4, 6, 32, requires_grad=True)
    stack(hidden).square().sum().backward()
    return [hidden.grad, *(parameter.grad for parameter in stack.parameters())]


@pytest.mark.parametrize("section", [{}, {"cpu_checkpointing": True}, {"number_checkpoints": 1}])
def test_any_layers_from_hidden_state_to_hidden_state_will_do(section):
    for gradient, expected in zip(gradients(section), gradients(None), strict=True):
        assert torch.equal(gradient, expected)


def test_checkpoints_in_host_memory_are_those_of_the_layers_inputs_alone():
    kept = []

    def keep(tensor):
        kept.append(tensor.shape)
        return tensor

    stack = Stack()
    checkpoint_layers(list(stack.layers), {"activation_checkpointing": {}})
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        stack(torch.randn(4, 6, 32, requires_grad=True))
    assert kept == [(4, 6, 32)] * 3


def test_more_checkpoints_than_layers_are_refused():
    settings = {"activation_checkpointing": {"number_checkpoints": 4}}
    with pytest.raises(UserError, match=r"number_checkpoints. is 4, but the model has 3 layers"):
        num_checkpointed(list(Stack().layers), settings)
