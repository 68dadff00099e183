"""Held-out figures: exact means over all documents, honest intervals, tasks with too few words left out."""

import numpy as np
import pytest
import torch

from pipeline.data.interface import HeldOutBatch
from pipeline.evaluation import (
    MIN_JUDGED,
    HeldOutTotals,
    average_loss,
    held_out_totals,
    task_figures,
    worst_task,
)
from pipeline.models.interface import Scores


def totals(counts, losses):
    counts, losses = np.array(counts, float), np.array(losses, float)
    return HeldOutTotals(losses, np.zeros_like(losses), counts)


def test_the_loss_is_the_mean_over_pieces_not_over_documents():
    figures = task_figures(totals([[1], [99]], [[10.0], [99.0]]), ("noun",))
    assert figures["noun"].loss.value == pytest.approx(109 / 100)
    assert figures["noun"].count == 100


def test_the_interval_covers_the_true_mean_of_nineteen_in_twenty_samples():
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        counts = random.integers(1, 20, size=60)
        losses = [random.normal(3.0, 1.0) * count for count in counts]  # documents differ
        estimate = task_figures(totals(counts[:, None], np.array(losses)[:, None]), ("t",))["t"].loss
        covered += estimate.low <= 3.0 <= estimate.high
    assert 0.88 <= covered / 200 <= 0.99


def test_a_task_with_too_few_pieces_is_shown_but_is_neither_worst_nor_averaged():
    figures = task_figures(totals([[500, MIN_JUDGED - 1]] * 1, [[1_000.0, 900.0]]), ("noun", "interjection"))
    assert figures["interjection"].count == MIN_JUDGED - 1
    assert worst_task(figures) == "noun"
    assert average_loss(figures) == pytest.approx(2.0)


def test_a_task_without_a_piece_has_no_figures_and_no_task_no_worst():
    figures = task_figures(totals([[0]], [[0.0]]), ("noun",))
    assert figures == {}
    assert worst_task(figures) is None
    assert average_loss(figures) is None


def test_few_documents_get_no_interval():
    estimate = task_figures(totals([[50]] * 9, [[150.0]] * 9), ("noun",))["noun"].loss
    assert (estimate.value, estimate.low, estimate.high) == (3.0, None, None)


def test_totals_are_summed_by_document_and_term():
    class TwoBatches:
        num_clusters = 2
        term_names = ("noun", "verb")

        def batches(self, rank, world_size):
            terms = torch.tensor([0, 1, 0])
            yield HeldOutBatch({"x": torch.tensor([0])}, terms, torch.tensor([0, 1, 1]))
            yield HeldOutBatch({"x": torch.tensor([1])}, terms, torch.tensor([1, 1, 1]))

    def score(inputs):
        return Scores(
            losses=torch.tensor([1.0, 2.0, 4.0]) + inputs["x"],
            correct=torch.tensor([True, False, True]),
        )

    result = held_out_totals(score, TwoBatches(), torch.device("cpu"))
    np.testing.assert_array_equal(result.losses, [[1, 0], [4 + 2 + 5, 2 + 3]])
    np.testing.assert_array_equal(result.counts, [[1, 0], [3, 2]])
    np.testing.assert_array_equal(result.correct, [[1, 0], [3, 0]])
