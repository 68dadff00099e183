"""`pipeline pretrain` with `model.init_from`: what it starts from, says, keeps, and no longer needs."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertForMaskedLM, BertForPreTraining, BertTokenizer

from data_prep.corpus.embedded import embedded_corpus
from data_prep.durable import sha256_file

TINY = Path(__file__).parents[3] / "configs" / "tiny.yaml"
QUICK = ["data.num_workers=0", "batch.global_size=12", "batch.micro_size=4", "validate.every=0"]


@pytest.fixture
def pretrain(pipeline, shards, tmp_path):
    def pretrain(*overrides, run_file=TINY, ranks=1):
        keys = [f"out_dir={tmp_path}", f"data.path={shards}", *QUICK, *overrides]
        return pipeline("pretrain", run_file, *keys, ranks=ranks)

    return pretrain


def finished(process):
    assert process.returncode == 0, process.stderr
    return process


def validation(run):
    return json.loads((run / "validation.jsonl").read_text().splitlines()[-1])


def test_an_export_goes_on_with_the_validation_loss_of_its_checkpoint(pipeline, pretrain, tmp_path):
    finished(pretrain("name=first", "model.hidden_size=32", "steps=4", "validate.every=4"))
    finished(pipeline("export", tmp_path / "first", tmp_path / "exported"))
    still = ["steps=1", "schedule.warmup_steps=0", "optimizer.lr=1e-30", "validate.every=1"]
    going_on = [f"model.init_from={tmp_path / 'exported'}", "model.size=null", "name=second"]
    said = finished(pretrain(*going_on, *still, ranks=2)).stderr
    assert said.count(f"starting from {tmp_path / 'exported'}\n") == 1
    before, after = validation(tmp_path / "first"), validation(tmp_path / "second")
    assert after["mask_hash"] == before["mask_hash"]
    assert after["task_loss"] == pytest.approx(before["task_loss"], rel=1e-6)
    finished(pretrain("model.hidden_size=32", "name=fresh", *still))
    assert validation(tmp_path / "fresh")["task_loss"] != pytest.approx(before["task_loss"], rel=1e-4)


def test_a_run_needs_its_folder_only_to_start(hf_folder, pipeline, pretrain, shards, tmp_path):
    folder = hf_folder(BertForMaskedLM)
    keys = [f"model.init_from={folder}", "model.size=null", "checkpoint.every=2"]
    said = finished(pretrain(*keys, "steps=4")).stderr
    assert (
        f"{tmp_path / 'tiny'}: starting from {folder}; not in it, so initialised with the seed: "
        "bert.pooler.dense, cls.seq_relationship\n"
    ) in said
    checkpoint = tmp_path / "tiny" / "checkpoints" / "step-00000004"
    uninterrupted = load_file(checkpoint / "model.safetensors")
    recipe = json.loads((checkpoint / "manifest.json").read_text())["model"]
    assert recipe["warm_start"]["weights_sha256"] == sha256_file(folder / "model.safetensors")

    shutil.rmtree(checkpoint)
    shutil.rmtree(folder)
    resolved = shutil.copy(tmp_path / "tiny" / "config.yaml", tmp_path)
    said = finished(pretrain(run_file=resolved)).stderr
    assert "going on after step 2" in said
    assert "starting from" not in said
    resumed = load_file(checkpoint / "model.safetensors")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in uninterrupted.items())

    refused = pretrain("model.size=null", "steps=6")
    assert refused.returncode == 2
    assert f"model.init_from was '{folder}' there and is None now" in refused.stderr
    finished(pipeline("evaluate", tmp_path / "tiny", "--data", shards))
    finished(pipeline("export", tmp_path / "tiny", tmp_path / "exported"))
    exported = BertForPreTraining.from_pretrained(tmp_path / "exported")
    assert (exported.config.hidden_act, exported.config.layer_norm_eps) == ("relu", 1e-5)


def test_text_prepared_with_a_models_tokenizer_trains_that_model(hf_folder, pretrain, tmp_path):
    folder = hf_folder(vocab_size=64)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{a}" for a in letters), "the"]
    BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}).save_pretrained(folder)
    keys = [f"model.init_from={folder}", "model.size=null", "steps=2"]
    refused = pretrain(*keys)
    assert refused.returncode == 2
    named = refused.stderr.partition("data_prep ")[2].split()
    corpus = tmp_path / "corpus.jsonl"
    texts = [document.text for document in itertools.islice(embedded_corpus(), 60)]
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    places = {"INPUT": corpus, "OUT": tmp_path / "shards"}
    command = [places.get(word, word) for word in named]
    prepare = [sys.executable, "-m", "data_prep", *command, "--sequence-length", "48"]
    subprocess.run(list(map(str, prepare)), check=True)
    said = finished(pretrain(*keys, f"data.path={tmp_path / 'shards'}")).stderr
    assert f"starting from {folder}\n" in said
