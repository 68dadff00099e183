"""`pipeline pretrain` as a user runs it: what a run leaves, going on, and what is refused."""

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from data_prep.tagging.tag_map import load_tag_map
from pipeline.assembly import text_recipe
from pipeline.data.shards import Shards
from pipeline.engine.resume import find_start
from pipeline.plan.text_case import flops_per_token
from pipeline.run_file import load_config

TASK_NAMES = load_tag_map().task_names

TINY = Path(__file__).parents[3] / "configs" / "tiny.yaml"
QUICK = [
    "data.num_workers=0",
    "model.hidden_size=32",
    "batch.global_size=12",
    "batch.micro_size=4",
    "validate.every=4",
]


@pytest.fixture(scope="module")
def pretrain(pipeline, shards):
    def pretrain(folder, *overrides, **start):
        keys = [f"data.path={shards}", f"out_dir={folder}", *QUICK, *overrides]
        return pipeline("pretrain", TINY, *keys, **start)

    return pretrain


def records(run, name="metrics.jsonl"):
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def run(pretrain, tmp_path_factory):
    """Six steps, never stopped."""
    folder = tmp_path_factory.mktemp("runs")
    finished = pretrain(folder, "steps=6", "checkpoint.every=2")
    assert finished.returncode == 0, finished.stderr
    return folder / "tiny"


def test_a_run_leaves_its_configuration_metrics_board_and_checkpoints(run):
    assert {path.name for path in run.iterdir()} == {
        "config.yaml",
        "ds_config.json",
        "metrics.jsonl",
        "validation.jsonl",
        "tensorboard",
        "checkpoints",
    }
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == [
        "step-00000004",
        "step-00000006",
    ]


def test_a_line_of_metrics_holds_what_the_design_says_and_adds_up(run):
    lines = records(run)
    assert [line["step"] for line in lines] == list(range(1, 7))
    for line in lines:
        assert list(line["task_count"]) == [*TASK_NAMES, "nsp"]
        losses, weights = line["task_loss"], line["task_weight"]
        assert line["loss"] == pytest.approx(sum(weights[task] * losses[task] for task in losses))
        tasks = {task: loss for task, loss in losses.items() if task != "nsp"}
        assert line["average_loss"] == pytest.approx(sum(tasks.values()) / len(tasks))
        assert line["worst_loss"] == max(tasks.values()) == tasks[line["worst_task"]]
        assert sum(weights[task] for task in tasks) == pytest.approx(1)
        assert line["grad_norm"] > 0
        assert line["tokens_per_s"] > 0
    assert lines[-1]["samples"] == 6 * 12


def test_a_line_says_how_many_tasks_share_the_weight_and_how_much_memory_is_taken(run):
    for line in records(run):
        weights = [line["task_weight"][task] for task in line["task_loss"] if task != "nsp"]
        entropy = -sum(weight * math.log(weight) for weight in weights)
        assert line["weight_entropy"] == pytest.approx(entropy)
        assert 1 <= line["num_effective_tasks"] == pytest.approx(math.exp(entropy))
        assert 2**27 < line["host_memory_bytes"] < 2**35


def test_a_line_says_how_many_flops_a_second_the_tokens_are(run):
    config = load_config(run / "config.yaml", [])
    data = Shards(config.data.path)
    flops = flops_per_token(config, data, text_recipe(config, data))
    for line in records(run):
        assert line["tflops_per_s"] == pytest.approx(line["tokens_per_s"] * flops / 1e12)
        assert "mfu" not in line  # the peak of a CPU is not known


def test_tensorboard_shows_the_losses_and_weights_of_all_tasks_in_one_chart_each(run):
    board = EventMultiplexer().AddRunsFromDirectory(str(run / "tensorboard")).Reload()
    charts = {name: set(tags["scalars"]) for name, tags in board.Runs().items()}
    for chart in ("task/loss", "task/weight", "task/is_worst", "task/validation_loss"):
        assert {name for name, tags in charts.items() if chart in tags} == set(TASK_NAMES)
    assert {"train/worst_loss", "train/nsp_loss", "validation/average_loss"} <= charts["."]
    for line in records(run):
        for task, loss in line["task_loss"].items():
            name, chart = (".", "train/nsp_loss") if task == "nsp" else (task, "task/loss")
            shown = {event.step: event.value for event in board.Scalars(name, chart)}
            assert shown[line["step"]] == pytest.approx(loss)


def test_a_checkpoint_is_complete_and_hashed(run):
    checkpoint = run / "checkpoints" / "step-00000006"
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    files = {path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if path.is_file()}
    assert files == {*manifest["files"], "manifest.json"}
    assert {"model.safetensors", "tokenizer.json"} <= files
    for name, expected in manifest["files"].items():
        assert hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() == expected


