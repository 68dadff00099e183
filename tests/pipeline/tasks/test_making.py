"""How files of tasks are made: merged, drawn at random, from loss curves."""

import numpy as np
import pytest

from data_prep.errors import UserError
from pipeline.tasks.clusters import curve_tasks, shrunk
from pipeline.tasks.drawn import draw_tasks
from pipeline.tasks.loss_curves import LossCurves
from pipeline.tasks.merged import merge, read_merge

SHARD_TASKS = ["verb", "noun", "adverb"]


def test_a_merge_is_said_on_the_command_line_or_in_a_yaml_file(tmp_path):
    (tmp_path / "merge.yaml").write_text("content: [verb, noun]\nother: [adverb]\n")
    given = read_merge(["content=verb,noun", "other=adverb"])
    assert given == read_merge([str(tmp_path / "merge.yaml")])
    assert merge(given, SHARD_TASKS).task_of == {"verb": "content", "noun": "content", "adverb": "other"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["content=verb,noun"], "adverb of the shards stand in no task"),
        (["content=verb,noun,adverb", "other=noun"], '"noun" stands in "content" and in "other"; keep one'),
        (["content=verb,nuon,adverb"], '"nuon" is no task of the shards; did you mean "noun"'),
        (["content=verb,noun", "other=xyz"], '"xyz" is no task of the shards; they have verb, noun, adverb'),
        (["content=verb", "content=noun"], 'task "content" stands there twice'),
        (["content=verb", "noun"], '"noun" is not of the form task=first,second'),
        (["nowhere.yaml"], r"nowhere\.yaml: no such file; name a YAML file, or give"),
        (["list.yaml"], r"list\.yaml: not a YAML map from task to a list"),
    ],
)
def test_a_merge_that_leaves_something_open_is_refused(tmp_path, monkeypatch, given, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.yaml").write_text("- verb\n- noun\n")
    with pytest.raises(UserError, match=expected):
        merge(read_merge(given), SHARD_TASKS)


@pytest.fixture
def zipf():
    """[V] labels of pieces as text has them: a few make up most, and some are never seen."""
    return np.array([20_000 // rank for rank in range(1, 3_001)] + [0] * 50)


def test_random_tasks_are_as_large_as_they_shall_be_up_to_the_rarest_piece(zipf):
    sizes = (np.array([0.3, 0.4, 0.2, 0.09, 0.01]) * zipf.sum()).astype(int)
    sizes[0] += zipf.sum() - sizes.sum()
    tasks = draw_tasks(zipf, sizes, seed=0)
    assert np.abs(np.bincount(tasks, zipf, minlength=5) - sizes).max() <= zipf[zipf > 0].min()
    assert np.array_equal(tasks, draw_tasks(zipf, sizes, seed=0))
    assert not np.array_equal(tasks, draw_tasks(zipf, sizes, seed=1))


def test_any_task_may_draw_a_piece_that_fits_into_it(zipf):
    sizes = np.full(4, zipf.sum() // 4)
    where = [draw_tasks(zipf, sizes, seed)[[0, 100, 3_020]] for seed in range(60)]
    assert all(len(set(places)) == 4 for places in np.transpose(where).tolist())


def test_a_piece_that_fits_nowhere_goes_where_most_room_is():
    tasks = draw_tasks(np.array([90, 5, 5]), np.array([30, 40, 30]), seed=0)
    assert tasks[0] == 1
    assert set(tasks.tolist()) == {0, 1, 2} or set(tasks[1:].tolist()) <= {0, 2}


def noisy_curves(random, truth, counts, noise=2.0):
    """Loss curves of a sample: `counts` [V] labels of each piece around its true curve [V, K]."""
    losses, squares = np.zeros_like(truth), np.zeros_like(truth)
    for piece, count in enumerate(counts):
        drawn = truth[piece] + random.normal(0, noise, (count, 1))  # the same labels at all checkpoints
        losses[piece], squares[piece] = drawn.sum(axis=0), (drawn**2).sum(axis=0)
    return LossCurves({1: "", 2: "", 3: ""}, 0, np.array(counts), losses, squares)


@pytest.fixture
def planted():
    """True curves of 400 pieces of three groups, with labels in a corpus and in a sample of it."""
    random = np.random.default_rng(0)
    groups = random.integers(0, 3, 400)
    shapes = np.array([[9.0, 8.5, 8.0], [9.0, 4.0, 1.0], [8.0, 6.0, 4.0]])
    counts = random.integers(40, 120, 400)
    return groups, shapes[groups], counts * 10, noisy_curves(random, shapes[groups], counts)


def test_pieces_that_are_learned_alike_are_found_and_the_easiest_come_first(planted):
    groups, _, labels, curves = planted
    tasks = curve_tasks(curves, labels, 3, seed=0)
    easiest_first = np.array([2, 0, 1])[groups]
    assert (tasks == easiest_first).mean() > 0.98


def test_rare_pieces_are_nearer_to_their_own_curves_when_they_are_drawn_to_their_likes():
    random = np.random.default_rng(1)
    truth = 6 + random.normal(0, 0.7, (600, 1)) + np.array([2.0, 1.0, 0.0])
    counts = random.integers(0, 6, 600)
    curves = noisy_curves(random, truth, counts)
    drawn = shrunk(curves, np.full(600, 100))
    seen = counts > 0
    raw = curves.losses[seen] / counts[seen, None]
    error = ((drawn[seen] - truth[seen]) ** 2).mean()
    assert error < 0.5 * ((raw - truth[seen]) ** 2).mean()
    assert error < 0.95 * ((curves.losses.sum(axis=0) / counts.sum() - truth[seen]) ** 2).mean()
    np.testing.assert_allclose(
        drawn[~seen], np.tile(curves.losses.sum(axis=0) / counts.sum(), ((~seen).sum(), 1))
    )


def test_frequent_pieces_keep_their_curves_and_unseen_ones_take_those_of_the_next_more_frequent():
    random = np.random.default_rng(2)
    truth = np.concatenate([np.full((50, 3), 3.0), np.full((50, 3), 7.0)]) + random.normal(0, 1, (100, 1))
    counts = np.concatenate([np.full(50, 4_000), np.full(50, 40)])
    labels = np.concatenate([counts, [1, 0]])
    curves = noisy_curves(random, np.concatenate([truth, np.zeros((2, 3))]), [*counts, 0, 0])
    drawn = shrunk(curves, labels)
    np.testing.assert_allclose(drawn[:50], truth[:50], atol=0.15)
    np.testing.assert_allclose(drawn[100:], np.tile(truth[50:].mean(axis=0), (2, 1)), atol=0.2)


def test_more_tasks_than_different_curves_are_refused():
    curves = noisy_curves(np.random.default_rng(0), np.ones((3, 3)), [5, 5, 5], noise=0.0)
    with pytest.raises(UserError, match="--num-tasks 2: only 1 different loss curves"):
        curve_tasks(curves, np.array([5, 5, 5]), 2, seed=0)


def test_any_seed_that_masks_can_be_drawn_by_will_do(planted):
    groups, _, labels, curves = planted
    assert len(curve_tasks(curves, labels, 3, seed=20_261_122_204_500)) == len(groups)
