"""Mistakes in run files, DeepSpeed JSON, command lines and environments, as their users meet them.

Each is refused by one line that names the place, the key and a remedy, before any data are read: the shards'
data files are broken here, so that whoever opens one says so instead.
"""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from transformers import BertConfig, RobertaConfig

CONFIGS = Path(__file__).parents[2] / "configs"
PLACE_OF_A_RANK = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
NOT_ARROW = "not a readable Arrow stream"


@pytest.fixture
def folder(shards, tmp_path, monkeypatch):
    """Where the user works: `shards` with broken data files, `run.yaml`, and folders of other kinds."""
    shutil.copytree(shards, tmp_path / "shards")
    for path in (tmp_path / "shards").rglob("*.arrow"):
        path.write_text("whoever reads this reads data")
    tiny = yaml.safe_load((CONFIGS / "tiny.yaml").read_text())
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tiny))
    (tmp_path / "step-00000007").mkdir()
    (tmp_path / "step-00000007" / "model.safetensors").touch()
    (tmp_path / "finished" / "checkpoints").mkdir(parents=True)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    write_hf_folders(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in PLACE_OF_A_RANK:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write_hf_folders(folder):
    """`bert`, which lacks nothing but sound weights, and folders that lack more."""
    BertConfig(vocab_size=1_000, hidden_size=24, num_attention_heads=2).save_pretrained(folder / "bert")
    shutil.copy(folder / "shards" / "tokenizer.json", folder / "bert")
    for name in ("pickled", "roberta", "other-pieces", "no-tokenizer"):
        shutil.copytree(folder / "bert", folder / name)
    (folder / "pickled" / "pytorch_model.bin").write_text("whoever opens this opens a pickle")
    RobertaConfig().save_pretrained(folder / "roberta")
    (folder / "no-tokenizer" / "tokenizer.json").unlink()
    tokenizer = (folder / "bert" / "tokenizer.json").read_text()
    other = tokenizer.replace('"lowercase": true', '"lowercase": false')
    (folder / "other-pieces" / "tokenizer.json").write_text(other)
    for name in ("bert", "roberta", "other-pieces", "no-tokenizer"):
        (folder / name / "model.safetensors").write_text("no tensors")


@pytest.fixture
def refusal(folder, call_pipeline):
    """The line with which `pipeline ARGUMENTS` ends, which is only one, and leaves all files as they are."""

    def run(*arguments):
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        code, _, said = call_pipeline(*arguments)
        assert code == 2, said
        assert len(said) == 1, said
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
        return said[0]

    return run


def zero(stage, **keys):
    return {"zero_optimization": {"stage": stage, **keys}}


def nvme(**keys):
    return {"device": "nvme", "nvme_path": "folder", **keys}


RUN_FILES = {
    "a typo": ("seeed: 1", ['run.yaml: unknown key "seeed"', 'did you mean "seed"?']),
    "a typo of a section": ("optimiser: {lr: 1}", ['run.yaml: unknown key "optimiser"', '"optimizer"?']),
    "a typo in a section": (
        "objective: {alhpa: 1}",
        ['"objective.alhpa"', 'did you mean "objective.alpha"?'],
    ),
    "a word for a number": ("optimizer: {lr: fast}", ["run.yaml: optimizer.lr", "valid number", "'fast'"]),
    "a flag for a number": ("steps: on", ["run.yaml: steps: must be a number, not True"]),
    "part of a step": ("steps: 2.5", ["run.yaml: steps", "fractional", "2.5"]),
    "no end": ("optimizer: {lr: .inf}", ["run.yaml: optimizer.lr", "finite number"]),
    "below the least": ("objective: {alpha: -1}", ["objective.alpha", "greater than or equal to 0", "-1"]),
    "above the most": ("masking: {rate: 1.5}", ["masking.rate", "less than 1", "1.5"]),
    "an unknown choice": ("objective: {name: minmax}", ["objective.name", "'minmax'", 'mean "minimax"?']),
    "an unknown precision": ("precision: fp8", ["precision", "'fp32', 'bf16' or 'fp16'", "'fp8'"]),
    "a word for a section": ("objective: minimax", ['"objective" is a section of keys (objective.name,']),
    "two numbers for three": (
        "masking: {corruption: [1, 0]}",
        ['run.yaml: "masking.corruption.2" is missing'],
    ),
    "parts that are no whole": ("masking: {corruption: [0.5, 0, 0]}", ["masking", "sum to 1, not 0.5"]),
    "micro-batches that do not fit": (
        "batch: {global_size: 10, micro_size: 4}",
        ["run.yaml: batch: micro_size 4 does not divide global_size 10"],
    ),
    "an endless warm-up": (
        "schedule: {warmup_steps: 30}",
        ["run.yaml", "schedule.warmup_steps is 30, steps is 20", "lower the one"],
    ),
    "a profile of steps that are not taken": (
        "profile: {steps: [19, 22]}",
        ["run.yaml: profile.steps ends at 22, steps is 20"],
    ),
    "no steps to decay in": ("schedule: {name: warmup_stable_decay}", ["schedule: ", "needs decay_steps"]),
    "steps to decay in that are not for it": (
        "schedule: {name: cosine, decay_steps: 3}",
        ["schedule: decay_steps is for warmup_stable_decay, not for cosine", "leave it out"],
    ),
    "more warm-up and decay than steps": (
        "schedule: {name: warmup_stable_decay, warmup_steps: 11, decay_steps: 10}",
        ["schedule.warmup_steps 11 and schedule.decay_steps 10 are more than steps, 20; lower one"],
    ),
    "an implementation of another rule": (
        "optimizer: {name: lamb, implementation: apex}",
        ["run.yaml: optimizer: implementation is for adamw, not for lamb; leave it out, or change name"],
    ),
    "Apex, which is not there": (
        "optimizer: {implementation: apex}",
        ["optimizer.implementation apex: NVIDIA Apex is not installed; build it", "or leave the key out"],
    ),
    "a quota of no number": (
        "data: {path: shards, quota: {noun: many}}",
        ["data.quota.noun", "valid integer"],
    ),
    "a negative quota": ("data: {path: shards, quota: {noun: -1}}", ["data.quota.noun", "greater than"]),
    "a quota of another batch": (
        "data: {path: shards, quota: {noun: 3}}",
        ["data.quota sums to 3, batch.global_size is 32"],
    ),
    "a quota of an unknown task": (
        "data: {path: shards, quota: {nuon: 32}}",
        ['data.quota: unknown task "nuon"', 'did you mean "noun"?'],
    ),
    "no shards named": ("data: {num_workers: 0}", ['run.yaml: "data.path" is missing', "Folder of shards"]),
    "no shards there": ("data: {path: shardz}", ["shardz: no manifest.json", "make the shards first"]),
    "a checkpoint for shards": ("data: {path: step-00000007}", ["data.path", "is a checkpoint", "shards"]),
    "a run for shards": ("data: {path: finished}", ["data.path: finished is a run"]),
    "shards for a checkpoint": ("checkpoint: {resume: shards}", ["checkpoint.resume: shards holds shards"]),
    "no checkpoint there": ("checkpoint: {resume: nowhere}", ["nowhere: neither a checkpoint"]),
    "a name with a slash": ("name: a/b", ["run.yaml: name", "'a/b'"]),
    "a file where runs go": ("out_dir: file", ["out_dir: file/tiny cannot be written", "file is a file"]),
    "a small vocabulary": (
        "model: {vocab_size: 10}",
        ["model.vocab_size 10 is smaller than the 1000 pieces"],
    ),
    "heads that do not divide": ("model: {hidden_size: 30, num_heads: 4}", ["model", "30", "4"]),
    "fp16 without a GPU": ("precision: fp16", ["precision fp16 needs a GPU", "bf16"]),
    "a name for a folder of a model": (
        "model: {init_from: bert-base-uncased}",
        ["model.init_from: bert-base-uncased: no such folder", "hf download bert-base-uncased --local-dir"],
    ),
    "a folder of no model": ("model: {init_from: folder}", ["model.init_from: folder: has no config.json"]),
    "a checkpoint for a folder of a model": (
        "model: {init_from: finished}",
        ["finished: has no config.json", "pipeline export finished FOLDER"],
    ),
    "a pickled model": ("model: {init_from: pickled}", ["pickled: its weights are pickled", "weights_only"]),
    "a model of another architecture": (
        "model: {init_from: roberta}",
        ['roberta/config.json: model_type is "roberta", model.backbone is bert'],
    ),
    "a model of another size": (
        "model: {init_from: bert, size: tiny}",
        ["model.size tiny has num_hidden_layers 2", "bert/config.json", "has 12"],
    ),
    "a model of another width": (
        "model: {init_from: bert, hidden_size: 32}",
        ["model.hidden_size is 32", "bert/config.json", "has 24"],
    ),
    "a model without a tokenizer": (
        "model: {init_from: no-tokenizer}",
        ["no-tokenizer has neither tokenizer.json nor vocab.txt"],
    ),
    "a model with another tokenizer": (
        "model: {init_from: other-pieces}",
        ["other-pieces has another tokenizer than shards", "lowercase", "--tokenizer other-pieces"],
    ),
    "a model with damaged weights": (
        "model: {init_from: bert}",
        ["model.init_from: bert/model.safetensors: ", "download"],
    ),
    "not YAML": ("name: [x", ["run.yaml: not YAML"]),
    "a key twice": ("seed: 1\nseed: 2", ["run.yaml: not YAML", "duplicate key seed"]),
}


@pytest.mark.parametrize(("content", "expected"), RUN_FILES.values(), ids=RUN_FILES)
def test_a_mistake_in_a_run_file(folder, refusal, content, expected):
    path = folder / "run.yaml"
    try:
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | parsed_once(content)))
    except yaml.YAMLError:
        path.write_text(content)
    said = refusal("pretrain", "run.yaml")
    for part in expected:
        assert part in said


