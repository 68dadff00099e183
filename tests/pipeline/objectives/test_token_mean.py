"""Every label weighs alike."""

from pipeline.objectives.average import Average
from pipeline.objectives.token_mean import TokenMean


def test_a_tasks_weight_is_its_share_of_the_labels_of_the_step(stats_of):
    assert TokenMean().coefficients(stats_of([9.0, 1.0, 5.0], [6, 2, 0])).tolist() == [0.75, 0.25, 0]


def test_labels_of_no_task_have_their_share_too(stats_of):
    assert TokenMean().coefficients(stats_of([9.0, 1.0], [6, 2], num_untasked=8)).tolist() == [0.375, 0.125]
    assert TokenMean().trains_untasked(step=0)
    assert not Average().trains_untasked(step=0)


def test_a_step_without_a_label_has_no_weights(stats_of):
    assert TokenMean().coefficients(stats_of([9.0, 1.0], [0, 0])).tolist() == [0, 0]
