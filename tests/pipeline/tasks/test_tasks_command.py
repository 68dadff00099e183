"""`pipeline tasks`, and runs on what it made: training, validation, going on, branches, refusals."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from data_prep.durable import sha256_file
from data_prep.schema import read_manifest
from pipeline.data.shards import Shards
from pipeline.data.task_file import read_task_file
from pipeline.data.word_tasks import read_word_tasks

TINY = Path(__file__).parents[3] / "configs" / "tiny.yaml"
KEYS = [
    *["data.num_workers=0", "model.hidden_size=32", "batch.global_size=12", "batch.micro_size=4"],
    *["masking.policy=random", "validate.every=2", "validate.num_samples=20", "checkpoint.every=2"],
    *["schedule.total_steps=8", "checkpoint.keep_last=9", "objective.estimator=ema"],
]
MERGE = [
    "content=verb,noun,adjective,adverb",
    "function=determiner,pronoun,preposition,conjunction,interjection",
]
CURVES = ["--num-tasks", 4, "--num-sequences", 200]


class Workplace:
    """A folder of runs and files of tasks."""

    def __init__(self, folder, shards, pipeline):
        self.folder, self.shards, self._pipeline = folder, shards, pipeline

    def call(self, *arguments):
        return self._pipeline(*arguments)

    def make(self, name, way, *arguments):
        """A file of tasks, and what was printed."""
        made = self.call("tasks", way, self.shards, *arguments, "--out", self.folder / name)
        assert made.returncode == 0, made.stderr
        return self.folder / name, made.stdout

    def train(self, name, steps, *overrides):
        keys = [f"data.path={self.shards}", f"out_dir={self.folder}", f"name={name}", f"steps={steps}"]
        return self.call("pretrain", TINY, *KEYS, *keys, *overrides)

    def trained(self, name, steps, *overrides):
        """The folder of a run that was trained."""
        finished = self.train(name, steps, *overrides)
        assert finished.returncode == 0, finished.stderr
        return self.folder / name


@pytest.fixture(scope="module")
def place(tmp_path_factory, shards, pipeline):
    return Workplace(tmp_path_factory.mktemp("tasks"), shards, pipeline)


@pytest.fixture(scope="module")
def plain(place):
    """A run on the shards' own tasks, whose checkpoints are kept."""
    return place.trained("plain", 6, "objective.name=token_mean", "objective.estimator=batch")


@pytest.fixture(scope="module")
def made(place, plain):
    """A file of each kind, with what was printed."""
    return {
        "merge": place.make("merge.json", "merge", *MERGE),
        "random": place.make("random.json", "random", "--seed", 3),
        "loss-curves": place.make("curves.json", "loss-curves", plain, *CURVES),
    }


def records(run, name="metrics.jsonl"):
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def parameters(run, step):
    return load_file(run / "checkpoints" / f"step-{step:08d}" / "model.safetensors")


def rule(run, step):
    return json.loads((run / "checkpoints" / f"step-{step:08d}" / "manifest.json").read_text())["rule"]


def test_a_file_says_how_it_was_made_and_the_command_what_is_in_it(made, shards, plain):
    merged, printed = made["merge"]
    assert read_task_file(merged).task_names == ["content", "function"]
    assert "noun" in next(line for line in printed.splitlines() if "content" in line)
    drawn, printed = made["random"]
    content = read_task_file(drawn)
    assert content.made.settings["seed"] == 3
    assert len(content.assignment.task_of) == read_manifest(shards).vocab_size
    assert "Furthest from a wanted share: 0." in printed
    found, printed = made["loss-curves"]
    content = read_task_file(found)
    assert content.made.method == "loss-curves"
    assert content.task_names == ["group_1", "group_2", "group_3", "group_4"]
    assert list(content.made.settings["checkpoints"]) == ["2", "4", "6"]
    rows = [line.split() for line in printed.splitlines() if line.strip().startswith("group_")]
    final_losses = [float(row[3]) for row in rows]
    assert final_losses == sorted(final_losses)
    assert sum(float(row[1]) for row in rows) == pytest.approx(100, abs=0.1)


def test_the_same_command_makes_the_same_file(place, made, plain):
    again, _ = place.make("again.json", "random", "--seed", 3)
    assert again.read_bytes() == made["random"][0].read_bytes()
    again, _ = place.make("again.json", "loss-curves", plain, *CURVES)
    assert again.read_bytes() == made["loss-curves"][0].read_bytes()


def test_random_tasks_are_as_large_as_those_of_another_file(place, made, shards):
    merged, _ = made["merge"]
    drawn, _ = place.make("sizes.json", "random", "--sizes-of", merged)
    content = read_task_file(drawn)
    assert content.task_names == ["random_1", "random_2"]
    settings = content.made.settings
    assert settings["sizes_of"] == ["content", "function"]
    assert settings["sizes_of_file"] == str(merged)
    assert settings["sizes_of_sha256"] == sha256_file(merged)
    opened = Shards(shards)
    counts = opened.piece_counts()
    wanted, reached = (
        read_word_tasks(path, opened).regrouped(counts).sum(axis=1) for path in (merged, drawn)
    )
    assert reached == pytest.approx(wanted, abs=0.001 * counts.sum())
    again, _ = place.make("again.json", "random", "--sizes-of", drawn)
    assert read_task_file(again).made.settings["sizes_of"] == ["random_1", "random_2"]


