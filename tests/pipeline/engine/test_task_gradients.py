"""Gradients per task come out of the one backward pass, and gradnorm makes its weights of them."""

import json

import pytest
import torch

from pipeline.assembly import text_data
from pipeline.config import ObjectiveConfig
from pipeline.engine.task_gradients import TaskGradients
from pipeline.objectives.gradnorm import updated_weights

from .saved import FIRST_STEPS, checkpoint
from .small_runs import fresh_model, run_config

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


def test_whatever_multiplies_the_losses_on_their_way_to_the_backward_pass_is_divided_out(shards):
    config = run_config({"batch": {"global_size": 8, "micro_size": 8}, **ANY_WORD}, shards)
    data = text_data(config)
    model = fresh_model(config, data).eval()
    inputs = data.micro_batch(0, 0).inputs
    gradients = TaskGradients(model, range(len(data.terms.tasks)))

    def found(factors):
        sums, _ = model(inputs)
        gradients.follow(inputs, sums)
        (torch.tensor(factors) * sums).sum().backward()
        return gradients.take()

    plain = found([1.0] * len(data.terms))
    scaled = found([2.0**-9, 2.0**16, 0.0] * 3 + [2.0**16] * (len(data.terms) - 9))
    untrained = [2, 5, 8]
    assert not scaled[untrained].any()
    others = [task for task in range(9) if task not in untrained]
    torch.testing.assert_close(scaled[others], plain[others])
    assert (torch.linalg.matrix_norm(plain) > 0.01).sum() > 6


class Run:
    """What a run of 4 steps left."""

    def __init__(self, folder, name):
        self._folder, self._name = folder, name

    def rule(self, step):
        manifest = checkpoint(self._folder, self._name, step) / "manifest.json"
        return json.loads(manifest.read_text())["rule"]

    def last_steps(self, column):
        lines = (self._folder / self._name / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)[column] for line in lines[-2:]]


@pytest.fixture(scope="module")
def runs(shards, tmp_path_factory, run_worker):
    """Of 2 ranks, by name: one that never stops, others that go on from its half, some with a bad step 3."""
    folder = tmp_path_factory.mktemp("gradnorm")
    half = str(checkpoint(folder, "whole", FIRST_STEPS))
    config = {"objective": GRADNORM, "on_nonfinite": "skip", "checkpoint": {"every": 1, "keep_last": 9}}
    cases = [{"name": "whole", "stage": 1, "start": None}]
    cases += [{"name": f"half-{stage}", "stage": stage, "start": half} for stage in (0, 1, 3)]
    cases += [
        {"name": f"bad-{kind}", "stage": 1, "start": None, "poison": [kind, [3], 2]}
        for kind in ("loss", "gradient")
    ]
    cases = [case | {"out_dir": str(folder), "config": config} for case in cases]
    (folder / "cases.json").write_text(json.dumps(cases))
    run_worker("training_worker.py", folder / "cases.json", shards, world_size=2)
    return {case["name"]: Run(folder, case["name"]) for case in cases}


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_a_run_that_goes_on_at_any_stage_has_the_weights_and_the_norms_of_one_that_never_stopped(runs, stage):
    whole, resumed = runs["whole"], runs[f"half-{stage}"]
    for column in ("task_weight", "task_gradient_norm"):
        for expected, found in zip(whole.last_steps(column), resumed.last_steps(column), strict=True):
            assert found == pytest.approx(expected, rel=1e-4)
    assert max(whole.last_steps("task_weight")[0].values()) > 1.01


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_step_whose_update_is_refused_leaves_no_trace_in_the_weights(runs, kind):
    run = runs[f"bad-{kind}"]
    assert run.rule(2) == run.rule(3) != run.rule(4)
    assert all(norm > 0 for norm in run.last_steps("task_gradient_norm")[1].values())


def test_next_sentence_prediction_as_a_task_is_refused():
    with pytest.raises(ValueError, match="set nsp to auxiliary or off"):
        ObjectiveConfig(name="gradnorm", nsp="task")
