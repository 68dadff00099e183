"""An order of elements that DeepSpeed does not tell is noticed before the first step."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("stage", [1, 2])
def test_an_optimizer_that_holds_other_elements_than_deepspeed_says_is_not_stepped(shards, tmp_path, stage):
    case = {"name": "mixed", "out_dir": str(tmp_path), "stage": stage, "start": None}
    case["zero"] = {"round_robin_gradients": True}  # which a run file's JSON may not ask for
    (tmp_path / "cases.json").write_text(json.dumps([case]))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    worker = [Path(__file__).with_name("training_worker.py"), tmp_path / "cases.json", shards]
    ended = subprocess.run(
        [sys.executable, *launch, *map(str, worker)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode != 0
    assert "DeepSpeed's optimizer holds other elements than DeepSpeed says" in ended.stderr
    assert not (tmp_path / "mixed").exists()
