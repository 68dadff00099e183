"""`pipeline study` from a study file to its report; stopped and killed on the way; never mixed."""

import csv
import json
import shutil
import signal
import time

import psutil
import pytest

from pipeline.engine.stop import STOPPED

SPLITS, KINDS = ("validation", "test"), ("task", "worst", "average")


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def wait_for(found, seconds=240):
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes_of(folder):
    """Numbers of processes whose command line names something below a folder."""
    return [process.pid for process in psutil.process_iter(["cmdline"]) if names(process, folder)]


def names(process, folder):
    return any(str(folder) in argument for argument in process.info["cmdline"] or ())


@pytest.fixture
def copied(complete, tmp_path):
    """A complete study elsewhere, to be altered."""
    shutil.copytree(complete.folder, tmp_path / "copy")
    copy = type(complete)(tmp_path / "copy", complete.content["overrides"]["data.path"])
    return copy


def test_every_run_has_a_row_for_each_split_and_task(complete):
    found = rows(complete.folder / "out" / "results.csv")
    runs = {(row["arm"], row["seed"]) for row in found}
    assert runs == {(arm, seed) for arm in ("average", "minimax") for seed in "01"}
    for split in SPLITS:
        for arm, seed in runs:
            of_run = [row for row in found if (row["arm"], row["seed"], row["split"]) == (arm, seed, split)]
            judged = [float(row["loss"]) for row in of_run if row["judged"] == "1"]
            by_kind = {kind: [row for row in of_run if row["metric"] == kind] for kind in KINDS}
            assert len(judged) >= 3
            assert float(by_kind["worst"][0]["loss"]) == max(judged)
            assert float(by_kind["average"][0]["loss"]) == pytest.approx(sum(judged) / len(judged))


def test_all_runs_are_scored_on_the_same_words(complete):
    found = [json.loads(path.read_text()) for path in complete.folder.rglob("result.json")]
    assert len(found) == 4
    assert len({json.dumps(result["mask_sha256"]) for result in found}) == 1
    counts = {
        (row["split"], row["task"], row["count"])
        for row in rows(complete.folder / "out" / "results.csv")
        if row["metric"] == "task"
    }
    assert len(counts) == len({key[:2] for key in counts})