def parsed_once(content):
    """The keys that replace those of the run file; raises YAMLError where they are to stay as they are."""
    keys = [line.partition(":")[0] for line in content.splitlines()]
    if len(keys) != len(set(keys)):
        raise yaml.YAMLError
    return yaml.safe_load(content)


DEEPSPEED_JSON = {
    "a typo": ({"zero_optimisation": {}}, ['unknown key "zero_optimisation"', '"zero_optimization"?']),
    "a typo in a section": (zero(1, stagee=1), ['"zero_optimization.stagee"', 'did you mean "stage"?']),
    "a typo within a section of a section": (
        zero(3, offload_param={"devicee": "cpu"}),
        ['unknown key "zero_optimization.offload_param.devicee"', 'did you mean "device"?'],
    ),
    "a typo of asynchronous reading": ({"aio": {"blocksize": 1}}, ['"aio.blocksize"', '"block_size"?']),
    "no such stage": (zero(4), ['"zero_optimization.stage": must be one of 0, 1, 2, 3, not 4']),
    "a word for a stage": (zero("2"), ['"zero_optimization.stage"', 'not "2"']),
    "a flag for a stage": (zero(True), ['"zero_optimization.stage" is true']),
    "a word for a size": (
        zero(2, reduce_bucket_size="big"),
        ["zero_optimization.reduce_bucket_size", "integer"],
    ),
    "auto for a stage": (zero("auto"), ['"zero_optimization.stage" is "auto", but nothing fills it in']),
    "auto within a section": (
        zero(3, stage3_prefetch_bucket_size="auto"),
        ['"zero_optimization.stage3_prefetch_bucket_size" is "auto", but nothing fills it in'],
    ),
    "auto for a section": ({"bf16": "auto"}, ['"bf16" is "auto"', '{"enabled": "auto"}']),
    "no such device": (
        zero(3, offload_param={"device": "gpu"}),
        ["offload_param.device", "one of none, cpu, nvme", 'not "gpu"'],
    ),
    "offloading to nowhere": (zero(2, offload_optimizer={}), ["offload_optimizer.device", "missing"]),
    "offloading too early": (
        zero(2, offload_param={"device": "cpu"}),
        ['"zero_optimization.offload_param" needs stage 3, "zero_optimization.stage" is 2'],
    ),
    "NVMe at no path": (zero(3, offload_param={"device": "nvme"}), ["offload_param.nvme_path", "missing"]),
    "an optimizer on NVMe": (zero(3, offload_optimizer=nvme()), ["offload_optimizer.device", 'use "cpu"']),
    "a part of the optimizer elsewhere": (
        zero(3, offload_optimizer={"device": "cpu", "ratio": 0.5}),
        ["offload_optimizer.ratio", "must be 1; leave it out"],
    ),
    "gradients in turn": (zero(2, round_robin_gradients=True), ["round_robin_gradients", "leave it out"]),
    "modules by their grain": (
        zero(3, stage3_module_granularity_threshold=100),
        ["stage3_module_granularity_threshold", "leave it out"],
    ),
    "division before the sum at stage 2": (
        {**zero(2), "gradient_predivide_factor": 2.0},
        ['"gradient_predivide_factor" does not go with ZeRO stage 2'],
    ),
    "an old name": (zero(2, cpu_offload=True), ["cpu_offload", "use offload_optimizer"]),
    "another batch": ({"train_batch_size": 64}, ['"train_batch_size" is 64', "(batch.global_size)", "32"]),
    "other micro-batches": ({"train_micro_batch_size_per_gpu": 8}, ["is 8", "(batch.micro_size)", "16"]),
    "other clipping": ({"gradient_clipping": 0.5}, ["is 0.5", "(optimizer.grad_clip)", 'set "auto"']),
    "another precision": ({"fp16": {"enabled": True}}, ['"fp16.enabled" is true', "(precision)", "false"]),
    "a loss scale without fp16": (
        {"fp16": {"initial_scale_power": 8}},
        ['"fp16.initial_scale_power" is set', "(precision)", "fp32"],
    ),
    "an optimizer of its own": ({"optimizer": {"type": "Adam"}}, ['"optimizer"', "(optimizer.name)"]),
    "quantised weights without a GPU": (zero(3, zero_quantized_weights=True), ["needs a GPU"]),
    "groups larger than the world": (zero(3, zero_hpz_partition_size=2), ["2 does not divide 1, the ranks"]),
    "a typo of activation checkpointing": (
        {"activation_checkpointing": {"cpu_checkpoint": True}},
        ['unknown key "activation_checkpointing.cpu_checkpoint"', '"cpu_checkpointing"?'],
    ),
    "a flag of activation checkpointing in words": (
        {"activation_checkpointing": {"cpu_checkpointing": "yes"}},
        ['"activation_checkpointing.cpu_checkpointing" is "yes", but must be of bool'],
    ),
    "checkpoints in host memory without a GPU": (
        {"activation_checkpointing": {"cpu_checkpointing": True}},
        ['"activation_checkpointing.cpu_checkpointing" needs a GPU', "leave it out"],
    ),
    "no checkpoints": (
        {"activation_checkpointing": {"number_checkpoints": 0}},
        ['"activation_checkpointing.number_checkpoints" is 0', "1 or more"],
    ),
    "more checkpoints than layers": (
        {"activation_checkpointing": {"number_checkpoints": 3}},
        ['"activation_checkpointing.number_checkpoints" is 3', "the model has 2 layers"],
    ),
    "checkpoints cut among ranks": (
        {"activation_checkpointing": {"partition_activations": True}},
        ['"activation_checkpointing.partition_activations"', "each has whole layers", "leave it out"],
    ),
    "timers of a function that is not used": (
        {"activation_checkpointing": {"profile": True}},
        ['"activation_checkpointing.profile"', "profile.steps"],
    ),
    "not JSON": ("{", ["not JSON"]),
    "a key twice": ('{"bf16": {}, "bf16": {}}', ['key "bf16" stands twice']),
    "a list": ([], ["a DeepSpeed JSON is an object, not a list"]),
}


