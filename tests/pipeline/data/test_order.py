"""Step k is a pure function of (seed, k): fair to the quotas, interleaved, in shuffled epochs."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.order import StepOrder, TaskSchedule

quotas = st.lists(st.integers(0, 1_000), min_size=1, max_size=9).filter(sum)


def slow_slots(quotas, num_slots):
    """Webster's method, one seat at a time from the start."""
    seats = [0] * len(quotas)
    tasks = []
    for _ in range(num_slots):
        task = max(range(len(quotas)), key=lambda t: (quotas[t] / (2 * seats[t] + 1), -t))
        seats[task] += 1
        tasks.append(task)
    return tasks


@settings(max_examples=200, deadline=None)
@given(quotas=quotas, first=st.integers(0, 300), num_slots=st.integers(0, 40))
def test_slots_can_be_asked_for_anywhere_without_going_through_the_earlier_ones(quotas, first, num_slots):
    assert TaskSchedule(quotas).tasks(first, num_slots) == slow_slots(quotas, first + num_slots)[first:]


@settings(max_examples=100, deadline=None)
@given(quotas=st.lists(st.integers(0, 12), min_size=1, max_size=9).filter(sum), step=st.integers(0, 10**12))
def test_a_map_of_quotas_is_met_exactly_in_every_step(quotas, step):
    total = sum(quotas)
    counts = Counter(TaskSchedule(quotas).tasks(step * total, total))
    assert [counts[task] for task in range(len(quotas))] == quotas


@settings(max_examples=100, deadline=None)
@given(quotas=quotas, slot=st.integers(0, 10**9))
def test_no_task_is_ever_far_from_its_share(quotas, slot):
    for task, seats in enumerate(TaskSchedule(quotas).slots_before(slot)):
        assert abs(seats - quotas[task] * slot / sum(quotas)) <= len(quotas)


def test_uniform_quotas_interleave_the_tasks_and_rotate_the_remainder():
    schedule = TaskSchedule([1, 1, 1])
    assert schedule.tasks(0, 4) == [0, 1, 2, 0]
    assert schedule.tasks(4, 4) == [1, 2, 0, 1]


@pytest.mark.parametrize("bad", [[], [0, 0], [3, -1]])
def test_quotas_without_a_task_to_serve_are_refused(bad):
    with pytest.raises(ValueError, match="quotas"):
        TaskSchedule(bad)


def test_an_epoch_of_a_group_holds_every_sequence_once_in_an_order_of_its_own():
    order = StepOrder(group_sizes=[5, 50], quotas=[1, 1], global_size=10, seed=3)
    picked = [index for step in range(2) for task, index in order.step(step) if task == 0]
    assert sorted(picked[:5]) == sorted(picked[5:]) == list(range(5))
    assert picked[:5] != picked[5:]


def test_the_order_depends_on_the_seed_alone():
    first, again = (StepOrder([40, 30], [1, 2], 12, seed=1) for _ in range(2))
    other = StepOrder([40, 30], [1, 2], 12, seed=2)
    assert first.step(7) == again.step(7)  # asked out of order, and first
    assert [first.step(k) for k in range(3)] == [again.step(k) for k in range(3)]
    assert first.step(0) != other.step(0)


def test_a_quota_for_an_empty_group_is_refused():
    with pytest.raises(ValueError, match="quota 0"):
        StepOrder([5, 0], [1, 1], 4, seed=0)
