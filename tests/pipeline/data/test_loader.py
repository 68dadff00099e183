"""Workers change when micro-batches are made, and nothing else."""

import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

import pytest
import torch

from data_prep.errors import UserError
from pipeline.config import BatchConfig, DataConfig, MaskingConfig, ObjectiveConfig
from pipeline.data.loader import MicroBatchLoader
from pipeline.data.packing import PackedMicroBatches
from pipeline.data.shards import Shards
from pipeline.data.text import TextData

NUM_MICRO_BATCHES = 5


@pytest.fixture(scope="module")
def data(shards):
    opened = Shards(shards)
    batch = BatchConfig(global_size=20, micro_size=4)
    return TextData(opened, DataConfig(path=shards), MaskingConfig(), ObjectiveConfig(), batch, seed=5)


@pytest.fixture
def odd(monkeypatch):
    """The module odd_data, where workers find it too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import odd_data

    return odd_data


def loader(data, num_workers, rank=0, world_size=1):
    return MicroBatchLoader(data, num_workers, NUM_MICRO_BATCHES, rank, world_size, pin_memory=False)


def served(data, num_workers, first_step, last_step, **place):
    """{(step, index): micro-batch} of a rank."""
    source = loader(data, num_workers, **place)
    indices = range(place.get("rank", 0), NUM_MICRO_BATCHES, place.get("world_size", 1))
    keys = [(step, index) for step in range(first_step, last_step) for index in indices]
    with source.ahead(first_step, last_step):
        return {key: source.micro_batch(*key) for key in keys}


def as_bytes(batch):
    tensors = {**batch.inputs, "counts": batch.counts}
    return batch.num_tokens, {
        name: (tensor.dtype, tensor.shape, tensor.contiguous().view(-1).view(torch.uint8).tolist())
        for name, tensor in tensors.items()
    }


def same(found, expected):
    return found.keys() == expected.keys() and all(
        as_bytes(found[key]) == as_bytes(expected[key]) for key in expected
    )


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize("num_workers", [1, 3])
def test_workers_serve_the_bytes_that_the_run_would_make_itself(data, num_workers):
    assert same(served(data, num_workers, 0, 6), served(data, 0, 0, 6))


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_after_a_restart_in_the_middle_the_same_bytes_follow(data, num_workers):
    whole = served(data, 0, 0, 6)
    rest = served(data, num_workers, 4, 6)
    assert same(rest, {key: batch for key, batch in whole.items() if key[0] >= 4})


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_ranks_together_serve_what_one_serves(data, world_size):
    parts = [served(data, 1, 2, 4, rank=rank, world_size=world_size) for rank in range(world_size)]
    together = {key: batch for part in parts for key, batch in part.items()}
    assert len(together) == sum(map(len, parts))
    assert same(together, served(data, 0, 2, 4))


def test_a_rank_without_a_micro_batch_in_any_round_needs_no_workers(data):
    source = loader(data, 2, rank=6, world_size=7)
    with source.ahead(0, 3):
        assert not multiprocessing.active_children()
        assert source.empty_micro_batch().counts.sum() == 0


def test_micro_batches_are_made_in_other_processes_by_one_thread_each(odd):
    made = [batch.inputs["made"].tolist() for batch in served(odd.OddData(), 2, 0, 8).values()]
    makers = {process for _, _, process, _ in made}
    assert len(makers) == 2
    assert os.getpid() not in makers
    assert {threads for *_, threads in made} == {1}


def test_outside_the_block_micro_batches_are_made_here(odd):
    source = loader(odd.OddData(), 2)
    assert source.micro_batch(7, 1).inputs["made"].tolist()[:3] == [7, 1, os.getpid()]


def test_workers_leave_the_random_numbers_of_the_run_alone(odd):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    served(odd.OddData(), 1, 0, 2)
    assert torch.equal(torch.rand(4), expected)


def test_packed_micro_batches_come_out_as_they_went_in(odd, data):
    for source in (odd.OddData(), data):
        batches = {index: source.micro_batch(3, index) for index in (0, 2)}
        unpacked = PackedMicroBatches.of(batches).unpacked()
        assert same(unpacked, batches)


def test_pickled_data_are_a_recipe_and_the_copy_opens_the_shards_itself(data):
    recipe = pickle.dumps(data)
    assert len(recipe) < 2_000
    assert same({0: pickle.loads(recipe).micro_batch(9, 1)}, {0: data.micro_batch(9, 1)})


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_mistake_found_in_a_worker_is_told_as_if_found_here(odd, num_workers):
    broken = odd.OddData(fails_at=2, error=UserError("shard-00001.arrow: unreadable; prepare it again"))
    with pytest.raises(UserError, match=r"^shard-00001.arrow: unreadable; prepare it again$"):
        served(broken, num_workers, 0, 4)
    assert not multiprocessing.active_children()


def test_an_error_of_the_program_itself_comes_with_its_traceback(odd):
    with pytest.raises(RuntimeError, match=r"(?s)seventh.*odd_data\.py.*UnusualError: seventh"):
        served(odd.OddData(fails_at=1, error=odd.UnusualError("seventh")), 1, 0, 2)


def test_data_that_a_worker_cannot_open_are_named(odd):
    with pytest.raises(FileNotFoundError, match=r"shard-00000\.arrow"):
        served(odd.Unopenable(), 1, 0, 2)


def test_steps_before_the_failing_one_are_served(odd):
    source = loader(odd.OddData(fails_at=1, error=UserError("no")), 1)
    with source.ahead(0, 2):
        assert [source.micro_batch(0, index).counts[0] for index in range(NUM_MICRO_BATCHES)] == [*range(5)]
        with pytest.raises(UserError):
            source.micro_batch(1, 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_dead_worker_is_told_in_one_line(odd, number):
    source = loader(odd.OddData(), 2)
    with source.ahead(0, 1_000), pytest.raises(UserError) as told:
        os.kill(multiprocessing.active_children()[0].pid, number)
        for step in range(1_000):
            for index in range(NUM_MICRO_BATCHES):
                source.micro_batch(step, index)
    (line,) = str(told.value).splitlines()
    assert f"a worker process died with signal {int(number)}; run the same command again" in line
    assert not multiprocessing.active_children()


def test_signals_meant_for_the_run_do_not_disturb_its_workers(odd):
    source = loader(odd.OddData(), 1)
    with source.ahead(0, 20):
        (worker,) = multiprocessing.active_children()
        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
            os.kill(worker.pid, number)
        for step in range(20):
            made = [source.micro_batch(step, index).inputs["made"] for index in range(NUM_MICRO_BATCHES)]
            assert {int(batch[2]) for batch in made} == {worker.pid}


@pytest.mark.parametrize("stopped_by", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_no_worker_outlives_a_run_that_ends_early(odd, stopped_by):
    source = loader(odd.OddData(), 2)
    with pytest.raises(stopped_by), source.ahead(0, 1_000):
        workers = [child.pid for child in multiprocessing.active_children()]
        source.micro_batch(0, 0)
        raise stopped_by
    assert len(workers) == 2
    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def test_time_spent_waiting_is_counted_once(odd):
    source = loader(odd.OddData(), 0)
    source.micro_batch(0, 0)
    assert source.take_wait_s() > 0
    assert source.take_wait_s() == 0
