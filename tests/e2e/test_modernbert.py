"""The whole path with ModernBERT: a run of two ranks, evaluation, and a folder that transformers loads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from pipeline.assembly import model_from_checkpoint
from pipeline.engine.checkpoint import read_manifest
from pipeline.engine.run_folder import find_checkpoint

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"


def pipeline(*arguments, ranks=1):
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    finished = subprocess.run(
        [sys.executable, *(launcher if ranks > 1 else []), "-m", "pipeline", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
    )
    assert finished.returncode == 0, finished.stderr
    return finished


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory):
    """A run's folder, and what it said."""
    folder = tmp_path_factory.mktemp("modernbert")
    keys = [f"data.path={shards}", f"out_dir={folder}", "model.backbone=modernbert", "data.num_workers=0"]
    longer = ["steps=30", "schedule.warmup_steps=5", "optimizer.lr=3e-3", "validate.every=30"]
    finished = pipeline("pretrain", TINY, *keys, *longer, ranks=2)
    return folder / "tiny", finished.stderr


@pytest.fixture(scope="module")
def exported(trained):
    out = trained[0] / "exported"
    return out, pipeline("export", trained[0], out).stderr


def test_a_run_says_how_attention_is_computed_and_learns(trained):
    run, said = trained
    assert said.count("tiny: attention: SDPA without padding") == 1
    losses = [json.loads(line)["average_loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] - 0.5


def test_evaluation_reads_pieces_alone_as_it_reads_padded_sequences(trained, shards):
    run = trained[0]
    pipeline("evaluate", run, "--data", shards, "--out", run / "unpadded.json")
    manifest = find_checkpoint(run) / "manifest.json"
    content = json.loads(manifest.read_text())
    assert content["config"]["model"]["unpad"] is None
    content["config"]["model"]["unpad"] = False
    manifest.write_text(json.dumps(content))
    pipeline("evaluate", run, "--data", shards, "--out", run / "padded.json")
    content["config"]["model"]["unpad"] = None
    manifest.write_text(json.dumps(content))
    figures = [json.loads((run / f"{name}.json").read_text()) for name in ("unpadded", "padded")]
    (unpadded,), (padded,) = (each["checkpoints"] for each in figures)
    assert "nsp" in padded["others"]
    for kind in ("tasks", "others"):
        for name, task in padded[kind].items():
            loss = unpadded[kind][name]["loss"]["value"]
            assert loss == pytest.approx(task["loss"]["value"], rel=1e-5)


def test_the_export_says_in_a_line_what_it_leaves_out(exported):
    (line,) = [line for line in exported[1].splitlines() if "no place" in line]
    assert "ModernBertForMaskedLM" in line
    assert "next_sentence.dense.weight" in line


def test_transformers_loads_the_export_whole_and_gives_the_same_logits(trained, exported):
    checkpoint = find_checkpoint(trained[0])
    ours, _ = model_from_checkpoint(checkpoint, read_manifest(checkpoint))
    theirs, report = AutoModelForMaskedLM.from_pretrained(exported[0], output_loading_info=True)
    assert not any(report.values())
    tokenizer = AutoTokenizer.from_pretrained(exported[0])
    inputs = tokenizer(["The method returns a [MASK].", "No."], padding=True, return_tensors="pt")
    assert inputs.keys() == {"input_ids", "attention_mask"}
    with torch.no_grad():
        assert torch.equal(theirs.eval()(**inputs).logits, ours.network(**inputs).logits)


def test_as_a_bare_encoder_it_lacks_nothing(trained, exported):
    encoder, report = AutoModel.from_pretrained(exported[0], output_loading_info=True)
    assert not report["missing_keys"]
    weights = load_file(find_checkpoint(trained[0]) / "model.safetensors")
    name = "embeddings.tok_embeddings.weight"
    assert torch.equal(encoder.get_parameter(name), weights[f"model.{name}"])
