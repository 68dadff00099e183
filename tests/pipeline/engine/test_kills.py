"""Ranks die by `kill -9`, one after another, in steps and in saves; the run ends as if none had."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

HERE = Path(__file__).parent
TINY = HERE.parents[2] / "configs" / "tiny.yaml"
NUM_STEPS = 16
SECONDS_TO_END = 60
"""Within which a rank ends whose peer is gone."""

CHECKPOINT, STEP, ENGINE = "pipeline.engine.checkpoint", "pipeline.engine.step", "deepspeed.runtime.engine"
KILLS = [  # where, the rank, the call that it does not survive, and which of these calls since the start
    ("save", 0, f"{CHECKPOINT}:write_state", 1),
    ("step", 0, f"{STEP}:StepRunner._forward", 1),
    ("save", 1, f"{CHECKPOINT}:write_state", 1),
    ("step", 1, f"{STEP}:StepRunner._forward", 4),
    ("save", 0, f"{CHECKPOINT}:sha256_file", 1),
    ("step", 0, f"{ENGINE}:DeepSpeedEngine.backward", 5),  # step 3: the first checkpoint is there from now on
    ("start", 1, "pipeline.engine.pretrain:load_progress", 1),
    ("save", 1, f"{CHECKPOINT}:sha256_file", 2),
    ("step", 1, f"{ENGINE}:DeepSpeedEngine.backward", 2),
    ("save", 0, f"{CHECKPOINT}:save_file", 1),
    ("step", 0, f"{ENGINE}:DeepSpeedEngine.step", 2),
    ("save", 0, f"{CHECKPOINT}:fsync_folder", 1),
    ("start", 0, f"{CHECKPOINT}:restore_state", 1),
    ("step", 1, f"{ENGINE}:DeepSpeedEngine.step", 9),
    ("save", 0, f"{CHECKPOINT}:fsync_path", 2),  # the folder has its name, which is not on disk yet
    ("record", 0, "pipeline.engine.metrics:append_line", 2),
    ("save", 1, f"{CHECKPOINT}:full_parameters", 1),
    ("step", 1, f"{STEP}:StepRunner._all_reduce", 6),
    ("save", 0, f"{CHECKPOINT}:complete_checkpoints", 1),  # before older ones go
    ("step", 1, f"{STEP}:StepRunner._forward", 7),
    ("save", 0, f"{CHECKPOINT}:write_state", 2),
]


def ranks(folder, shards, name, program, port):
    """Both ranks, started as srun starts them; their exit codes, and what they said."""
    keys = ["data.num_workers=0", "model.hidden_size=32", "batch.global_size=12", "batch.micro_size=4"]
    keys += ["validate.every=0", "checkpoint.every=2", "log.every=1", f"steps={NUM_STEPS}", f"name={name}"]
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                *program,
                "pretrain",
                str(TINY),
                *keys,
                f"data.path={shards}",
                f"out_dir={folder}",
            ],
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                **{"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
                **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"},
            },
        )
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=SECONDS_TO_END)[1] for process in processes]
    return [process.returncode for process in processes], "".join(said)


@pytest.mark.slow
def test_a_run_whose_ranks_are_killed_ends_with_the_bits_of_one_that_was_left_alone(shards, tmp_path):
    codes, said = ranks(tmp_path, shards, "alone", ["-m", "pipeline"], 29_500)
    assert codes == [0, 0], said

    for number, (_, rank, place, call) in enumerate(KILLS, 1):
        program = [str(HERE / "kill_rank_at.py"), str(rank), place, str(call)]
        codes, said = ranks(tmp_path, shards, "killed", program, 29_500 + number)
        assert codes[rank] == -signal.SIGKILL, f"rank {rank} did not come by {place}: {said}"
        assert codes[1 - rank] != 0
    codes, said = ranks(tmp_path, shards, "killed", ["-m", "pipeline"], 29_499)
    assert codes == [0, 0], said

    ends = [tmp_path / name / "checkpoints" / f"step-{NUM_STEPS:08d}" for name in ("alone", "killed")]
    files = [path.relative_to(ends[0]) for path in ends[0].rglob("*.safetensors")]
    assert len(files) == 3
    for file in files:
        alone, killed = (load_file(end / file) for end in ends)
        assert all((alone[name] == killed[name]).all() for name in alone)
    steps = [
        json.loads(line)["step"] for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps == list(range(1, NUM_STEPS + 1))
    assert not list((tmp_path / "killed" / "checkpoints").glob(".*"))
