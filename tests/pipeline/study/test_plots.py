"""Pictures of a few arms and of many, from made-up held-out sums."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from pipeline.evaluation import HeldOutTotals
from pipeline.study.command import load_study
from pipeline.study.comparison import compare
from pipeline.study.label_placement import place_names
from pipeline.study.plots import tasks_of_arms, worst_against_average
from pipeline.study.result import SPLITS, Scores

TASKS = ["noun", "verb", "interjection"]
COUNTS = np.tile([20.0, 20.0, 1.0], (30, 1))  # interjections: 30 words, too few to judge


@pytest.fixture
def compared(study):
    """The comparison of so many arms, the first of which is the baseline."""

    def compare_arms(num_arms):
        names = [f"arm_{number}" for number in range(num_arms)]
        arms = {
            name: {"overrides": {"objective.name": "minimax", "objective.alpha": 1 + number / 10}}
            for number, name in enumerate(names)
        }
        study.content |= {"arms": arms, "baselines": names[:1]}
        study.write()
        planned = load_study(study.source, study.folder / "out")
        random = np.random.default_rng(0)
        totals = {
            run.folder: {
                split: HeldOutTotals((6 + random.normal(0, 0.2, COUNTS.shape)) * COUNTS, 0 * COUNTS, COUNTS)
                for split in SPLITS
            }
            for run in planned.runs
        }
        scores = Scores(TASKS, dict.fromkeys(SPLITS, "hash"), [{}], totals)
        return compare(planned, scores, "equal steps")

    return compare_arms


def test_a_few_arms_have_bars_for_each_task(compared):
    (axes,) = tasks_of_arms(compared(3)).axes
    assert axes.get_legend_handles_labels()[1] == ["arm_0", "arm_1", "arm_2"]
    assert [label.get_text() for label in axes.get_xticklabels()] == TASKS


def test_many_arms_have_a_row_each_with_their_difference_from_the_baseline(compared):
    comparison = compared(16)
    panels = tasks_of_arms(comparison).axes
    titles = [axes.get_title() for axes in panels]
    assert titles == ["worst task", "average", "noun", "verb", "interjection (too few words)"]
    rows = [label.get_text() for label in panels[0].get_yticklabels()]
    assert rows == comparison.arms[1:]
    noun = {line.get_ydata()[0]: line for line in panels[2].lines if line.get_marker() == "o"}
    for row, arm in enumerate(rows):
        difference = comparison.splits["test"].of(arm, "arm_0").differences["noun"]
        assert noun[row].get_xdata()[0] == difference.value


def test_no_two_of_many_methods_look_alike(compared):
    (axes,) = worst_against_average(compared(16)).axes
    looks = [(to_hex(each.lines[0].get_color()), each.lines[0].get_marker()) for each in axes.containers]
    assert len(set(looks)) == len(looks) == 16


@pytest.mark.parametrize("spread", [1.0, 0.1])
def test_names_hide_neither_each_other_nor_points_even_where_these_are_close(spread):
    random = np.random.default_rng(0)
    points = {f"prior_{number}_0.25": tuple(spread * random.normal(size=2)) for number in range(16)}
    axes = Figure(figsize=(10, 7), layout="constrained").subplots()
    axes.set(xlim=(-3, 3), ylim=(-3, 3))
    names = place_names(axes, points)
    assert [text.get_text() for text in axes.texts] == list(points)
    assert not any(Bbox.intersection(one, other) for one, other in combinations(names, 2))
    for x, y in axes.transData.transform(list(points.values())):
        assert not any(name.contains(x, y) for name in names)
    for text, box in zip(axes.texts, names, strict=True):
        drawn = text.get_window_extent() if text.arrow_patch is None else None
        assert drawn is None or (box.containsx(drawn.x0) and box.containsy(drawn.y1))
