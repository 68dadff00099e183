"""The learning rate over the steps: each shape, where it starts, and where it ends."""

import math

import pytest
import torch
from torch import nn

from pipeline.config import ScheduleConfig
from pipeline.engine.schedule import build_schedule, set_schedule

NUM_STEPS = 20
COSINE = [(1 + math.cos(math.pi * part)) / 2 for part in (0, 0.25, 0.5, 0.75)]


def rates(**keys):
    """The learning rate of every step, as a part of the peak."""
    factor = schedule_factor(NUM_STEPS, **keys)
    return [factor(step) for step in range(NUM_STEPS)]


def schedule_factor(num_steps, **keys):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    return build_schedule(ScheduleConfig(**keys), num_steps)(optimizer).lr_lambdas[0]


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "warmup_stable_decay"])
def test_every_shape_rises_to_the_peak_in_its_warm_up(name):
    decay = {"decay_steps": 5} if name == "warmup_stable_decay" else {}
    assert rates(name=name, warmup_steps=4, **decay)[:5] == [0, 0.25, 0.5, 0.75, 1]


def test_constant_stays_there():
    assert rates(name="constant", warmup_steps=4)[4:] == [1] * 16


def test_linear_and_cosine_fall_over_all_other_steps():
    assert rates(name="linear", warmup_steps=4)[4::4] == pytest.approx([1, 0.75, 0.5, 0.25])
    assert rates(name="cosine", warmup_steps=4)[4::4] == pytest.approx(COSINE)


@pytest.mark.parametrize(
    "decay_type, fall",
    [
        ("linear", [1, 0.75, 0.5, 0.25]),
        ("cosine", COSINE),
        ("1-sqrt", [1 - math.sqrt(part) for part in (0, 0.25, 0.5, 0.75)]),
    ],
)
def test_warmup_stable_decay_falls_in_its_last_steps_only(decay_type, fall):
    found = rates(name="warmup_stable_decay", warmup_steps=4, decay_steps=4, decay_type=decay_type)
    assert found[4:16] == [1] * 12
    assert found[16:] == pytest.approx(fall)


@pytest.mark.parametrize("name", ["linear", "cosine", "warmup_stable_decay"])
def test_a_smallest_part_of_the_peak_is_where_it_starts_and_what_it_falls_towards(name):
    decay = {"decay_steps": 16} if name == "warmup_stable_decay" else {}
    found = rates(name=name, warmup_steps=4, min_lr_ratio=0.1, **decay)
    assert found[0] == 0.1
    assert found[2] == pytest.approx(0.55)
    assert found[12] == pytest.approx(0.55)
    assert min(found) >= 0.1


def test_each_group_keeps_its_own_peak_whatever_step_is_set():
    peaks = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1e-3, 0.02)]
    optimizer = torch.optim.SGD(peaks)
    schedule = build_schedule(ScheduleConfig(name="linear"), NUM_STEPS)(optimizer)
    set_schedule(schedule, 15)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.25e-3, 0.005])
