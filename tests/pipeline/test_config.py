"""A run file is typed: what is unknown or impossible is refused with the key, the place and a remedy."""

import pytest

from data_prep.errors import UserError
from pipeline.config import RunConfig
from pipeline.run_file import config_keys, load_config

MINIMAL = "name: x\nsteps: 5\ndata: {path: shards}\n"


@pytest.fixture
def run_file(tmp_path):
    def write(content=MINIMAL):
        path = tmp_path / "run.yaml"
        path.write_text(content)
        return path

    return write


def test_the_smallest_run_file_gets_defaults_that_train(run_file):
    config = load_config(run_file(), [])
    assert (config.objective.name, config.objective.alpha) == ("minimax", 1.0)
    assert config.masking.corruption == (0.8, 0.1, 0.1)
    assert config.batch.num_micro_batches == 8


def test_overrides_win_and_are_typed(run_file):
    config = load_config(
        run_file(), ["objective.alpha=3e-1", "masking.corruption=[1,0,0]", "validate.every=7"]
    )
    assert config.objective.alpha == 0.3
    assert config.masking.corruption == (1, 0, 0)
    assert config.validation.every == 7


def test_a_resolved_run_file_loads_to_itself(run_file):
    config = load_config(run_file(), ["data.quota={noun: 256}", "objective.nsp=off"])
    assert config.objective.nsp == "off"
    assert load_config(run_file(config.to_yaml()), []) == config


@pytest.mark.parametrize("rule", ["adamw", "lamb", "muon", "sgd"])
def test_a_resolved_run_file_has_all_keys_even_those_that_its_rule_does_not_read(run_file, rule):
    config = load_config(run_file(), [f"optimizer.name={rule}", "schedule.name=cosine"])
    assert {"momentum: 0.95", "implementation: torch", "decay_type: linear"} <= set(
        config.to_yaml().replace("  ", "").splitlines()
    )
    assert load_config(run_file(config.to_yaml()), []) == config


@pytest.mark.parametrize(
    "keys",
    [
        ["name=static", "weights={noun: 1, verb: 0}"],
        ["name=excess", "reference=unigram", "alpha=0.3", "prior_power=1", "alpha_schedule=linear"],
        ["name=excess", "reference=some/run", "reference_losses={noun: 3.5}"],
        ["name=minimax", "alpha_schedule=theorem", "radius_lipschitz=9", "loss_bound=10", "normalise=log"],
        ["name=group_dro", "normalise=initial", "window=7", "memory=0.5", "step_size=0.1", "tasks=[noun]"],
        ["name=uncertainty", "lr=0.1", "start_step=2", "start_name=average"],
    ],
)
def test_an_objective_takes_what_it_reads_and_resolves_to_itself(run_file, keys):
    config = load_config(run_file(), [f"objective.{key}" for key in keys])
    assert load_config(run_file(config.to_yaml()), []) == config


def test_a_rule_takes_what_it_reads(run_file):
    keys = ("muon_lr=0.1", "momentum=0.9", "betas=[0.8,0.9]", "eps=1e-8", "weight_decay=0", "grad_clip=0")
    config = load_config(run_file(), ["optimizer.name=muon", *(f"optimizer.{key}" for key in keys)])
    assert (config.optimizer.momentum, config.optimizer.betas) == (0.9, (0.8, 0.9))


