"""Tasks of a user's own, from the tag map to the comparison: nothing on the way knows parts of speech."""

import json

import pytest

from data_prep.corpus.embedded import embedded_corpus
from tests.data_prep.conftest import write_corpus
from tests.e2e.test_whole_path import TINY, run

TASKS = ["words-of-content", "function", "numbers"]
TAG_MAP = """
attribute: pos
tasks:
  words-of-content: [NOUN, PROPN, VERB, ADJ, ADV]
  function: [DET, PRON, ADP, AUX, CCONJ, SCONJ, PART]
  numbers: [NUM]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shards and a run of a few steps, on packed sequences."""
    folder = tmp_path_factory.mktemp("own")
    corpus = write_corpus(folder / "corpus.jsonl", list(embedded_corpus())[:80])
    (folder / "map.yaml").write_text(TAG_MAP)
    options = ["--vocab-size", 800, "--sequence-length", 48, "--no-nsp", "--test-share", 0.1]
    prepared = run(
        "data_prep", "text", corpus, "--out", folder / "shards", "--tag-map", folder / "map.yaml", *options
    )
    assert prepared.returncode == 0, prepared.stderr
    keys = [f"data.path={folder / 'shards'}", f"out_dir={folder}", "name=run", "objective.name=minimax"]
    trained = run("pipeline", "pretrain", TINY, *keys, "steps=4", "objective.nsp=off")
    assert trained.returncode == 0, trained.stderr
    return folder


def test_every_task_has_a_folder_of_its_own(folder):
    assert {path.name for path in (folder / "shards" / "train").iterdir()} == set(TASKS)
    assert run("data_prep", "verify", folder / "shards").returncode == 0


def test_training_weighs_these_tasks(folder):
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert list(lines[-1]["task_weight"]) == TASKS
    assert lines[-1]["worst_task"] in TASKS


def test_the_comparison_judges_these_tasks(folder):
    out = folder / "comparison.json"
    evaluated = run("pipeline", "evaluate", folder / "run", "--data", folder / "shards", "--out", out)
    assert evaluated.returncode == 0, evaluated.stderr
    assert list(json.loads(out.read_text())["checkpoints"][0]["tasks"]) == TASKS


def test_shards_without_labels_are_refused_where_next_sentences_are_to_be_predicted(folder):
    refused = run(
        "pipeline", "pretrain", TINY, f"data.path={folder / 'shards'}", f"out_dir={folder}", "name=nsp"
    )
    assert refused.returncode == 2
    assert "no next-sentence labels in these shards; set objective.nsp=off" in refused.stderr
