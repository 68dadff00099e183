"""The whole path as a user runs it: corpus, shards, two runs, comparison, export."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertForPreTraining
from transformers import pipeline as transformers_pipeline

from data_prep.tagging.tag_map import load_tag_map
from pipeline.assembly import model_from_checkpoint
from pipeline.engine.checkpoint import read_manifest
from pipeline.engine.run_folder import find_checkpoint

TASK_NAMES = load_tag_map().task_names

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, "-m", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def runs(shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("e2e")
    for name in ("average", "minimax"):
        keys = [f"data.path={shards}", f"out_dir={folder}", f"name={name}", f"objective.name={name}"]
        longer = ["steps=30", "schedule.warmup_steps=5", "optimizer.lr=3e-3"]
        finished = run("pipeline", "pretrain", TINY, *keys, *longer)
        assert finished.returncode == 0, finished.stderr
    return folder


@pytest.fixture(scope="module")
def comparison(runs, shards):
    out = runs / "comparison.json"
    checkpoints = [runs / "average", runs / "minimax"]
    finished = run("pipeline", "evaluate", *checkpoints, "--data", shards, "--out", out)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout, json.loads(out.read_text())


@pytest.fixture(scope="module")
def exported(runs):
    finished = run("pipeline", "export", runs / "minimax", runs / "exported")
    assert finished.returncode == 0, finished.stderr
    return runs / "exported"


def test_the_comparison_shows_every_task_the_worst_and_the_average(comparison):
    screen, figures = comparison
    for word in (*TASK_NAMES[:8], "worst task", "average loss", "unigram", "95 % interval"):
        assert word in screen
    for checkpoint in figures["checkpoints"]:
        tasks = checkpoint["tasks"]
        judged = {name: task["loss"]["value"] for name, task in tasks.items() if task["judged"]}
        assert checkpoint["worst_task"] == max(judged, key=judged.get)
        assert checkpoint["average_loss"] == pytest.approx(sum(judged.values()) / len(judged))
        for task in tasks.values():
            assert task["loss"]["low"] <= task["loss"]["value"] <= task["loss"]["high"]


def test_both_runs_learned_from_the_text(comparison):
    for checkpoint in comparison[1]["checkpoints"]:
        assert checkpoint["average_loss"] < math.log(1_000) - 0.5


def test_every_checkpoint_is_judged_on_the_same_words(comparison, runs, shards):
    again = run("pipeline", "evaluate", runs / "minimax", "--data", shards, "--out", runs / "again.json")
    assert again.returncode == 0, again.stderr
    figures = json.loads((runs / "again.json").read_text())
    assert figures["mask_hash"] == comparison[1]["mask_hash"]
    assert figures["checkpoints"][0] == comparison[1]["checkpoints"][1]


def test_the_exported_model_gives_the_logits_of_the_trained_one(runs, exported):
    checkpoint = find_checkpoint(runs / "minimax")
    ours, _ = model_from_checkpoint(checkpoint, read_manifest(checkpoint))
    theirs = BertForPreTraining.from_pretrained(exported).eval()
    tokenizer = AutoTokenizer.from_pretrained(exported)
    inputs = tokenizer("The method returns a [MASK].", "It don't raise.", return_tensors="pt")
    assert inputs["token_type_ids"].max() == 1
    with torch.no_grad():
        expected, actual = ours.network(**inputs), theirs(**inputs)
    assert torch.equal(actual.prediction_logits, expected.prediction_logits)
    assert torch.equal(actual.seq_relationship_logits, expected.seq_relationship_logits)


def test_the_checkpoint_and_the_export_hold_the_same_parameters(runs, exported):
    trained = load_file(find_checkpoint(runs / "minimax") / "model.safetensors")
    theirs = dict(BertForPreTraining.from_pretrained(exported).named_parameters())
    assert trained.keys() == theirs.keys()
    assert all(torch.equal(trained[name], theirs[name]) for name in trained)


def test_transformers_fills_masks_with_the_exported_folder(exported):
    fill = transformers_pipeline("fill-mask", str(exported))
    assert len(fill("the function returns [MASK] string.")) == 5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["evaluate", "/nowhere", "--data", "{shards}"], "/nowhere: neither a checkpoint"),
        (["evaluate", "{runs}/average", "--data", "/nowhere"], "/nowhere: no manifest.json"),
        (
            ["evaluate", "{runs}/average", "--data", "{shards}", "--split", "train"],
            "is not one of 'test', 'validation'",
        ),
        (["evaluate", "{runs}/average"], "--data"),
        (["export", "{runs}/average", "{runs}"], "already holds files"),
        (["exprot"], "exprot"),
    ],
)
def test_each_mistake_is_one_line(runs, shards, arguments, expected):
    refused = run("pipeline", *(argument.format(runs=runs, shards=shards) for argument in arguments))
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert expected in line


def test_shards_with_another_tokenizer_are_refused(runs, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(f"The old man number {n} saw a dog, and ran." for n in range(300)))
    prepared = run("data_prep", "text", corpus, "--out", tmp_path / "shards")
    assert prepared.returncode == 0, prepared.stderr
    refused = run("pipeline", "evaluate", runs / "average", "--data", tmp_path / "shards")
    assert refused.returncode == 2
    assert "trained with another tokenizer" in refused.stderr
