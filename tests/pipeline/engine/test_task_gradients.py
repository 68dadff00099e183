"""Gradients per task come out of the one backward pass, and gradnorm makes its weights of them."""

import pytest
import torch

from pipeline.config import ObjectiveConfig
from pipeline.objectives.gradnorm import updated_weights

LR = 0.5
GRADNORM = {"name": "gradnorm", "lr": LR, "window": 1}
ANY_WORD = {"masking": {"policy": "random"}}


def _case(name, stage=1, precision="fp32", sections=None, **keys):
    keys = {
        "steps": 4,
        "objective": GRADNORM,
        "optimizer": {"name": "sgd", "lr": 0.1, "grad_clip": 0},
        "batch": {"global_size": 10, "micro_size": 2},  # over 2 ranks the last round has an empty one
        **keys,
    }
    return {"name": name, "stage": stage, "precision": precision, "sections": sections or {}, "keys": keys}


CASES = [
    *(_case(f"stage{stage}", stage) for stage in (0, 1, 3)),
    *(_case(f"any_word-stage{stage}", stage, **ANY_WORD) for stage in (0, 1, 3)),
    _case("one_micro_batch", 1, batch={"global_size": 6, "micro_size": 6}),
    _case("no_pairs", 0, objective={**GRADNORM, "nsp": "off"}),
    _case("layers_run_again", 1, sections={"activation_checkpointing": {}}),
    _case("modernbert", 1, model={"backbone": "modernbert", "size": "tiny", "hidden_size": 32}),
    *(_case(f"bf16-stage{stage}", stage, "bf16", **ANY_WORD) for stage in (1, 3)),
]
NAMES = [case["name"] for case in CASES]


@pytest.fixture(scope="module", params=[1, 2], ids=["1 rank", "2 ranks"])
def results(request, run_cases):
    return run_cases("gradients_worker.py", CASES, request.param)


@pytest.mark.parametrize("name", NAMES)
def test_norms_are_those_of_a_backward_pass_for_each_task(results, name):
    tolerance = 0.03 if "bf16" in name else 1e-5
    for step in results[name]["steps"]:
        assert max(step["expected_norms"]) > 0.01
        assert step["norms"] == pytest.approx(step["expected_norms"], rel=tolerance)


@pytest.mark.parametrize("name", [name for name in NAMES if "bf16" not in name])
def test_weights_are_those_that_the_papers_rule_makes_of_such_norms(results, name):
    first, *others = results[name]["steps"]
    weights = torch.ones(len(first["norms"]), dtype=torch.float64)
    initial, seen = torch.ones_like(weights), torch.zeros_like(weights, dtype=torch.bool)
    for step, following in zip((first, *others), others, strict=False):
        losses, norms = (torch.tensor(step[key], dtype=torch.float64) for key in ("losses", "expected_norms"))
        present, next_present = (torch.tensor(s["counts"]) > 0 for s in (step, following))
        initial = torch.where(present & ~seen, losses, initial)
        seen = seen | present
        weights = updated_weights(weights, norms, losses, initial, present, alpha=1.5, lr=LR)
        assert (weights - 1).abs().max() > 0.01
        total = weights[seen | next_present].sum()
        kept = torch.where(next_present, weights, 0.0)
        assert following["coefficients"] == pytest.approx((kept * total / kept.sum()).tolist(), rel=1e-4)


def test_a_task_was_absent_and_another_lay_in_several_micro_batches(results):
    counts = [step["counts"] for step in results["stage1"]["steps"]]
    assert any(count == 0 for step in counts for count in step)
    assert max(max(step) for step in counts) > 20


def test_next_sentence_prediction_as_a_task_is_refused():
    with pytest.raises(ValueError, match="set nsp to auxiliary or off"):
        ObjectiveConfig(name="gradnorm", nsp="task")
