"""Ranks die by `kill -9`, one after another, in steps and in saves; the run ends as if none had."""

import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

HERE = Path(__file__).parent
NUM_STEPS = 24
SECONDS_TO_END = 120
"""Within which a rank ends whose peer is gone."""

SAVING, STEP, ENGINE = "pipeline.engine.saving", "pipeline.engine.step", "deepspeed.runtime.engine"
KILLS = [  # where, the rank, the call that it does not survive, and which of these calls since the start
    ("save", 0, f"{SAVING}:HostCopy.take", 1),
    ("step", 0, f"{STEP}:StepRunner._forward", 1),
    ("save", 1, f"{SAVING}:write_pieces", 1),
    ("step", 1, f"{STEP}:StepRunner._forward", 4),
    ("save", 0, f"{SAVING}:sha256_file", 1),
    # Step 5: the checkpoint of step 2 is complete from now on, since that of step 4 had to wait for it.
    ("step", 0, f"{ENGINE}:DeepSpeedEngine.backward", 9),
    ("start", 1, "pipeline.engine.training:load_progress", 1),
    ("save", 1, f"{SAVING}:sha256_file", 2),
    ("step", 1, f"{ENGINE}:DeepSpeedEngine.backward", 2),
    ("save", 0, f"{SAVING}:save_file", 1),
    ("step", 0, f"{ENGINE}:DeepSpeedEngine.step", 2),
    ("save", 0, f"{SAVING}:fsync_folder", 1),
    ("start", 0, "pipeline.engine.checkpoint:restore_state", 1),
    ("step", 1, f"{ENGINE}:DeepSpeedEngine.step", 9),
    ("save", 0, f"{SAVING}:fsync_path", 3),  # the folder has its name, which is not on disk yet
    ("record", 0, "pipeline.engine.records:Records.append", 2),
    ("save", 1, f"{SAVING}:CheckpointSaver._complete", 1),  # its files are there, rank 0 writes the rest
    ("step", 1, f"{STEP}:StepRunner._all_reduce", 6),
    ("save", 0, f"{SAVING}:complete_checkpoints", 1),  # before older ones go
    ("step", 1, f"{STEP}:StepRunner._forward", 7),
    ("save", 0, f"{SAVING}:CheckpointSaver._whole_parameters", 2),
]


@pytest.mark.slow
def test_a_run_whose_ranks_are_killed_ends_with_the_bits_of_one_that_was_left_alone(pretrain_ranks):
    settings = ("checkpoint.every=2", "log.every=1", f"steps={NUM_STEPS}")
    alone = pretrain_ranks(*settings, name="alone", world_size=2)
    assert alone.end()[0] == [0, 0]

    for _, rank, place, number in KILLS:
        program = (HERE / "kill_rank_at.py", rank, place, number)
        run = pretrain_ranks(*settings, name="killed", world_size=2, program=program)
        codes, said = run.end(seconds=SECONDS_TO_END)
        assert codes[rank] == -signal.SIGKILL, f"rank {rank} did not come by {place}: {said}"
        assert codes[1 - rank] != 0
    killed = pretrain_ranks(*settings, name="killed", world_size=2)
    codes, said = killed.end()
    assert codes == [0, 0], said

    ends = [run.folder / "checkpoints" / f"step-{NUM_STEPS:08d}" for run in (alone, killed)]
    files = [path.relative_to(ends[0]) for path in ends[0].rglob("*.safetensors")]
    assert len(files) == 3  # the parameters, and the state of each rank
    for file in files:
        there, here = (load_file(end / file) for end in ends)
        assert all((there[name] == here[name]).all() for name in there)
    assert [record["step"] for record in killed.records] == list(range(1, NUM_STEPS + 1))
    assert not list((killed.folder / "checkpoints").glob(".*"))
