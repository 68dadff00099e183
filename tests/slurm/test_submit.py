"""`pipeline submit` on a real cluster: what is handed in, what is shown, and what is refused before."""

import json
import shutil

import pytest

RUN = ("run.yaml", "data.path=shards")
HELD = ("--", "--hold")


@pytest.fixture
def queue(cluster):
    """Numbers of the jobs that wait or run, and what SLURM knows of one."""

    def ids():
        return cluster.ask("squeue", "--noheader", "--format=%i").split()

    return ids


def test_a_dry_run_shows_the_job_in_80_columns_and_leaves_queue_and_folder_alone(pipeline, queue, submit_dir):
    answer = pipeline("submit", *RUN, "--nodes", 2, "--gpus-per-node", 2, "--time", "0:10:00", "--dry-run")
    assert answer.code == 0, answer.errors
    assert all(len(line) <= 80 or str(submit_dir) in line for line in answer.text.splitlines())
    assert answer.facts["run"] == "runs/tiny, 20 steps"
    assert answer.facts["ranks"] == "2 nodes × 2 GPUs = 4 ranks"
    assert answer.facts["a step"] == "32 sequences = 2 micro-batches of 16"
    assert answer.facts["memory"].endswith("per rank at ZeRO stage 1")
    assert "2 of them" in answer.facts["checkpoint"]
    assert answer.facts["time limit"] == "0:10:00"
    assert "SLURM would start it at" in answer.text
    assert queue() == []
    assert not (submit_dir / "runs").exists()


def test_sbatch_takes_the_command_line_that_is_shown(pipeline, cluster, submit_dir):
    answer = pipeline("submit", *RUN, "out_dir=all my runs", "--cpus-per-rank", 1, "--dry-run")
    shown = answer.text[answer.text.index("sbatch ") :].split("\n\n")[0]
    taken = cluster.run("bash", "-c", shown.replace("sbatch", "sbatch --test-only", 1), cwd=submit_dir)
    assert taken.returncode == 0, shown


def test_a_submitted_run_trains_on_the_ranks_it_was_given_and_is_refused_when_it_is_done(
    pipeline, cluster, submit_dir
):
    answer = pipeline("submit", *RUN, "data.num_workers=0", "--nodes", 2, "--cpus-per-rank", 1, "--time", 10)
    job = answer.job
    assert answer.text.splitlines()[-3:] == [
        "    pipeline status runs/tiny",
        "    pipeline tail runs/tiny --follow",
        "    tail -F runs/tiny/slurm/log",
    ]
    cluster.wait_for_job(job, "COMPLETED", timeout_s=240)
    run = submit_dir / "runs" / "tiny"
    manifest = json.loads((run / "checkpoints" / "step-00000020" / "manifest.json").read_text())
    assert manifest["world_size"] == 2
    assert f"job {job} on node[1-2]" in (run / "slurm" / "log").read_text()

    facts = pipeline("status", "runs/tiny").facts
    assert facts["state"].startswith(f"done, job {job}")
    assert facts["step"].startswith("20 of 20 (100%)")
    assert facts["checkpoint"].startswith("step 20")

    again = pipeline("submit", *RUN, "data.num_workers=0")
    assert again.code == 2
    assert "the run is at its last step, 20; give more: steps=N" in again.errors[-1]
    more = pipeline("submit", *RUN, "data.num_workers=0", "steps=40", "--dry-run")
    assert more.facts["run"] == "runs/tiny, 40 steps, from step-00000020"


def test_slurm_gives_each_gpu_a_rank_and_the_job_names_its_run(pipeline, cluster, submit_dir):
    wanted = ("--nodes", 2, "--gpus-per-node", 2, "--time", 30, "--partition", "main", "--cpus-per-rank", 3)
    job = cluster.job(pipeline("submit", *RUN, *wanted, *HELD).job)
    assert job["JobState"] == "PENDING"
    assert job["Reason"] == "JobHeldUser"
    assert (job["JobName"], job["Comment"].strip()) == ("tiny", str(submit_dir / "runs" / "tiny"))
    assert job["NumNodes"].startswith("2") and job["MinCPUsNode"] == "6"
    assert job["TresPerNode"] == "gres:gpu:2"
    assert (job["CPUs/Task"], job["TimeLimit"]) == ("3", "00:30:00")
    assert job["StdOut"] == str(submit_dir / "runs" / "tiny" / "slurm" / "log")


