"""Ranks that were not started alike are all refused before the first step, in one line that says why."""

import json
import shutil
import socket
from pathlib import Path

import pytest

from data_prep.schema import manifest_files, read_manifest
from pipeline.engine.preflight import disagreement

ROOT = Path(__file__).parents[3]
HOST = socket.gethostname()


@pytest.fixture
def refusal_of(pretrain_ranks):
    """The one line that every rank of a run ends with, the run having left nothing."""

    def refusal_of(*overrides, own, world_size=2, fresh=False):
        # Each is the first rank of its host: those are the ones that speak.
        run = pretrain_ranks(*overrides, own=own, world_size=world_size, fresh=fresh, LOCAL_RANK="0")
        codes, said = run.end()
        assert codes == [2] * world_size, said
        (line,) = {text.removesuffix("\n") for text in said}
        assert "\n" not in line
        assert not run.folder.exists()
        return line.removeprefix("pipeline: error: ")

    return refusal_of


@pytest.fixture
def folders(tmp_path):
    """A working folder for each of two ranks, as on hosts that share no disk."""
    folders = [tmp_path / "host0", tmp_path / "host1"]
    for folder in folders:
        folder.mkdir()
    return folders


def each_in(folders):
    return {rank: {"cwd": folder} for rank, folder in enumerate(folders)}


def test_another_number_of_steps_is_refused(refusal_of):
    assert refusal_of(own={1: {"overrides": ["steps=6"]}}) == (
        f"configuration: steps is 20 on rank 0 ({HOST}) but 6 on rank 1 ({HOST}); "
        "start all ranks with the same run file and overrides"
    )


def test_the_odd_one_among_three_ranks_is_told_from_the_others(refusal_of):
    changes = ["objective.alpha=2", "seed=1"]
    assert refusal_of(own={0: {"overrides": changes}}, world_size=3) == (
        f"configuration: seed is 0 on ranks 1, 2 ({HOST}) but 1 on rank 0 ({HOST}) (2 differences in all); "
        "start all ranks with the same run file and overrides"
    )


def test_other_shards_in_the_same_place_are_refused(refusal_of, shards, folders):
    for folder in folders:
        shutil.copytree(shards, folder / "shards")
    manifest = read_manifest(shards)
    other = manifest.model_copy(update={"sources": manifest.sources[1:]})
    for name, content in manifest_files(other).items():
        (folders[1] / "shards" / name).write_bytes(content)
    line = refusal_of("data.path=shards", own=each_in(folders))
    assert line.startswith("data: shards_sha256 is ")
    assert line.endswith("; give all ranks the same")


def test_another_deepspeed_json_in_the_same_place_is_refused(refusal_of, folders):
    for stage, folder in enumerate(folders, start=1):
        (folder / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": stage}}))
    assert refusal_of("deepspeed=ds.json", own=each_in(folders)) == (
        f"DeepSpeed JSON: zero_optimization.stage is 1 on rank 0 ({HOST}) but 2 on rank 1 ({HOST}); "
        "give all ranks the same file"
    )


def test_another_version_of_a_library_is_refused(refusal_of, folders):
    installed = folders[1] / "safetensors-99.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: safetensors\nVersion: 99.0\n")
    line = refusal_of(own={1: {"environment": {"PYTHONPATH": str(folders[1])}}}, fresh=True)
    assert line.startswith("version: safetensors is ")
    assert line.endswith(f" but 99.0 on rank 1 ({HOST}); install the same one on all hosts")


def test_other_code_of_the_same_version_is_refused(refusal_of, folders):
    shutil.copytree(ROOT / "pipeline", folders[1] / "pipeline")
    loop = folders[1] / "pipeline" / "engine" / "step.py"
    loop.write_text(loop.read_text() + "\n# stale\n")
    line = refusal_of(own={1: {"cwd": folders[1]}}, fresh=True)
    assert line.startswith("code: pipeline/engine/step.py is ")
    assert line.endswith(f" on rank 1 ({HOST}); install or check out the same on all hosts")


def test_a_thousand_ranks_are_refused_in_one_short_line():
    hosts = [f"node{rank // 8}" for rank in range(1_000)]
    settings = [{"lr": "0.5" if host == "node17" else "0.001"} for host in hosts]
    assert disagreement(hosts, [{"configuration": values} for values in settings]) == (
        "configuration: lr is "
        "0.001 on ranks 0, 1, 2, 3 and 988 more (node0, node1, node2, node3 and 120 more hosts) but "
        "0.5 on ranks 136, 137, 138, 139 and 4 more (node17); "
        "start all ranks with the same run file and overrides"
    )


def test_a_thousand_values_are_refused_in_one_short_line():
    hosts = [f"node{rank}" for rank in range(1_000)]
    settings = [{"out_dir": f"/scratch/{host}" + "/deep" * 100} for host in hosts]
    line = disagreement(hosts, [{"configuration": values} for values in settings])
    assert "and 995 more values" in line
    assert len(line) < 800