@pytest.mark.parametrize(
    ("content", "overrides", "expected"),
    [
        (MINIMAL + "seeed: 1\n", [], ['run.yaml: unknown key "seeed"; did you mean "seed"']),
        (
            MINIMAL,
            ["objective.alhpa=1"],
            ["command line", "objective.alhpa", 'did you mean "objective.alpha"'],
        ),
        (MINIMAL, ["optimiser.lr=1"], ["command line", '"optimiser"', 'did you mean "optimizer"']),
        (MINIMAL, ["objective.alpha=big"], ["command line", "objective.alpha", "number", "'big'"]),
        (MINIMAL, ["objective.alpha=-1"], ["objective.alpha", "greater than or equal to 0"]),
        (MINIMAL, ["objective.name=minmax"], ["objective.name", "'minimax', 'excess'", "'minmax'"]),
        (MINIMAL, ["precision=bf17"], ["precision", "'bf16'"]),
        (
            MINIMAL,
            ["batch.global_size=10", "batch.micro_size=4"],
            ["batch", "4 does not divide global_size 10"],
        ),
        (MINIMAL, ["masking.corruption=[0.5,0.1,0.1]"], ["masking", "must sum to 1, not 0.7"]),
        (MINIMAL, ["data.quota={noun: 3}"], ["data.quota sums to 3, batch.global_size is 256"]),
        (MINIMAL, ["data.quota=even"], ["data.quota", "'uniform' or 'proportional'"]),
        (MINIMAL, ["optimizer.name=sgd", "optimizer.momentum=0.9"], ["momentum is for muon, not for sgd"]),
        (MINIMAL, ["optimizer.name=sgd", "optimizer.betas=[0,0]"], ["betas is for adamw, lamb, muon, not"]),
        (MINIMAL, ["optimizer.name=sgd", "optimizer.eps=1"], ["optimizer: eps is for adamw, lamb, muon"]),
        (MINIMAL, ["optimizer.muon_lr=1"], ["optimizer: muon_lr is for muon, not for adamw; leave it out"]),
        (MINIMAL, ["optimizer.name=lamb", "optimizer.momentum=0"], ["momentum is for muon, not for lamb"]),
        (
            MINIMAL,
            ["schedule.decay_type=cosine"],
            ["schedule: decay_type is for warmup_stable_decay, not for linear; leave it out, or change name"],
        ),
        (
            MINIMAL,
            ["objective.name=average", "objective.alpha=2"],
            ["objective: alpha is for minimax, excess, not for average; leave it out, or change name"],
        ),
        (MINIMAL, ["objective.name=dwa", "objective.normalise=log"], ["normalise is for minimax, group_dro"]),
        (MINIMAL, ["objective.window=5"], ["window is for initial, not for raw", "or change normalise"]),
        (
            MINIMAL,
            ["objective.loss_bound=5"],
            ["loss_bound is for theorem, not for constant", "or change alpha_schedule"],
        ),
        (
            MINIMAL,
            ["objective.alpha_schedule=theorem", "objective.loss_bound=5"],
            ["alpha_schedule theorem needs radius_lipschitz and loss_bound"],
        ),
        (MINIMAL, ["objective.name=static"], ["static needs weights"]),
        (MINIMAL, ["objective.name=static", "objective.weights={noun: 0}"], ["at least one above 0"]),
        (MINIMAL, ["objective.name=excess"], ["excess needs a reference"]),
        (
            MINIMAL,
            ["objective.nsp=task", "objective.tasks=[noun]"],
            ["nsp=task, but tasks does not name nsp", "add nsp to objective.tasks, or set objective.nsp=off"],
        ),
        (MINIMAL, ["objective.start_name=average"], ["start_name is for a start_step above 0"]),
        (MINIMAL, ["objective.start_step=5"], ["objective.start_step is 5, steps is 5: minimax would never"]),
        (
            MINIMAL,
            ["objective.name=tchebycheff", "objective.mu=2"],
            ["objective.mu", "less than"],
        ),
        (MINIMAL, ["name=../x"], ["name", "pattern"]),
        (MINIMAL, ["steps"], ['"steps" is not of the form key=value']),
        ("name: x\ndata: {path: shards}\n", [], ['"steps" is missing', "Optimizer steps"]),
        ("name: x\nsteps: 5\n", [], ['"data" is missing']),
        ("- a\n- b\n", [], ["run.yaml"]),
        ("name: [x\n", [], ["run.yaml: not YAML"]),
        ("", [], ["run.yaml"]),
    ],
)
def test_each_mistake_is_one_line_with_the_place_the_key_and_the_remedy(
    run_file, content, overrides, expected
):
    with pytest.raises(UserError) as refusal:
        load_config(run_file(content), overrides)
    message = str(refusal.value)
    assert "\n" not in message
    for part in expected:
        assert part in message


def test_a_missing_run_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no such run file"):
        load_config(tmp_path / "none.yaml", [])


def test_every_key_is_explained():
    keys = config_keys()
    assert {"objective.alpha", "validate.every", "data.path", "deepspeed"} <= keys.keys()
    assert all(meaning for _, meaning in keys.values())
    assert "validation" not in RunConfig.model_json_schema(by_alias=True)["properties"]