def test_an_elastic_run_takes_fewer_nodes_too(pipeline, cluster):
    size = ("--nodes", 3, "--elastic", "--ranks-per-node", 1, "--cpus-per-rank", 1)
    answer = pipeline("submit", *RUN, *size, *HELD)
    assert answer.facts["ranks"] == "1 to 3 nodes × 1 CPU process = up to 3 ranks"
    assert answer.facts["memory"].endswith("on 1 rank")
    assert cluster.job(answer.job)["NumNodes"] == "1-3"


def test_what_no_flag_says_the_script_says(pipeline, submit_dir):
    script = (submit_dir / "slurm" / "pretrain.sh").read_text()
    (submit_dir / "slurm").unlink()
    (submit_dir / "slurm").mkdir()
    lines = "#SBATCH -N 3\n#SBATCH --gpus-per-node=2   # of any type\n#SBATCH --time=0:20:00\n"
    (submit_dir / "slurm" / "pretrain.sh").write_text(
        script.replace("max_restarts=", f"{lines}max_restarts=")
    )
    facts = pipeline("submit", *RUN, "--dry-run").facts
    assert facts["ranks"] == "3 nodes × 2 GPUs = 6 ranks"
    assert facts["time limit"] == "0:20:00"


def test_a_run_has_one_job_unless_the_second_waits_for_the_first(pipeline, cluster, queue):
    first = pipeline("submit", *RUN, *HELD).job
    second = pipeline("submit", *RUN)
    assert second.code == 2
    assert f"job {first} of this run is pending already" in second.errors[-1]
    assert queue() == [first]
    waiting = pipeline("submit", *RUN, "--after", first).job
    assert cluster.job(waiting)["Dependency"].startswith(f"afterok:{first}")
    assert pipeline("submit", *RUN, "name=another", *HELD).job
    cluster.ask("scancel", first, waiting)
    assert pipeline("submit", *RUN, *HELD).job


def test_a_job_that_failed_is_not_waited_for(pipeline, cluster):
    failed = cluster.ask("sbatch", "--parsable", "--output=/dev/null", "--wrap=false")
    cluster.wait_for_job(failed, "FAILED", timeout_s=60)
    refused = pipeline("submit", *RUN, "--after", failed)
    assert refused.code == 2
    assert f"--after {failed}: that job is failed" in refused.errors[-1]


def test_data_that_another_job_makes_may_be_missing(pipeline, cluster):
    before = cluster.ask("sbatch", "--parsable", "--hold", "--wrap=true")
    missing = ("run.yaml", "data.path=later")
    assert "later: no manifest.json" in pipeline("submit", *missing, "--dry-run").errors[-1]
    answer = pipeline("submit", *missing, "--after", f"{before};test", "--dry-run")
    assert answer.code == 0
    assert any(f"later: no shards yet; job {before} must make them" in line for line in answer.errors)


def test_ranks_without_a_micro_batch_are_worth_a_warning(pipeline):
    warnings = pipeline("submit", *RUN, "--nodes", 3, "--dry-run").errors
    assert any("1 of 3 ranks have no micro-batch in the last round: 67%" in line for line in warnings)


def test_precision_is_judged_by_the_nodes_not_by_this_machine(pipeline):
    assert pipeline("submit", *RUN, "precision=fp16", "--gpus-per-node", 2, "--dry-run").code == 0
    refused = pipeline("submit", *RUN, "precision=fp16", "--dry-run")
    assert refused.code == 2
    assert "precision fp16 needs a GPU" in refused.errors[-1]


