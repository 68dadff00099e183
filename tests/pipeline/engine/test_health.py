"""Warnings about tasks: once per episode, from every step, however rarely lines are written."""

import re
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import LogConfig, ObjectiveConfig
from pipeline.data.interface import LossTerms
from pipeline.engine.health import TaskHealth
from pipeline.objectives import OBJECTIVES

TERMS = LossTerms(("noun", "verb", "nsp"), (None, None, 1.0))
LIMITS = LogConfig(collapse_weight=0.9, collapse_steps=3, absent_steps=4)


def health(limits=LIMITS, **objective):
    return TaskHealth(TERMS, limits, ObjectiveConfig(**objective), torch.device("cpu"))


def step(noun, verb, refusal=None):
    """A task's weight, or None where it is absent; nsp is there with all its fixed weight."""
    weights = torch.tensor([noun or 0.0, verb or 0.0, 1.0], dtype=torch.float64)
    counts = torch.tensor([0 if noun is None else 2, 0 if verb is None else 2, 5])
    return SimpleNamespace(coefficients=weights, counts=counts, refusal=refusal)


def after(watch, *steps):
    for result in steps:
        watch.step_done(result)
    return watch.warnings(len(steps))


def test_a_task_that_keeps_nearly_all_the_weight_is_named_once():
    watch = health()
    assert after(watch, *[step(0.95, 0.05)] * 2) == []
    (warning,) = after(watch, step(0.95, 0.05))
    assert warning == "noun: more than 0.9 of the weight for 3 steps; a lower objective.alpha spreads it"
    assert after(watch, *[step(0.95, 0.05)] * 50) == []


NEEDED = {
    "static": {"weights": {"noun": 20.0, "verb": 1.0}},
    "excess": {"reference_losses": {"noun": 1.0, "verb": 1.0}},
}
OTHERS = {"weights": {"noun": 1.0}}
"""Other settings than the usual ones, of keys that take no small number."""


@pytest.mark.parametrize("name", OBJECTIVES)
def test_advice_names_keys_that_the_objective_reads(name):
    (warning,) = after(health(name=name, **NEEDED.get(name, {})), *[step(0.95, 0.05)] * 3)
    advice = warning.partition("; ")[2]
    assert re.search(r"\b(objective|data|log)\.\w+", advice)
    for key in re.findall(r"objective\.(\w+)", advice):
        other = {key: OTHERS.get(key, 0.123)}
        ObjectiveConfig(name=name, **NEEDED.get(name, {}) | other)  # which refuses a key that is not read


def test_advice_is_for_the_objective_that_made_the_weights():
    settings = {"name": "tchebycheff", "start_step": 3}
    assert "data.quota" in after(health(**settings), *[step(0.95, 0.05)] * 3)[0]
    assert "objective.mu" in after(health(**settings), *[step(0.95, 0.05)] * 4)[0]


def test_advice_for_the_alpha_of_the_theorem_is_another_one():
    theorem = {"alpha_schedule": "theorem", "radius_lipschitz": 1.0, "loss_bound": 9.0}
    (warning,) = after(health(**theorem), *[step(0.95, 0.05)] * 3)
    assert "objective.alpha " not in warning
    assert "a higher objective.radius_lipschitz spreads it" in warning


def test_another_episode_is_another_warning_even_if_no_line_was_written_between():
    watch = health()
    assert len(after(watch, *[step(0.95, 0.05)] * 3)) == 1
    assert len(after(watch, step(0.5, 0.5), *[step(0.95, 0.05)] * 3)) == 1


def test_an_absent_task_is_named_though_the_steps_between_lines_are_not_seen_by_the_host():
    watch = health()
    assert after(watch, *[step(1.0, None)] * 3, step(0.5, 0.5), *[step(1.0, None)] * 3) == []
    (warning,) = after(watch, step(1.0, None))
    assert warning.startswith("verb: absent for 4 steps; ")


def test_tasks_that_have_been_absent_equally_long_share_a_line():
    (warning,) = after(health(), *[step(None, None)] * 4)
    assert warning.startswith("noun, verb: absent for 4 steps; ")


def test_the_only_task_of_a_step_has_all_the_weight_and_that_is_no_collapse():
    assert not any("weight" in line for line in after(health(), *[step(1.0, None)] * 9))


def test_weights_that_do_not_sum_to_1_are_compared_by_their_share():
    assert after(health(), *[step(1.2, 0.3)] * 9) == []


def test_a_step_without_an_update_says_nothing():
    refused = step(float("nan"), float("nan"), refusal="loss")
    assert len(after(health(), *[step(0.95, 0.05)] * 2, refused, step(0.95, 0.05))) == 1


@pytest.mark.parametrize("key", ["collapse_steps", "absent_steps"])
def test_a_limit_of_0_is_off(key):
    steps = [step(0.95, 0.05)] * 9 if key == "collapse_steps" else [step(1.0, None)] * 9
    assert len(after(health(), *steps)) == 1
    assert after(health(LIMITS.model_copy(update={key: 0})), *steps) == []


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 7))
def test_an_episode_is_told_once_if_a_line_falls_into_it_after_enough_steps(is_there, every):
    watch, told, due = health(), 0, set()
    since = 0
    for number, verb_is_there in enumerate(is_there, 1):
        watch.step_done(step(0.5, 0.5 if verb_is_there else None))
        since = number if verb_is_there else since
        if number % every == 0:
            told += len(watch.warnings(number))
            if number - since >= 4:
                due.add(since)
    assert told == len(due)
