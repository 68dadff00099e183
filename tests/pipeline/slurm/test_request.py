"""What a job asks SLURM for, by the flags of `pipeline submit` and the batch script that somebody edited."""

import pytest

from data_prep.errors import UserError
from pipeline.config import RunConfig
from pipeline.slurm.request import Wishes, make_request


@pytest.fixture
def request_of(tmp_path, monkeypatch):
    """The request for a script with these lines at its head."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SBATCH_TIMELIMIT", raising=False)

    def request_of(*lines, body="", **wishes):
        (tmp_path / "slurm").mkdir(exist_ok=True)
        head = "".join(f"#SBATCH {line}\n" for line in lines)
        (tmp_path / "slurm" / "pretrain.sh").write_text(f"#!/usr/bin/env bash\n{head}\nset -e\n{body}")
        return make_request(Wishes(**wishes))

    return request_of


def options(request, out_dir="runs"):
    config = RunConfig.model_validate(
        {"name": "first", "out_dir": out_dir, "steps": 5, "data": {"path": "shards"}, "batch": BATCH}
    )
    return [word for word in request.arguments(config, ["run.yaml"]) if word.startswith("--")]


BATCH = {"global_size": 4, "micro_size": 4}


@pytest.mark.parametrize(
    "lines, ranks, gpus",
    [
        (["--gpus-per-node=4   # don't ask for more"], 4, "4"),
        (["--gpus-per-node a100:4"], 4, "a100:4"),
        (["--gres=gpu:4"], 4, "4"),
        (["--gres=nvme:1,gpu:a100:2"], 2, "a100:2"),
        (["--gres=gpu"], 1, "1"),
        (["--gres=nvme:1"], 1, None),
    ],
)
def test_gpus_are_read_in_each_form_that_the_script_may_give_them_in(request_of, lines, ranks, gpus):
    request = request_of("-N 3", *lines)
    assert (request.most_nodes, request.ranks_per_node, request.gpus_per_node) == (3, ranks, gpus)


def test_gpus_are_asked_for_in_the_words_of_the_script(request_of):
    assert "--gres=nvme:1,gpu:h100:2" in options(request_of("--gres=gpu:4,nvme:1", gpus_per_node="h100:2"))
    assert "--gpus-per-node=h100:2" in options(request_of("--gpus-per-node=4", gpus_per_node="h100:2"))
    assert "--gpus-per-node=0" in options(request_of("--gpus-per-node=4", gpus_per_node="0"))
    assert "--gres=gpu:0" in options(request_of("--gres=gpu:4", gpus_per_node="0"))


@pytest.mark.parametrize(
    "flags, lines, cores",
    [
        ({}, ["--cpus-per-task=8"], 8),
        ({}, ["--cpus-per-task=8", "--gpus-per-node=4"], 32),
        ({"cpus_per_rank": 3, "ranks_per_node": 2}, ["--cpus-per-task=8"], 6),
    ],
)
def test_a_node_has_cores_for_each_of_its_ranks(request_of, flags, lines, cores):
    assert f"--mincpus={cores}" in options(request_of(*lines, **flags))


def test_the_script_is_told_how_many_ranks_a_node_has_where_gpus_do_not_say(request_of):
    assert "--export=ALL,RANKS_PER_NODE=2" in options(request_of(ranks_per_node=2))
    assert not [each for each in options(request_of(gpus_per_node="2")) if "export" in each]


@pytest.mark.parametrize(
    "time, signal, is_refused",
    [
        ("10", "B:USR2@300", False),
        ("9", "B:USR2@300", True),
        ("0:09:59", "B:USR2@300", True),
        ("1-0", "B:USR2@300", False),
        ("UNLIMITED", "B:USR2@300", False),
        ("1:30", "B:USR2", True),
    ],
)
def test_a_time_that_is_hardly_more_than_the_notice_is_refused(request_of, time, signal, is_refused):
    if not is_refused:
        assert request_of(f"--signal={signal}", time=time).time == time
        return
    with pytest.raises(UserError, match="would hardly train"):
        request_of(f"--signal={signal}", time=time)
    assert request_of(f"--signal={signal}", time=time, options=["--signal=B:USR2@10"]).time == time


def test_lines_after_the_first_command_count_for_nothing_as_with_sbatch(request_of):
    assert request_of("--nodes=2", body="#SBATCH --nodes=8\n").most_nodes == 2


@pytest.mark.parametrize(
    "line, reason",
    [
        ("--ntasks=8", "--ntasks does not say what each node has; write --mincpus"),
        ("--ntasks-per-node=4", "write --mincpus, and RANKS_PER_NODE where it runs on CPUs"),
        ("-G 8", "--gpus does not say what each node has; write --gpus-per-node"),
        ("--gpus-per-task=1", "write --gpus-per-node"),
        ("--cpus-per-task=many", "invalid int value: 'many'; mend them"),
        ("--nodes", "expected one argument; mend them"),
        ("--nodes=some", "is no number of nodes"),
        ("--comment='half", "No closing quotation; mend them"),
    ],
)
def test_a_script_that_does_not_say_how_many_ranks_there_are_is_refused_by_name(request_of, line, reason):
    with pytest.raises(UserError, match=r"slurm/pretrain\.sh") as refused:
        request_of(line)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    "option", ["--nodes=3", "--nod=3", "-N3", "-t10", "--gpus=2", "--gres=gpu:2", "--array=0-3", "--wrap=ls"]
)
def test_what_the_checks_go_by_cannot_be_changed_behind_them(request_of, option):
    with pytest.raises(UserError, match="`pipeline submit` decides"):
        request_of(options=[option])


@pytest.mark.parametrize("option", ["--qos=long", "--gres=nvme:1", "--mem=0", "--nodelist=node7", "-H"])
def test_other_options_of_sbatch_are_handed_on(request_of, option):
    assert option in request_of(options=[option]).arguments(
        RunConfig.model_validate({"name": "a", "steps": 5, "data": {"path": "s"}, "batch": BATCH}), []
    )


def test_a_job_to_wait_for_is_a_number(request_of):
    assert "--dependency=afterok:12_3" in options(request_of(after="12_3"))
    with pytest.raises(UserError, match="give the number of a job"):
        request_of(after="12,singleton")


def test_a_folder_is_named_to_sbatch_so_that_it_takes_it_literally(request_of):
    assert "--output=50%% done; more/first/slurm/log" in options(request_of(), "50% done; more")
    with pytest.raises(UserError, match="line breaks"):
        options(request_of(), "two\nlines")