def test_a_stopped_run_goes_on_to_the_same_parameters_without_holes_in_its_records(pretrain, run, tmp_path):
    first = pretrain(tmp_path, "steps=6", "checkpoint.every=2", "log.every=1")
    assert first.returncode == 0, first.stderr
    stopped = tmp_path / "tiny"
    shutil.rmtree(stopped / "checkpoints" / "step-00000006")  # as if killed after step 6, before its save
    again = pretrain(tmp_path, "steps=6", "checkpoint.every=2")
    assert again.returncode == 0, again.stderr
    assert "going on after step 4" in again.stderr
    assert [line["step"] for line in records(stopped)] == list(range(1, 7))
    assert [line["time"] for line in records(stopped)] == sorted(line["time"] for line in records(stopped))
    began = [line["began"] for line in records(stopped)]
    assert began == [began[0]] * 4 + [began[-1]] * 2
    assert records(stopped)[3]["time"] < began[-1]
    parts = ("checkpoints", "step-00000006", "model.safetensors")
    resumed, uninterrupted = (load_file(folder.joinpath(*parts)) for folder in (stopped, run))
    assert all((resumed[name] == uninterrupted[name]).all() for name in uninterrupted)
    of_the_machine = {"time", "began", "step_time_s", "data_wait_s", "tokens_per_s", "tflops_per_s"}
    of_the_machine |= {"host_memory_bytes"}
    for here, there in zip(records(stopped), records(run), strict=True):
        assert {key: here[key] for key in here.keys() - of_the_machine} == {
            key: there[key] for key in there.keys() - of_the_machine
        }


def test_a_finished_run_says_so_and_does_nothing(pretrain, run):
    before = (run / "metrics.jsonl").read_bytes()
    again = pretrain(run.parent, "steps=6", "checkpoint.every=2")
    assert again.returncode == 0
    assert "already at step 6 of 6" in again.stdout
    assert (run / "metrics.jsonl").read_bytes() == before


def test_another_run_can_start_from_a_checkpoint_by_its_path(pretrain, run, tmp_path):
    start = run / "checkpoints" / "step-00000004"
    branch = pretrain(tmp_path, "name=branch", "steps=6", f"checkpoint.resume={start}")
    assert branch.returncode == 0, branch.stderr
    assert [line["step"] for line in records(tmp_path / "branch")] == [5, 6]
    parts = ("checkpoints", "step-00000006", "model.safetensors")
    branched, trunk = (load_file(folder.joinpath(*parts)) for folder in (tmp_path / "branch", run))
    assert all((branched[name] == trunk[name]).all() for name in trunk)


def test_a_run_goes_back_only_by_removing_its_later_checkpoints(pretrain, run):
    refused = pretrain(run.parent, f"checkpoint.resume={run}/checkpoints/step-00000004")
    assert refused.returncode == 2
    assert "the run has a later checkpoint, step-00000006" in refused.stderr


def test_a_run_does_not_go_on_with_other_shards(pretrain, run, tmp_path):
    shutil.copytree(run, tmp_path / "tiny")
    manifest = tmp_path / "tiny" / "checkpoints" / "step-00000006" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["model"]["shards_sha256"] = "0" * 64
    manifest.write_text(json.dumps(content))
    refused = pretrain(tmp_path, "steps=8", "checkpoint.every=2")
    assert refused.returncode == 2
    assert "is not what it was trained on" in refused.stderr


def test_a_longer_run_goes_on_at_the_rate_of_its_own_schedule(pretrain, run, tmp_path):
    shutil.copytree(run, tmp_path / "tiny")
    longer = pretrain(tmp_path, "steps=8", "checkpoint.every=2")
    assert longer.returncode == 0, longer.stderr
    assert "going on after step 6 with steps 8, not 6" in longer.stderr
    rates = [record["lr"] for record in records(tmp_path / "tiny")]
    assert rates[6:] == pytest.approx([1e-3 * 2 / 6, 1e-3 * 1 / 6])  # linear from step 2 to 8


@pytest.mark.parametrize("implementation", ["apex", "deepspeed_cpu"])
def test_a_run_may_go_on_with_another_implementation_of_its_rule(run, implementation):
    config = load_config(run / "config.yaml", [f"optimizer.implementation={implementation}"])
    recipe = text_recipe(config, Shards(config.data.path)).model_dump(mode="json")
    assert find_start(config, recipe) == run / "checkpoints" / "step-00000006"


