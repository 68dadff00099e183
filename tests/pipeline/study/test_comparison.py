"""Choosing settings on one split and judging them on the other, from made-up held-out sums."""

import csv
import io

import numpy as np
import pytest

from data_prep.errors import UserError
from pipeline.evaluation import MIN_JUDGED, HeldOutTotals
from pipeline.study.command import load_study
from pipeline.study.comparison import compare, pareto_front
from pipeline.study.csv_files import differences_csv, results_csv
from pipeline.study.page import findings
from pipeline.study.result import SPLITS, Scores
from pipeline.study.tables import study_tables

TASKS = ["noun", "verb", "interjection"]
COUNTS = np.tile([20.0, 20.0, 1.0], (30, 1))  # interjections: 30 words, too few to judge
LOSSES = {  # by arm and split the losses of the three tasks
    "average": {"validation": [7.0, 5.0, 9.0], "test": [7.0, 5.0, 9.0]},
    "steep": {"validation": [6.0, 5.8, 9.0], "test": [6.5, 5.8, 9.0]},
    "gentle": {"validation": [6.1, 5.2, 9.0], "test": [6.0, 5.2, 9.0]},  # better where it may not be chosen
}


@pytest.fixture
def planned(study):
    study.content["arms"] = {
        "average": {"overrides": {"objective.name": "average"}},
        "steep": {"group": "minimax", "overrides": {"objective.alpha": 3.0}},
        "gentle": {"group": "minimax", "overrides": {"objective.alpha": 0.3}},
    }
    study.content["seeds"] = [0, 1, 2]
    study.write()
    return load_study(study.source, study.folder / "out")


def made_up(planned, counts=COUNTS):
    random = np.random.default_rng(0)
    noise = {split: random.normal(0, 0.2, (30, 1)) for split in SPLITS}  # of documents, the same for all arms
    totals = {
        run.folder: {
            split: HeldOutTotals(
                losses=(np.array(LOSSES[run.arm][split]) + noise[split] + 0.01 * run.seed) * counts,
                correct=0 * counts,
                counts=counts,
            )
            for split in SPLITS
        }
        for run in planned.runs
    }
    return Scores(TASKS, dict.fromkeys(SPLITS, "hash"), [{}], totals)


def test_the_setting_of_a_group_is_chosen_by_its_worst_task_on_the_validation_split(planned):
    comparison = compare(planned, made_up(planned), "equal steps")
    assert comparison.chosen == {"average": "average", "minimax": "steep"}
    test = comparison.splits["test"]
    assert test.means["steep"]["worst"].value > test.means["gentle"]["worst"].value


def test_a_task_with_too_few_words_is_shown_but_is_neither_worst_nor_averaged(planned):
    comparison = compare(planned, made_up(planned), "equal steps")
    test = comparison.splits["test"]
    assert test.judged == ["noun", "verb"]
    assert test.means["average"]["interjection"].value > test.means["average"]["worst"].value


def test_differences_are_those_of_the_made_up_losses_and_what_arms_share_cancels(planned):
    comparison = compare(planned, made_up(planned), "equal steps")
    against = comparison.splits["test"].of("steep", "average")
    assert against.differences["worst"].value == pytest.approx(-0.5)
    assert against.differences["average"].value == pytest.approx(0.15)
    assert against.differences["worst"].high - against.differences["worst"].low < 1e-9
    sentences = [finding.text for finding in findings(comparison)]
    assert len(sentences) == 1
    assert sentences[0].startswith("steep against average: the worst task is better (−0.500")
    assert "the average worse (+0.150" in sentences[0]


def test_a_group_may_be_a_baseline_and_its_chosen_setting_stands_for_it(study, planned):
    study.content["baselines"] = ["minimax", "average"]
    study.write()
    planned = load_study(study.source, study.folder / "out")
    comparison = compare(planned, made_up(planned), "equal steps")
    assert comparison.baselines == ["steep", "average"]
    against = {(each.arm, each.baseline): each for each in comparison.splits["test"].against}
    assert set(against) == {
        *[("average", "steep"), ("steep", "average")],
        *[("gentle", "steep"), ("gentle", "average")],
    }


def test_every_figure_is_in_the_tables_and_in_the_csv(planned):
    scores = made_up(planned)
    comparison = compare(planned, scores, "equal steps")
    text = "\n".join(table.to_markdown() for table in study_tables(planned, [comparison]))
    assert "Too few words to judge, left out of worst and average: interjection." in text
    assert "gentle objective.alpha=0.3" in text
    results = list(csv.DictReader(io.StringIO(results_csv(planned, scores))))
    assert len(results) == 3 * 3 * 2 * (3 + 2)  # arms, seeds, splits; tasks, worst and average
    differences = list(csv.DictReader(io.StringIO(differences_csv([comparison]))))
    assert len(differences) == 2 * 2 * (3 + 2)  # arms against the baseline, splits


def test_without_words_to_judge_there_is_no_comparison(planned):
    few = np.full_like(COUNTS, (MIN_JUDGED - 1) / len(COUNTS))
    with pytest.raises(UserError, match=r"raise evaluation\.num_samples or evaluation\.num_masks"):
        compare(planned, made_up(planned, few), "equal steps")


def test_the_front_is_what_no_other_point_beats():
    points = {"a": (1.0, 3.0), "b": (2.0, 2.0), "c": (2.0, 2.5), "d": (3.0, 1.0), "e": (3.0, 3.0)}
    assert pareto_front(points) == ["a", "b", "d"]
    assert pareto_front({"a": (1.0, 1.0), "same": (1.0, 1.0)}) == ["a", "same"]