LARGE = ("model.size=small", "batch.micro_size=8", "deepspeed=zero0.json", "--gpus-per-node", 2)
REFUSED = {
    "a typo": (["stepz=3"], 'unknown key "stepz"'),
    "a contradiction": (["deepspeed=clip.json"], '"gradient_clipping" is 5'),
    "a key that ranks do not divide": (
        ["deepspeed=hpz.json", "--nodes", 3, "--gpus-per-node", 2],
        "zero_hpz_partition_size",
    ),
    "a key that the fewest ranks do not divide": (
        ["deepspeed=hpz.json", "--nodes", 2, "--elastic", "--gpus-per-node", 2],
        "hpz.json, 2 ranks:",
    ),
    "more than a GPU holds": (
        [*LARGE, "--gpu-memory", 0.25],
        "stage 1 fits: deepspeed=ds_configs/zero1.json",
    ),
    "more than a GPU holds at any stage": (
        [*LARGE, "--gpu-memory", 0.1],
        "no stage fits",
    ),
    "a job that would always begin anew": (["checkpoint.resume=never"], "it would begin anew; leave it out"),
    "GPU memory without a GPU": (["--gpu-memory", 80], "give --gpus-per-node"),
    "more than the disk holds": (
        ["model.size=1.3b", "steps=100000", "checkpoint.every=1", "checkpoint.keep_last=9999"],
        "the checkpoints take up to",
    ),
    "a time of which nothing is left": (["--time", "0:08:00"], "give 10 minutes or more"),
    "ranks that share a GPU": (["--gpus-per-node", 2, "--ranks-per-node", 3], "each GPU has one rank"),
    "no number of GPUs": (["--gpus-per-node", "many"], "give a number, or TYPE:NUMBER"),
    "a flag in sbatch's words": (["--", "--nodes=3"], "--nodes after `--`"),
    "what sbatch refuses": (["--partition", "none_such"], "nvalid partition"),
    "more nodes than there are": (["--nodes", 4], "sbatch: allocation failure: Requested node"),
    "a job to wait for that is not there": (["--after", 99999], "SLURM knows no such job"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_what_would_not_train_is_refused_in_one_line_and_not_queued(pipeline, queue, submit_dir, mistake):
    (submit_dir / "clip.json").write_text('{"gradient_clipping": 5}')
    small_buckets = {"stage": 0, "reduce_bucket_size": 1_000_000, "allgather_bucket_size": 1_000_000}
    (submit_dir / "zero0.json").write_text(json.dumps({"zero_optimization": small_buckets}))
    (submit_dir / "hpz.json").write_text('{"zero_optimization": {"stage": 3, "zero_hpz_partition_size": 4}}')
    arguments, reason = REFUSED[mistake]
    answer = pipeline("submit", *RUN, *arguments)
    assert answer.code == 2
    assert reason in answer.errors[-1]
    assert sum("error" in line for line in answer.errors) == 1
    assert queue() == []
    assert not (submit_dir / "runs").exists()


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_shard_that_is_gone_or_cut_short_is_refused(pipeline, queue, submit_dir, split):
    shutil.copytree(submit_dir / "shards", submit_dir / "copied")
    shard = next((submit_dir / "copied" / split).rglob("*.arrow"))
    shard.write_bytes(shard.read_bytes()[:-500])
    cut = pipeline("submit", "run.yaml", "data.path=copied")
    assert cut.code == 2 and str(shard.relative_to(submit_dir)) in cut.errors[-1]
    shard.unlink()
    gone = pipeline("submit", "run.yaml", "data.path=copied")
    assert gone.code == 2 and "missing" in gone.errors[-1]
    assert queue() == []


def test_without_slurm_a_dry_run_checks_all_the_same_and_a_submission_is_one_line(
    pipeline, monkeypatch, tmp_path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = pipeline("submit", *RUN, "--dry-run")
    assert answer.code == 0
    assert "SLURM was not asked: squeue: not on this machine" in " ".join(answer.text.split())
    refused = pipeline("submit", *RUN)
    assert refused.code == 2
    assert refused.errors == ["pipeline: error: squeue: not on this machine; use a login node of the cluster"]