@pytest.mark.parametrize("stage", [0, 3])
def test_two_ranks_reach_the_parameters_of_one_process(pretrain, run, tmp_path, stage):
    ds_json = TINY.parents[1] / "ds_configs" / f"zero{stage}.json"
    finished = pretrain(tmp_path, "steps=6", f"deepspeed={ds_json}", ranks=2)
    assert finished.returncode == 0, finished.stderr
    parts = ("checkpoints", "step-00000006", "model.safetensors")
    two, one = load_file(tmp_path.joinpath("tiny", *parts)), load_file(run.joinpath(*parts))
    assert max(float((two[name] - one[name]).abs().max()) for name in one) <= 1e-4
    for name, key in (("validation.jsonl", "average_loss"), ("metrics.jsonl", "grad_norm")):
        here, there = records(tmp_path / "tiny", name), records(run, name)
        assert [r[key] for r in here] == pytest.approx([r[key] for r in there], abs=1e-4)


@pytest.mark.parametrize("stage", [1, 3])
def test_two_stopped_ranks_go_on_to_the_same_bits(pretrain_ranks, tmp_path, stage):
    ds_json = TINY.parents[1] / "ds_configs" / f"zero{stage}.json"
    overrides = ("checkpoint.every=2", "schedule.name=constant", f"deepspeed={ds_json}")
    ends = []
    for name, stops in (("never", ["4"]), ("once", ["2", "4"])):
        for steps in stops:
            codes, said = pretrain_ranks(f"steps={steps}", *overrides, name=name, world_size=2).end()
            assert codes == [0, 0], said
        ends.append(tmp_path / name / "checkpoints" / "step-00000004")
    assert "going on after step 2" in said[0]
    files = [path.relative_to(ends[0]) for path in ends[0].rglob("*.safetensors")]
    assert len(files) == 3  # the parameters, and the state of each rank
    for file in files:
        never, once = (load_file(end / file) for end in ends)
        assert all((never[name] == once[name]).all() for name in never)


def test_the_deepspeed_launcher_starts_it_too(shards, tmp_path):
    launcher = shutil.which("deepspeed", path=str(Path(sys.executable).parent))
    arguments = ["--num_accelerators", "2", "--module", "pipeline", "pretrain", TINY]
    finished = subprocess.run(
        [
            launcher,
            *arguments,
            f"data.path={shards}",
            f"out_dir={tmp_path}",
            *QUICK,
            "steps=1",
            "schedule.warmup_steps=1",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert (tmp_path / "tiny" / "checkpoints" / "step-00000001" / "model.safetensors").is_file()


def test_bf16_trains_at_stage_1_and_is_refused_at_stage_0(pretrain, tmp_path):
    assert pretrain(tmp_path, "steps=2", "precision=bf16").returncode == 0
    stage0 = TINY.parents[1] / "ds_configs" / "zero0.json"
    refused = pretrain(tmp_path, "name=other", "precision=bf16", f"deepspeed={stage0}")
    assert refused.returncode == 2
    assert "bf16 does not go with ZeRO stage 0" in refused.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("estimator", ["batch", "ema"])
def test_the_other_estimators_train(pretrain, tmp_path, estimator):
    finished = pretrain(tmp_path, "steps=3", f"objective.estimator={estimator}")
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["objective.alhpa=1"], ['unknown key "objective.alhpa"', 'did you mean "objective.alpha"']),
        (["data.path=/nowhere"], ["/nowhere: no manifest.json", "data_prep text"]),
        (["model.vocab_size=10"], ["model.vocab_size 10 is smaller than", "leave it out"]),
        (["model.num_heads=5"], ["model.hidden_size 32 is not a multiple of model.num_heads 5"]),
        (["precision=fp16"], ["precision fp16 needs a GPU"]),
        (["checkpoint.resume=/nowhere"], ["/nowhere: neither a checkpoint"]),
    ],
)
def test_each_mistake_is_one_line_and_leaves_nothing(pretrain, tmp_path, overrides, expected):
    refused = pretrain(tmp_path / "runs", *overrides, fresh=True)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("pipeline: error: ")
    for part in expected:
        assert part in line
    assert not (tmp_path / "runs").exists()


def test_a_run_stops_before_it_records_or_saves_a_loss_that_is_no_number(pretrain, tmp_path):
    wild = ["optimizer.name=sgd", "optimizer.lr=1e20", "optimizer.grad_clip=0", "schedule.warmup_steps=0"]
    stopped = pretrain(tmp_path, "checkpoint.every=1", *wild)
    assert stopped.returncode == 2
    assert "the loss is not a finite number, its update is not made; go on with a lower" in stopped.stderr
    assert "NaN" not in (tmp_path / "tiny" / "metrics.jsonl").read_text()


