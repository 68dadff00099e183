"""What comes before a job: refused by each rank alone, then agreed upon by all."""

from pathlib import Path

from safetensors.torch import load_file, save_file


def test_a_folder_is_loaded_only_when_the_ranks_agree(hf_folder, pretrain_ranks):
    weights = hf_folder() / "model.safetensors"
    whole = load_file(weights)
    lost = next(name for name in whole if "encoder" in name)  # which loading it would tell
    save_file({name: whole[name] for name in whole if name != lost}, weights, metadata={"format": "pt"})
    keys = [f"model.init_from={weights.parent}", "model.size=null", "model.hidden_size=null"]
    run = pretrain_ranks(*keys, own={1: {"overrides": ["seed=1"]}}, world_size=2, LOCAL_RANK="0")
    codes, said = run.end()
    assert codes == [2, 2], said
    (line,) = set(said)
    assert "configuration: seed is 0 on rank 0" in line
    assert lost not in line


def test_a_first_rank_that_cannot_count_flops_fails_before_others_have_joined_it(pretrain_ranks):
    program = [Path(__file__).with_name("fail_counting.py")]
    run = pretrain_ranks("timeout_s=5", world_size=2, program=program, LOCAL_RANK="0")
    codes, (of_first, of_second) = run.end()
    assert codes == [1, 1]
    assert "no such operation" in of_first
    assert of_second.splitlines()[-1].startswith("pipeline: error: rank 1: the 2 ranks did not meet")
