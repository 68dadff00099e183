"""Held-out text that is masked several times: no word twice, and first as if it were masked once."""

from collections import defaultdict

import pytest

from pipeline.data.shards import Shards
from pipeline.data.text_held_out import HeldOutText

NUM_MASKS = 4


@pytest.fixture(scope="module")
def held_out(shards):
    def make(**settings):
        return HeldOutText(Shards(shards), "test", with_nsp=False, **settings)

    return make


def masked_places(held_out):
    """By sequence and task the positions of each mask, in order."""
    places = defaultdict(list)
    for sequence, task, positions in held_out._queries:
        places[sequence, task].append(set(positions.tolist()))
    return places


def test_several_masks_of_a_sequence_never_mask_a_word_twice(held_out):
    for masks in masked_places(held_out(num_masks=NUM_MASKS)).values():
        assert len(set.union(*masks)) == sum(map(len, masks))
        assert all(masks)


def test_the_first_mask_is_that_of_an_evaluation_with_one(held_out):
    one, several = masked_places(held_out()), masked_places(held_out(num_masks=NUM_MASKS))
    assert {key: masks[0] for key, masks in several.items()} == {key: masks[0] for key, masks in one.items()}
    assert held_out().mask_hash != held_out(num_masks=NUM_MASKS).mask_hash


def test_more_masks_predict_more_words_until_all_have_been(held_out, shards):
    sequences = Shards(shards)
    counts = [
        sum(len(positions) for _, _, positions in held_out(num_masks=number)._queries)
        for number in (1, 4, 60)
    ]
    assert counts[0] < counts[1] < counts[2]
    table = held_out()._table
    num_tagged = sum(
        int((table[index].task_ids < len(sequences.task_names)).sum()) for index in range(len(table))
    )
    assert counts[2] == num_tagged
