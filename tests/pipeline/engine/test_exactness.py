"""The engine takes the same steps as a plain torch loop, whatever the ranks, ZeRO stage and micro-batches."""

import itertools
from pathlib import Path

import pytest

HERE = Path(__file__).parent
OBJECTIVES = {
    "average": {"name": "average"},
    "minimax": {"name": "minimax", "alpha": 1.5, "estimator": "two_pass"},
}
OPTIMIZERS = {
    "sgd": {"name": "sgd", "lr": 0.1, "grad_clip": 0},
    "adamw": {"name": "adamw", "lr": 1e-3, "grad_clip": 0},
}
WHOLE = {  # rules that look at whole parameters, which ZeRO cuts; the gradient is clipped in every step
    "lamb": {"name": "lamb", "lr": 1e-2, "weight_decay": 0.1, "grad_clip": 0.1},
    "muon": {"name": "muon", "lr": 1e-3, "weight_decay": 0.1, "grad_clip": 0.1},
}
NO_DECAY = {"name": "sgd", "lr": 1.0, "weight_decay": 0.0, "grad_clip": 0}
MODERNBERT = [
    ("unpadded", 1, "fp32", {}),
    ("unpadded", 3, "fp32", {}),
    ("unpadded", 3, "bf16", {}),
    ("padded", 1, "fp32", {"unpad": False, "dropout": 0.1}),
]
"""Its twin is padded in any case."""
STAGES = {"fp32": (0, 1, 2, 3), "bf16": (1, 2, 3)}