@pytest.mark.parametrize("kind", ["merge", "random", "loss-curves"])
def test_training_weighs_the_tasks_of_the_file_and_validation_judges_those_of_the_shards(
    place, made, plain, shards, kind
):
    path, _ = made[kind]
    run = place.trained(kind, 2, f"data.tasks={path}", "objective.name=minimax")
    last, validated = records(run)[-1], records(run, "validation.jsonl")[-1]
    tasks, judged = read_task_file(path).task_names, read_manifest(shards).task_names
    assert list(last["task_count"]) == [*tasks, "untagged", "nsp"]
    assert last["worst_task"] in tasks
    assert sum(last["task_weight"][task] for task in tasks) == pytest.approx(1)
    assert set(validated["task_loss"]) <= {*judged, "nsp"}
    assert validated["worst_task"] in (*judged, None)
    then = records(plain, "validation.jsonl")[0]
    assert validated["mask_hash"] == then["mask_hash"]
    assert validated["task_count"] == then["task_count"]
    # A binary choice that is hardly learned yet: whoever takes a word's loss for it finds another figure.
    assert validated["task_loss"]["nsp"] == pytest.approx(math.log(2), abs=0.2)


@pytest.mark.parametrize("kind", ["merge", "random"])
def test_where_every_label_counts_alike_it_does_not_matter_what_the_tasks_are(place, made, plain, kind):
    keys = ["objective.name=token_mean", "objective.estimator=batch", f"data.tasks={made[kind][0]}"]
    run = place.trained(f"alike-{kind}", 6, *keys)
    here, there = parameters(run, 6), parameters(plain, 6)
    for name, parameter in here.items():
        torch.testing.assert_close(parameter, there[name], rtol=1e-3, atol=2e-5)
    mine, others = records(run, "validation.jsonl")[-1], records(plain, "validation.jsonl")[-1]
    assert mine["task_loss"] == pytest.approx(others["task_loss"], rel=1e-4)


def test_a_run_goes_on_with_its_tasks_wherever_their_file_lies_but_not_with_others(place, made, shards):
    keys = ["objective.name=group_dro", "objective.step_size=0.5"]
    whole = place.trained("whole", 4, f"data.tasks={made['random'][0]}", *keys)
    place.trained("parts", 2, f"data.tasks={made['random'][0]}", *keys)
    moved = shutil.copy(made["random"][0], place.folder / "moved.json")
    parts = place.trained("parts", 4, f"data.tasks={moved}", *keys)
    here, there = parameters(parts, 4), parameters(whole, 4)
    assert all((here[name] == there[name]).all() for name in there)
    assert rule(parts, 4) == rule(whole, 4)
    for tasks in (made["merge"][0], "null"):
        refused = place.train("parts", 6, f"data.tasks={tasks}", *keys)
        assert refused.returncode == 2
        which = "the shards" if tasks == "null" else str(tasks)
        assert f"trained on other tasks than those of {which}; set data.tasks back" in refused.stderr
    resolved = place.call("pretrain", parts / "config.yaml", "steps=6")
    assert resolved.returncode == 0, resolved.stderr
    scored = place.call("evaluate", parts, "--data", shards, "--out", place.folder / "figures.json")
    assert scored.returncode == 0, scored.stderr
    figures = json.loads((place.folder / "figures.json").read_text())
    assert (
        {"verb", "noun"} <= set(figures["checkpoints"][0]["tasks"]) <= set(read_manifest(shards).task_names)
    )


@pytest.mark.parametrize("other", ["data.tasks", "objective.tasks"])
def test_a_branch_may_have_other_tasks_and_knows_nothing_of_the_losses_of_the_trunks(
    place, made, plain, other
):
    trunk = plain / "checkpoints" / "step-00000004"
    tasks = made["random"][0] if other == "data.tasks" else "[verb,noun]"
    name = f"branch-of-{other}"
    keys = ["objective.name=minimax", f"{other}={tasks}", f"checkpoint.resume={trunk}"]
    branch = place.trained(name, 6, *keys)
    seen = [record["task_count"] for record in records(branch)]
    names = ["verb", "noun"] if other == "objective.tasks" else list(seen[0])[:-2]
    first = [records(branch)[0]["task_weight"][name] for name in names if seen[0][name]]
    assert first == pytest.approx([1 / len(first)] * len(first))  # alike, since no loss is known yet
    counts = [0.0] * len(names)
    for counted in seen:
        counts = [0.9 * then + 0.1 * counted[name] for then, name in zip(counts, names, strict=True)]
    assert rule(branch, 6)["ema_counts"] == pytest.approx(counts)


