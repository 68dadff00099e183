"""What `excess` measures from is found when a run begins, and kept in its run file."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_prep.errors import UserError
from pipeline.config import ObjectiveConfig
from pipeline.data.shards import Shards
from pipeline.data.unigram import task_unigrams
from pipeline.data.word_tasks import WordTasks
from pipeline.references import with_references


@pytest.fixture(scope="module")
def opened(shards):
    return Shards(shards)


@pytest.fixture
def found(opened):
    """The reference losses of a source."""

    def find(source):
        section = ObjectiveConfig(name="excess", reference=source)
        return with_references(section, opened, WordTasks.of_shards(opened), None).reference_losses

    return find


def test_unigram_is_the_entropy_of_each_tasks_pieces(found, opened):
    counts = opened.piece_counts()
    entropies = [-(p * np.log(p)).sum() for p in task_unigrams(counts)]
    assert found("unigram") == pytest.approx(dict(zip(opened.task_names, entropies, strict=True)))


@pytest.mark.parametrize("text", ["noun: 4.5\nverb: 3\n", '{"noun": 4.5, "verb": 3}'])
def test_a_file_is_yaml_or_json(found, tmp_path, text):
    (tmp_path / "losses").write_text(text)
    assert found(tmp_path / "losses") == {"noun": 4.5, "verb": 3}


def test_a_runs_folder_gives_its_newest_validation(found, tmp_path):
    lines = [json.dumps({"step": step, "task_loss": {"noun": 9.0 - step}}) for step in (1, 2)]
    (tmp_path / "validation.jsonl").write_text("".join(f"{line}\n" for line in lines))
    assert found(tmp_path) == {"noun": 7.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "no such file or folder"),
        ("noun: [4", "neither JSON nor YAML"),
        ("- 4", "not a map from task to nats"),
        ("noun: much", "not a map from task to nats"),
        ("noun: -1", "not a map from task to nats"),
    ],
)
def test_what_is_no_reference_is_refused(found, tmp_path, text, expected):
    path = tmp_path / "losses"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=expected):
        found(path)


def test_a_run_without_a_validation_is_refused(found, tmp_path):
    with pytest.raises(
        UserError, match=r"no validation\.jsonl there; name a run with validate.every above 0"
    ):
        found(tmp_path)


def test_other_objectives_and_given_losses_need_no_reference(opened):
    given = ObjectiveConfig(name="excess", reference=Path("nowhere"), reference_losses={"noun": 1.0})
    for section in (ObjectiveConfig(), given):
        assert with_references(section, opened, WordTasks.of_shards(opened), None) == section
