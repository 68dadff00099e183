"""Weights & Biases for those who ask: what a run sends there, told to a module that writes it down."""

import importlib.util
import json
import os

import pytest

RECORDER = """
import json, os

class Error(Exception):
    pass

class Run:
    def _note(self, **told):
        with open(os.environ["TOLD"], "a") as file:
            file.write(json.dumps(told) + chr(10))

    def log(self, data, step):
        self._note(data=data, step=step)

    def finish(self):
        self._note(finished=True)

def init(project, name, id, resume, dir, config):
    if os.environ.get("NO_KEY"):
        raise Error("api_key not configured (no-tty)")
    run = Run()
    run._note(project=project, name=name, id=id, resume=resume, dir=dir, config=config)
    return run
"""


@pytest.fixture
def train(pretrain_ranks, tmp_path):
    """Runs a training with W&B's stand-in; what W&B was told so far, and what the run said."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "wandb.py").write_text(RECORDER)
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    told = tmp_path / "told.jsonl"

    def train(*overrides, code=0, **environment):
        keys = ("log.wandb=true", "log.wandb_project=robust", "checkpoint.every=2", *overrides)
        ranks = pretrain_ranks(*keys, fresh=True, PYTHONPATH=path, TOLD=str(told), **environment)
        codes, (said,) = ranks.end()
        assert codes == [code], said
        return list(map(json.loads, told.read_text().splitlines())) if told.exists() else [], said

    return train


def test_every_line_goes_there_and_a_run_that_goes_on_stays_the_same_run(train, tmp_path):
    told, _ = train("steps=2", "validate.every=2")
    begin, first, second, held_out, end = told
    assert (begin["project"], begin["name"], begin["resume"]) == ("robust", "tiny", "allow")
    assert begin["dir"] == str(tmp_path / "tiny")
    assert begin["config"]["objective"]["name"] == "minimax"
    assert [first["step"], second["step"], held_out["step"]] == [1, 2, 2]
    (line, _) = map(json.loads, (tmp_path / "tiny" / "metrics.jsonl").read_text().splitlines())
    assert not {"train/time", "train/began"} & first["data"].keys()
    assert first["data"]["train/worst_loss"] == line["worst_loss"]
    assert first["data"]["train/task_weight/noun"] == line["task_weight"]["noun"]
    assert "validation/task_loss/noun" in held_out["data"]
    assert end == {"finished": True}
    told, _ = train("steps=3")
    assert told[5]["id"] == begin["id"]
    assert told[6]["step"] == 3


def test_a_refusal_of_theirs_is_one_line(train):
    _, said = train("steps=2", code=2, NO_KEY="1")
    (line,) = (line for line in said.splitlines() if "error" in line)
    assert line.startswith("pipeline: error: log.wandb: api_key not configured (no-tty); mend that")


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="W&B is installed here")
def test_without_it_the_run_is_refused_before_anything_is_written(pretrain_ranks):
    ranks = pretrain_ranks("log.wandb=true")
    codes, (said,) = ranks.end()
    assert codes == [2]
    assert said.splitlines()[-1] == (
        "pipeline: error: log.wandb: W&B is not installed; pip install wandb, or set log.wandb=false"
    )
    assert not ranks.folder.exists()