@pytest.mark.parametrize(("content", "expected"), DEEPSPEED_JSON.values(), ids=DEEPSPEED_JSON)
def test_a_mistake_in_a_deepspeed_json(folder, refusal, content, expected):
    (folder / "ds.json").write_text(content if isinstance(content, str) else json.dumps(content))
    said = refusal("pretrain", "run.yaml", "--deepspeed", "ds.json")
    for part in ["ds.json", *expected]:
        assert part in said


COMMAND_LINES = {
    "no such run file": (["pretrain", "runn.yaml"], ["runn.yaml: no such run file", '"run.yaml"?']),
    "a folder for a run file": (["pretrain", "folder"], ["folder: is a folder, not a run file"]),
    "an empty run file": (["pretrain", "file"], ['file: "name" is missing']),
    "a typo": (
        ["pretrain", "run.yaml", "optimizer.lrr=1"],
        ['command line: unknown key "optimizer.lrr"', "lr"],
    ),
    "no value": (["pretrain", "run.yaml", "steps"], ['command line: "steps" is not of the form key=value']),
    "a contradiction with the run file": (
        ["pretrain", "run.yaml", "schedule.warmup_steps=30"],
        ["run.yaml and command line", "schedule.warmup_steps is 30, steps is 20"],
    ),
    "no such DeepSpeed JSON": (["pretrain", "run.yaml", "deepspeed=ds.json"], ["ds.json: no such DeepSpeed"]),
    "a folder for a DeepSpeed JSON": (["pretrain", "run.yaml", "--deepspeed", "folder"], ["is a folder"]),
    "a precision that stage 0 does not go with": (
        [
            "pretrain",
            "run.yaml",
            "precision=bf16",
            f"deepspeed={CONFIGS.parent / 'ds_configs' / 'zero0.json'}",
        ],
        ["zero0.json", "precision bf16 does not go with ZeRO stage 0", "use stage 1"],
    ),
    "a checkpoint for shards": (
        ["evaluate", "finished", "--data", "step-00000007"],
        ["--data: step-00000007 is a checkpoint"],
    ),
    "shards for a checkpoint": (
        ["evaluate", "shards", "--data", "shards"],
        ["CHECKPOINT: shards holds shards"],
    ),
    "shards to export": (["export", "shards", "exported"], ["CHECKPOINT: shards holds shards"]),
    "a file on the way to the figures": (
        ["evaluate", "finished", "--data", "shards", "--out", "file/figures.json"],
        ["--out: file/figures.json cannot be written", "is a file"],
    ),
}