def test_an_arm_of_a_trunk_went_on_from_it_with_its_own_objective(complete):
    run = complete.folder / "out" / "runs" / "minimax"
    assert "going on after step 3 with" in (run / "seed-0.log").read_text()
    steps = [json.loads(line)["step"] for line in (run / "seed-0" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [4, 5, 6]


def test_the_report_is_one_page_with_its_pictures(complete):
    out = complete.folder / "out"
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(list((out / "plots").glob("*.png"))) == 4
    assert "http" not in page.replace("http-equiv", "")
    assert "minimax against average: the worst task is" in page
    markdown = (out / "report.md").read_text()
    assert "Test loss less that of average, equal steps" in markdown


def test_a_complete_study_only_writes_its_report_again(copied):
    out = copied.folder / "out"
    before = {
        path: path.stat().st_mtime_ns for path in out.rglob("*") if "runs" in str(path) and path.is_file()
    }
    texts = {name: (out / name).read_bytes() for name in ("results.csv", "differences.csv", "report.md")}
    for name in texts:
        (out / name).unlink()
    code, said = copied.run()
    assert code == 0, said
    assert {name: (out / name).read_bytes() for name in texts} == texts
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_held_out_words_score_again_what_is_trained(copied):
    before = (copied.folder / "out" / "results.csv").read_text()
    trained = {p: p.stat().st_mtime_ns for p in copied.folder.rglob("model.safetensors")}
    copied.content["evaluation"]["num_masks"] = 2
    copied.write()
    code, said = copied.run("--jobs", "2")
    assert code == 0, said
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    assert (copied.folder / "out" / "results.csv").read_text() != before


@pytest.mark.parametrize(
    "place, key, value, said",
    [
        ("arms", "objective.alpha", 2.0, "objective.alpha was 1.0 there and is 2.0 now"),
        ("trunks", "objective.name", "minimax", "objective.name was 'average' there and is 'minimax' now"),
    ],
)
def test_a_run_that_was_made_of_something_else_is_refused(copied, place, key, value, said):
    name = "minimax" if place == "arms" else "warm"
    copied.content[place][name]["overrides"][key] = value
    copied.write()
    for options in ((), ("--missing",)):
        code, output = copied.run(*options)
        assert code == 2
        assert said in output
        assert "set it back, give --out another folder, or remove" in output


def test_a_run_of_unknown_origin_is_refused(copied):
    (copied.folder / "out" / "runs" / "average" / "seed-0.json").unlink()
    code, said = copied.run()
    assert code == 2
    assert "no run of this study" in said


@pytest.mark.parametrize(
    "section, key", [("overrides", "data.path"), ("evaluation", "data"), ("arms", "data.path")]
)
def test_without_shards_a_study_is_refused_and_writes_nothing(study, section, key):
    place = study.content["arms"]["average"]["overrides"] if section == "arms" else study.content[section]
    place[key] = str(study.folder / "nowhere")
    study.write()
    for options in ((), ("--missing",)):
        code, said = study.run(*options)
        assert code == 2
        assert said.count("\n") == 1
        assert f"{study.folder}/nowhere: no manifest.json; make the shards first: data_prep text" in said
        assert f"{'evaluation.data' if section == 'evaluation' else 'data.path'}: " in said
    assert list(study.folder.iterdir()) == [study.source]


def test_altered_results_are_refused(copied):
    sums = copied.folder / "out" / "runs" / "average" / "seed-0" / "held_out.safetensors"
    content = bytearray(sums.read_bytes())
    content[-1] ^= 1
    sums.write_bytes(content)
    code, said = copied.run()
    assert code == 2
    assert "altered since it was written" in said


def test_missing_parts_are_those_without_results(copied):
    stdout, stderr = copied.start("--missing", "--num-parts", "2").communicate(timeout=600)
    assert stdout == ""
    assert "nothing is missing" in stderr
    (copied.folder / "out" / "runs" / "minimax" / "seed-1" / "result.json").unlink()
    code, said = copied.run("--missing", "--num-parts", "4")
    assert code == 0
    assert len(said.strip()) == 1


def test_a_part_that_there_is_not_is_refused(copied):
    code, said = copied.run("--part", "2", "--num-parts", "2")
    assert code == 2
    assert "--part 2: --num-parts 2 has parts 0 to 1" in said


def test_a_run_that_fails_shows_its_last_lines_and_the_others_go_on(study):
    study.content["seeds"] = [0]
    study.content["overrides"]["steps"] = 2
    study.content["arms"] = {
        "broken": {"overrides": {"deepspeed": "nowhere.json"}},
        "average": {"overrides": {"objective.name": "average"}},
    }
    study.write()
    code, said = study.run()
    assert code == 1
    assert "broken seed-0: exit code 2" in said
    assert "pipeline: error: nowhere.json" in said
    assert "1 of 2 runs failed; the same command tries them again" in said
    assert (study.folder / "out" / "runs" / "average" / "seed-0" / "result.json").is_file()
    assert not (study.folder / "out" / "report.html").exists()


def test_at_the_end_of_a_jobs_time_a_study_saves_asks_to_be_started_again_and_goes_on(study, complete):
    study.content |= {"seeds": [0], "arms": {"average": study.content["arms"]["average"]}}
    study.write()
    code, said = study.run(SLURM_JOB_END_TIME=str(int(time.time()) + 1))
    assert code == STOPPED, said
    assert "average seed-0: told to stop; the same command goes on from there" in said
    run = study.folder / "out" / "runs" / "average" / "seed-0"
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000001"]
    assert not (run / "result.json").exists()
    assert processes_of(study.folder) == []

    code, said = study.run()
    assert code == 0, said
    assert (
        "told to stop (the end of the job's time); saved step 1 of 6"
        in run.with_name("seed-0.log").read_text()
    )
    of_run = [row for row in rows(complete.folder / "out" / "results.csv") if row["arm"] == "average"]
    assert rows(study.folder / "out" / "results.csv") == [row for row in of_run if row["seed"] == "0"]


def test_a_study_that_is_interrupted_says_what_it_waits_for(study):
    process = study.start("--jobs", "2")
    wait_for(lambda: len(list(study.folder.rglob("metrics.jsonl"))) == 2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGINT
    assert "stopping: 2 runs save their state; Ctrl-C again to stop at once\n" in said
    assert processes_of(study.folder) == []


@pytest.mark.slow
def test_a_study_that_is_stopped_and_killed_ends_as_if_it_had_not_been(study, complete):
    runs = study.folder / "out"
    process = study.start()
    wait_for(lambda: list(runs.rglob("metrics.jsonl")))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert processes_of(study.folder) == []

    process = study.start("--jobs", "2")
    wait_for(lambda: list((runs / "runs").rglob("metrics.jsonl")))
    process.kill()
    process.communicate()
    wait_for(lambda: processes_of(study.folder) == [], seconds=10)
    assert not (runs / "results.csv").exists()

    code, said = study.run("--jobs", "2")
    assert code == 0, said
    assert (runs / "results.csv").read_bytes() == (complete.folder / "out" / "results.csv").read_bytes()
    assert (runs / "report.md").read_bytes() == (complete.folder / "out" / "report.md").read_bytes()