def test_an_excess_objective_that_goes_on_from_another_finds_its_references(place, made, plain):
    trunk = plain / "checkpoints" / "step-00000004"
    keys = ["objective.name=excess", "objective.reference=unigram", f"checkpoint.resume={trunk}"]
    own = place.trained("excess", 6, *keys)
    other = place.trained("excess-of-merged", 6, *keys, f"data.tasks={made['merge'][0]}")
    assert "    noun: " in (own / "config.yaml").read_text()
    assert "    content: " in (other / "config.yaml").read_text()


def test_what_cannot_be_made_is_refused_in_one_line(call_pipeline, made, plain, shards, tmp_path):
    (tmp_path / "one" / "checkpoints").mkdir(parents=True)
    shutil.copytree(
        plain / "checkpoints" / "step-00000002", tmp_path / "one" / "checkpoints" / "step-00000002"
    )
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "empty.yaml").write_text(f"none: []\nall: [{MERGE[0][8:]},{MERGE[1][9:]}]")
    (tmp_path / "text.json").write_text("tasks: 3")
    stranger = json.loads(made["merge"][0].read_text()) | {"tokenizer_sha256": "0" * 64}
    (tmp_path / "stranger.json").write_text(json.dumps(stranger))
    written, old = tmp_path / "tasks.json", shutil.copy(made["random"][0], tmp_path / "old.json")
    out, two = ["--out", written], ["--num-tasks", 2]
    for arguments, expected in (
        ([], "no command given"),
        (["shuffle", shards, *out], "No such command 'shuffle'"),
        (["merge", shards, *MERGE], "Missing option '--out'"),
        (["merge", shards, *out], "Missing argument 'TASK=A,B'"),
        (["merge", shards, *out, MERGE[0]], "interjection of the shards stand in no task; add them to one"),
        (["merge", shards, *out, f"nsp={MERGE[0][8:]},{MERGE[1][9:]}"], 'but not "nsp" or "untagged"'),
        (["merge", shards, *out, tmp_path / "empty.yaml"], 'nothing belongs to task "none"'),
        (["merge", shards, *out, *MERGE, "none="], '"none=" is not of the form task=first,second'),
        (["random", shards, *out, "--num-tasks", 3], "No such option: --num-tasks"),
        (["random", shards, *out, "--seed", -1], "'--seed': Input should be greater than or equal to 0"),
        (["random", plain, *out], "name the folder of shards that data_prep wrote"),
        (["random", tmp_path / "folder", *out], "manifest.json"),
        (["random", shards, "--out", tmp_path / "folder"], "folder' is a directory"),
        (["random", shards, "--out", tmp_path / "file" / "tasks.json"], "--out: "),
        (["random", shards, *out, "--sizes-of", tmp_path / "no.json"], "no.json' does not exist"),
        (["random", shards, *out, "--sizes-of", tmp_path / "folder"], "folder' is a directory"),
        (["random", shards, *out, "--sizes-of", tmp_path / "text.json"], "--sizes-of: "),
        (["random", shards, *out, "--sizes-of", tmp_path / "stranger.json"], "made for another tokenizer"),
        (["random", shards, "--out", old, "--sizes-of", old], "is the file of --sizes-of; name another"),
        (["loss-curves", shards, plain, *out], "Missing option '--num-tasks'"),
        (["loss-curves", shards, plain, *out, "--num-tasks", 300], "less than or equal to 254"),
        (["loss-curves", shards, *out, *two], "Missing argument 'RUN'"),
        (["loss-curves", shards, shards, *out, *two], "holds shards; name a checkpoint"),
        (["loss-curves", shards, tmp_path / "one", *out, *two], "has one checkpoint, a curve needs"),
        (["loss-curves", shards, tmp_path / "folder", *out, *two], "has no checkpoint, a curve needs"),
        (["loss-curves", shards, tmp_path / "no", *out, *two], "no' does not exist"),
    ):
        code, _, said = call_pipeline("tasks", *arguments)
        assert (code, len(said)) == (2, 1), said
        assert expected in said[0]
    assert not written.exists()
    assert read_task_file(old) == read_task_file(made["random"][0])


@pytest.mark.parametrize("way", [[], ["merge"], ["random"], ["loss-curves"]])
def test_each_way_to_make_tasks_shows_an_example(call_pipeline, way):
    code, printed, _ = call_pipeline("tasks", *way, "--help")
    assert code == 0
    assert f"Example: pipeline tasks {' '.join(way)}" in printed


def test_tasks_of_a_file_go_with_random_masking_alone(place, call_pipeline, made, shards):
    keys = [
        f"data.path={shards}",
        f"data.tasks={made['merge'][0]}",
        f"out_dir={place.folder}",
        "name=refused",
    ]
    code, _, said = call_pipeline("pretrain", TINY, *keys)
    assert (code, len(said)) == (2, 1)
    assert "data.tasks is for masking.policy random, not for group" in said[0]
    assert "set masking.policy=random" in said[0]