@pytest.mark.parametrize(("arguments", "expected"), COMMAND_LINES.values(), ids=COMMAND_LINES)
def test_a_mistake_on_the_command_line(refusal, arguments, expected):
    said = refusal(*arguments)
    for part in expected:
        assert part in said


ENVIRONMENTS = {
    "a rank of no number": ({"RANK": "a"}, ["RANK is 'a'", "must be a number"]),
    "no ranks": ({"WORLD_SIZE": "0"}, ["WORLD_SIZE is '0'", "1 or more"]),
    "a rank beyond the last": ({"RANK": "2"}, ["RANK 2 of WORLD_SIZE 2"]),
    "no such port": ({"MASTER_PORT": "70000"}, ["MASTER_PORT is '70000'", "1 to 65,535"]),
}


@pytest.mark.parametrize(("given", "expected"), ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_a_mistake_in_the_environment_of_a_rank(refusal, monkeypatch, given, expected):
    place = dict(zip(PLACE_OF_A_RANK, ("0", "0", "2", "127.0.0.1", "29500"), strict=True))
    for name, value in (place | given).items():
        monkeypatch.setenv(name, value)
    said = refusal("pretrain", "run.yaml")
    for part in ["environment: ", *expected]:
        assert part in said


def test_a_tokenizer_that_is_not_the_shards(folder, refusal):
    with (folder / "shards" / "tokenizer.json").open("a") as file:
        file.write(" ")
    assert "tokenizer.json: not the tokenizer that the manifest describes" in refusal("pretrain", "run.yaml")


def test_shards_with_another_tokenizer_than_a_checkpoints(folder, refusal):
    recipe = {"tokenizer_sha256": "0" * 64}
    write_checkpoint(folder / "step-00000007", recipe)
    said = refusal("pretrain", "run.yaml", "checkpoint.resume=step-00000007")
    assert "step-00000007: shards is not what it was trained on" in said


def write_checkpoint(folder, recipe):
    manifest = {
        **{"step": 7, "tokens": 0, "config": {}, "model": recipe, "rule": {}, "guard": {}},
        **{"optimizer": {"num_steps": 7, "loss_scale": None}, "world_size": 1, "zero_stage": 1, "files": {}},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_without_a_mistake_the_data_would_have_been_read(refusal):
    assert NOT_ARROW in refusal("pretrain", "run.yaml")