def test_a_typo_in_the_deepspeed_json_is_refused(pipeline, shards, tmp_path):
    (tmp_path / "ds.json").write_text('{"zero_optimisation": {"stage": 2}}')
    refused = pipeline(
        "pretrain",
        TINY,
        f"data.path={shards}",
        f"out_dir={tmp_path}/runs",
        "--deepspeed",
        tmp_path / "ds.json",
        fresh=True,
    )
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert 'ds.json: unknown key "zero_optimisation"; did you mean "zero_optimization"' in line


def test_a_folder_with_other_things_in_it_is_left_alone(pretrain, tmp_path):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "thesis.tex").write_text("mine")
    refused = pretrain(tmp_path)
    assert refused.returncode == 2
    assert "already holds files" in refused.stderr
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == ["thesis.tex"]


def test_a_run_does_not_go_on_under_another_configuration(pretrain, run):
    refused = pretrain(run.parent, "steps=8", "checkpoint.every=2", "objective.alpha=0.5")
    assert refused.returncode == 2
    assert "objective.alpha was 1.0 there and is 0.5 now" in refused.stderr


def test_excess_goes_on_with_the_references_that_it_began_with(pretrain, tmp_path):
    reference = tmp_path / "reference.yaml"
    reference.write_text("".join(f"{task}: 2.5\n" for task in TASK_NAMES))
    excess = ("objective.name=excess", f"objective.reference={reference}", "validate.every=0")
    assert pretrain(tmp_path, "steps=2", *excess).returncode == 0
    reference.unlink()
    assert pretrain(tmp_path, "steps=3", *excess).returncode == 0
    objective = load_config(tmp_path / "tiny" / "config.yaml", []).objective
    assert (objective.estimator, objective.reference_losses) == ("ema", dict.fromkeys(TASK_NAMES, 2.5))
    lines = records(tmp_path / "tiny")
    assert len(lines) == 3
    counts = [line["task_count"]["noun"] for line in lines]
    squares, sums = (
        sum(n * u for n, u in zip(counts, w, strict=True)) for w in ((0.81**2, 0.81, 1), (0.81, 0.9, 1))
    )
    assert lines[-1]["task_effective_count"]["noun"] == pytest.approx(sums**2 / squares)
    refused = pretrain(tmp_path, "steps=4", *excess, "objective.reference=unigram")
    assert "objective.reference was" in refused.stderr


def alter(checkpoint):
    state = checkpoint / "state" / "rank-00000.safetensors"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(bytes(content))


def test_an_altered_checkpoint_is_set_aside_for_the_one_before(pretrain, run, tmp_path):
    shutil.copytree(run, tmp_path / "tiny")
    checkpoints = tmp_path / "tiny" / "checkpoints"
    alter(checkpoints / "step-00000006")
    again = pretrain(tmp_path, "steps=8", "checkpoint.every=2")
    assert again.returncode == 0, again.stderr
    assert "altered since it was saved: set aside as damaged-step-00000006" in again.stderr
    assert "going on after step 4" in again.stderr
    assert {path.name for path in checkpoints.iterdir()} == {
        "damaged-step-00000006",
        "step-00000006",
        "step-00000008",
    }


def test_an_altered_checkpoint_is_not_opened_where_it_is_the_only_one_or_was_named(pretrain, run, tmp_path):
    shutil.copytree(run, tmp_path / "tiny")
    shutil.rmtree(tmp_path / "tiny" / "checkpoints" / "step-00000004")
    only = tmp_path / "tiny" / "checkpoints" / "step-00000006"
    alter(only)
    for resume, name in (("auto", "tiny"), (only, "branch")):
        refused = pretrain(tmp_path, "steps=8", f"checkpoint.resume={resume}", f"name={name}")
        assert refused.returncode == 2
        assert "altered since it was saved" in refused.stderr
    assert only.is_dir()


def test_two_jobs_do_not_train_one_run(pretrain_ranks):
    """The second one is refused while the first one trains, and goes on with the run once that is gone."""
    settings = ("steps=100000", "checkpoint.every=5", "schedule.name=constant")
    first = pretrain_ranks(*settings)
    first.wait_for_steps(6)
    codes, (said,) = pretrain_ranks(*settings).end()
    assert codes == [2]
    assert "another job is training this run; wait for it" in said
    first.processes[0].kill()
    first.end()
    second = pretrain_ranks(*settings)
    second.wait_for_steps(len(first.records) + 1)
    second.processes[0].send_signal(signal.SIGINT)
    codes, (said,) = second.end()
    assert codes == [130]
    assert "told to stop (SIGINT); saved step" in said