def _batches(world_size):
    return {
        # 5 micro-batches: uneven over 2 ranks and over 3, whose last round has an empty one
        "accumulated": {"global_size": 10, "micro_size": 2},
        # a micro-batch per rank; 6 sequences, so that 3 and more of 9 tasks are absent
        "one_round": {"global_size": 6, "micro_size": 6 // world_size},
    }


def _cases(world_size):
    """Each a name, a ZeRO stage, a precision, and keys of a run file."""
    batches = _batches(world_size)

    def case(name, stage, objective, optimizer, batch, precision="fp32", **keys):
        keys |= {"objective": objective, "optimizer": optimizer, "batch": batch}
        name = f"{name}-{precision}-stage{stage}"
        return {"name": name, "stage": stage, "precision": precision, "keys": keys}

    for (of_objective, objective), (of_batch, batch) in itertools.product(
        OBJECTIVES.items(), batches.items()
    ):
        name = f"{of_objective}-{of_batch}"
        for stage, (of_optimizer, optimizer) in itertools.product(STAGES["fp32"], OPTIMIZERS.items()):
            yield case(f"{name}-{of_optimizer}", stage, objective, optimizer, batch)
        for stage in STAGES["bf16"]:
            yield case(f"{name}-sgd", stage, objective, OPTIMIZERS["sgd"], batch, "bf16")

    minimax, sgd, accumulated = OBJECTIVES["minimax"], OPTIMIZERS["sgd"], batches["accumulated"]
    for stage in STAGES["fp32"]:
        yield case("nsp_off-sgd", stage, {**minimax, "nsp": "off"}, sgd, accumulated)
        yield case("gradient", stage, minimax, NO_DECAY, accumulated, steps=1)
    for (of_optimizer, optimizer), (precision, stages) in itertools.product(WHOLE.items(), STAGES.items()):
        for stage in stages:
            yield case(f"whole-{of_optimizer}", stage, minimax, optimizer, accumulated, precision)
    yield case("random-sgd", 1, minimax, sgd, accumulated, masking={"policy": "random"})
    token_mean = {"name": "token_mean"}
    yield case("random_token_mean-sgd", 1, token_mean, sgd, accumulated, masking={"policy": "random"})
    tempered = {**minimax, "prior_power": 0.6, "start_step": 2}
    yield case("tempered_warm-sgd", 1, tempered, sgd, accumulated)
    yield case("one_micro_batch-sgd", 1, minimax, sgd, {"global_size": 6, "micro_size": 6})
    for name, stage, precision, keys in MODERNBERT:
        model = {"backbone": "modernbert", "size": "tiny", "hidden_size": 32, **keys}
        yield case(f"modernbert_{name}-sgd", stage, minimax, sgd, accumulated, precision, model=model)
    # Whatever their losses are made from, weights at α = 0 are those of the average.
    for estimator in ("batch", "ema"):
        alike = {"name": "minimax", "alpha": 0.0, "estimator": estimator}
        yield case(f"{estimator}_alike-sgd", 1, alike, sgd, accumulated)


NAMES = [case["name"] for case in _cases(world_size=1)]


@pytest.fixture(scope="module", params=[1, 2, 3], ids=["1 rank", "2 ranks", "3 ranks"])
def results(request, run_cases):
    """What every case found; one launch per world size re-creates the engines inside."""
    return run_cases("exactness_worker.py", list(_cases(request.param)), request.param)


def _named(*marks):
    return [name for name in NAMES if all(mark in name for mark in marks)]


@pytest.mark.parametrize("name", _named("sgd", "fp32"))
def test_sgd_in_fp32_moves_the_parameters_and_agrees_to_1e_6(results, name):
    assert results[name]["change"] >= 1e-2
    assert results[name]["difference"] <= 1e-6


@pytest.mark.parametrize("name", _named("adamw"))
def test_adamw_in_fp32_agrees_to_1e_4(results, name):
    assert results[name]["change"] >= 1e-3
    assert results[name]["difference"] <= 1e-4


@pytest.mark.parametrize("name", _named("whole", "fp32"))
def test_lamb_and_muon_in_fp32_agree_to_1e_5_however_parameters_are_cut(results, name):
    assert results[name]["change"] >= 1e-2
    assert results[name]["difference"] <= 1e-5


@pytest.mark.parametrize("name", _named("sgd", "bf16"))
def test_sgd_in_bf16_agrees_to_two_percent_of_the_change(results, name):
    """The twin computes in fp32; bf16 rounds activations and gradients to 8 bits."""
    assert results[name]["change"] >= 1e-2
    assert results[name]["difference"] <= 0.02 * results[name]["change"]


@pytest.mark.parametrize("name", _named("whole", "bf16"))
def test_lamb_and_muon_in_bf16_agree_to_a_fifth_of_the_change(results, name):
    """Both make steps of full size from gradients near 0, which rounding turns around."""
    assert results[name]["change"] >= 1e-2
    assert results[name]["difference"] <= 0.2 * results[name]["change"]


@pytest.mark.parametrize("name", _named("gradient"))
def test_the_gradient_is_the_weighted_sum_of_the_task_gradients_of_the_pooled_batch(results, name):
    assert results[name]["gradient_difference"] <= 1e-6


@pytest.mark.parametrize("name", _named("stage3"))
def test_stage_3_gathers_every_parameter_and_updates_them_part_by_part(results, name):
    assert results[name]["num_whole"] == 0
    assert results[name]["num_vectors"] > results[name]["num_groups"]


@pytest.mark.parametrize("batches", _batches(world_size=1))
def test_tasks_had_unequal_counts_and_one_that_had_been_seen_was_absent(results, batches):
    counts = results[f"minimax-{batches}-sgd-fp32-stage1"]["counts"]
    assert any(max(step) >= 2 * min(filter(None, step)) for step in counts)
    assert any(
        before and not now
        for earlier, later in itertools.combinations(counts, 2)
        for before, now in zip(earlier, later, strict=True)
    )


@pytest.mark.parametrize("name", _named("fp32", "stage0"))
def test_a_step_gives_every_trained_parameter_a_gradient(results, name):
    """One rank at stage 0 skips the reduction in which DeepSpeed would give zeros to one without."""
    assert results[name]["without_gradient"] == []
