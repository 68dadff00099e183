"""From texts to a trained run, on a real cluster that takes nodes away."""

from pipeline.engine.stop import STOPPED

from .conftest import SMALL_SHARDS
from .job import RUN, STEPS, Job

NEW = "data.path=new"


def test_a_run_that_waits_for_its_shards_is_preempted_and_loses_a_node_ends_as_one_that_is_left_alone(
    cluster, submit_dir, pipeline, prepare, push_out, same_end
):
    merge = prepare().stdout.strip()
    ranks = ("--nodes", 2, "--cpus-per-rank", 1, "--time", 10, "--after", merge)
    answer = pipeline("submit", *RUN, NEW, "name=disturbed", *ranks)
    assert any(f"new: no shards yet; job {merge} must make them" in line for line in answer.errors)
    job = Job(cluster, answer.job, submit_dir / "runs" / "disturbed")
    job.wait_for_step(20, timeout_s=300)
    push_out(num_nodes=3, seconds=1)

    verified = cluster.run(".venv/bin/data_prep", "verify", "new", cwd=submit_dir)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    again = prepare("--dry-run").stderr.splitlines()
    assert again == ["sbatch --array=0 slurm/data_prep.sh last new texts " + " ".join(SMALL_SHARDS)]

    job.wait_for_attempt(2)
    stopped, then = job.attempts
    assert stopped.exit_code == STOPPED
    assert stopped.saved_step == stopped.logged_step == then.saved_step_before, "no step is taken twice"
    assert stopped.saved_step < STEPS - 40, "the rest of this test needs some"
    assert then.restart == 1, "SLURM and the job itself do not both restart it"
    job.wait_for_step(stopped.saved_step + 15)
    assert f"saved step {stopped.saved_step} of {STEPS}; the same command goes on from there" in job.log
    assert f"going on after step {stopped.saved_step}\n" in job.log

    lost = job.nodes[1]
    cluster.kill_node(lost)
    facts = job.end()
    assert lost not in job.nodes
    assert facts["Restarts"] == "2"
    cluster.start_node(lost)
    same_end(job, NEW)
