"""The command as tests run it, and Hugging Face folders of an architecture unlike the run files'."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from transformers import BertConfig, BertForPreTraining

from data_prep.schema import read_manifest


@pytest.fixture(scope="session")
def pipeline(ready_python):
    """A command's end; under torchrun, or where `fresh`, its processes import all by themselves."""

    def pipeline(*arguments, ranks=1, fresh=False):
        program = ["-m", "pipeline", *map(str, arguments)]
        if ranks == 1 and not fresh:
            return ready_python.run(*program)
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        return subprocess.run(
            [sys.executable, *(launcher if ranks > 1 else []), *program],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
        )

    return pipeline


@pytest.fixture(scope="session")
def bert_settings(shards):
    return {
        "vocab_size": read_manifest(shards).vocab_size + 3,
        **{"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 40},
        **{"hidden_act": "relu", "layer_norm_eps": 1e-5, "max_position_embeddings": 64, "type_vocab_size": 3},
        "initializer_range": 0.2,
    }


@pytest.fixture
def hf_folder(shards, tmp_path, bert_settings):
    """Saves a fresh model and the shards' tokenizer to a folder, as its author would have."""

    def save(architecture=BertForPreTraining, *, max_shard_size="1GB", dtype=torch.float32, **settings):
        torch.manual_seed(11)
        model = architecture(BertConfig(**bert_settings | settings)).to(dtype)
        folder = tmp_path / "folder"
        model.save_pretrained(folder, max_shard_size=max_shard_size)
        shutil.copy(shards / "tokenizer.json", folder)
        return folder

    return save
