"""Micro-batches of text: pure functions of (seed, step, index), masked as the run file says."""

import numpy as np
import pytest
import torch

from data_prep.errors import UserError
from data_prep.schema import NO_TASK
from data_prep.tagging.tag_map import load_tag_map
from pipeline.config import BatchConfig, DataConfig, MaskingConfig, ObjectiveConfig
from pipeline.data.shards import Shards
from pipeline.data.text import TextData
from pipeline.data.text_held_out import HeldOutText
from pipeline.data.unigram import task_unigrams, unigram_losses

TASK_NAMES = load_tag_map().task_names


@pytest.fixture(scope="module")
def opened(shards):
    return Shards(shards)


def text_data(opened, *, seed=0, masking=None, objective=None, batch=None, quota="uniform"):
    return TextData(
        opened,
        DataConfig(path=opened.folder, quota=quota),
        MaskingConfig(**(masking or {})),
        ObjectiveConfig(**(objective or {})),
        BatchConfig(**(batch or {"global_size": 18, "micro_size": 6})),
        seed,
    )


def equal(first, second):
    return all(torch.equal(first.inputs[name], second.inputs[name]) for name in first.inputs)


def test_a_micro_batch_depends_on_seed_step_and_index_alone(opened):
    first, again = text_data(opened), text_data(opened)
    again.micro_batch(0, 0)  # another history
    assert equal(first.micro_batch(5, 1), again.micro_batch(5, 1))
    assert not equal(first.micro_batch(5, 1), first.micro_batch(5, 2))
    assert not equal(first.micro_batch(5, 1), first.micro_batch(6, 1))
    assert not equal(first.micro_batch(5, 1), text_data(opened, seed=1).micro_batch(5, 1))


def test_a_batch_says_which_of_its_places_hold_pieces_and_where_each_sequence_begins(opened):
    inputs = text_data(opened).micro_batch(0, 0).inputs
    lengths = inputs["attention_mask"].sum(dim=1)
    assert lengths.min() < lengths.max()
    assert inputs["sequence_bounds"].tolist() == [0, *lengths.cumsum(0).tolist()]
    assert inputs["attention_mask"].flatten().nonzero()[:, 0].equal(inputs["piece_positions"])


def test_in_a_sequence_only_words_of_its_task_group_are_masked(opened):
    batch = text_data(opened).micro_batch(0, 0)
    rows = batch.inputs["masked_positions"] // batch.inputs["input_ids"].shape[1]
    for row in range(6):
        assert len(set(batch.inputs["loss_tasks"][rows == row].tolist())) == 1


def test_labels_are_the_stored_pieces_and_counts_are_known(opened):
    data = text_data(opened, masking={"corruption": (1.0, 0.0, 0.0)})
    batch = data.micro_batch(3, 2)
    inputs = batch.inputs
    masked = inputs["input_ids"].flatten()[inputs["masked_positions"]]
    assert (masked == opened.mask_id).all()
    assert (inputs["labels"] != opened.mask_id).all()
    words = torch.bincount(inputs["loss_tasks"], minlength=9)
    assert batch.counts.tolist() == [*words.tolist(), 6]
    assert data.terms.names == (*TASK_NAMES, "nsp")
    assert batch.num_tokens == int(inputs["attention_mask"].sum())


def test_random_masking_gives_each_word_to_its_own_task_and_logs_the_rest(opened):
    data = text_data(opened, masking={"policy": "random"})
    assert data.terms.names == (*TASK_NAMES, "untagged", "nsp")
    assert data.terms.tasks == TASK_NAMES
    batches = [data.micro_batch(step, 0) for step in range(10)]
    rows = batches[0].inputs["masked_positions"] // batches[0].inputs["input_ids"].shape[1]
    assert len(set(batches[0].inputs["loss_tasks"][rows == 0].tolist())) > 1
    assert sum(int(batch.counts[9]) for batch in batches) > 0


def test_next_sentence_prediction_is_auxiliary_a_task_or_off(opened):
    assert "nsp" not in text_data(opened).terms.tasks
    assert "nsp" in text_data(opened, objective={"nsp": "task"}).terms.tasks
    off = text_data(opened, objective={"nsp": "off"})
    assert "nsp" not in off.terms.names
    assert (off.micro_batch(0, 0).inputs["next_sentence_label"] == -1).all()


def test_tasks_that_the_objective_is_not_to_weigh_are_only_logged(opened):
    terms = text_data(opened, objective={"tasks": ("verb", "noun")}).terms
    assert terms.tasks == ("verb", "noun")
    assert terms.names == text_data(opened).terms.names
    assert terms.fixed[terms.names.index("adverb")] == 0
    with pytest.raises(UserError, match=r'objective\.tasks: unknown task "nuon"; did you mean "noun"'):
        text_data(opened, objective={"tasks": ("nuon",)})


def test_an_empty_micro_batch_has_no_label(opened):
    batch = text_data(opened).empty_micro_batch()
    assert batch.counts.sum() == 0
    assert batch.num_tokens == 0


def test_a_quota_map_decides_how_many_sequences_of_each_task_a_step_has(opened):
    data = text_data(opened, quota={"noun": 12, "verb": 6})
    rows = []
    for index in range(3):
        inputs = data.micro_batch(4, index).inputs
        row_of = inputs["masked_positions"] // inputs["input_ids"].shape[1]
        rows += [TASK_NAMES[int(inputs["loss_tasks"][row_of == row][0])] for row in range(6)]
    assert (rows.count("noun"), rows.count("verb")) == (12, 6)


def test_a_quota_for_an_unknown_task_names_the_nearest(opened):
    with pytest.raises(UserError, match='unknown task "nuon"; did you mean "noun"'):
        text_data(opened, quota={"nuon": 18})


def test_every_task_is_evaluated_on_every_held_out_sequence_that_holds_it(opened):
    held_out = HeldOutText(opened, "test", with_nsp=False)
    table = held_out._table
    expected = sum(len(np.unique(table[i].task_ids[table[i].task_ids != NO_TASK])) for i in range(len(table)))
    assert len(list(held_out.masked_pieces())) == expected


def test_a_held_out_query_shows_mask_at_the_words_of_one_task_and_the_stored_pieces_elsewhere(opened):
    held_out = HeldOutText(opened, "test", with_nsp=False)
    for batch in held_out.batches():
        inputs = batch.inputs
        shown, length = inputs["input_ids"], inputs["input_ids"].shape[1]
        assert (shown.flatten()[inputs["masked_positions"]] == opened.mask_id).all()
        assert (shown == opened.mask_id).sum() == len(inputs["labels"]) == len(batch.clusters)
        rows = inputs["masked_positions"] // length
        for row, tokens in enumerate(inputs["attention_mask"].sum(dim=1).tolist()):
            tasks = inputs["loss_tasks"][rows == row]
            assert len(set(tasks.tolist())) == 1
            assert len(tasks) < 0.15 * tokens + 8  # the last word may overshoot
    index, task, positions = held_out._queries[0]
    stored = held_out._table[index]
    assert (stored.task_ids[positions] == task).all()
    first = next(iter(held_out.batches())).inputs
    assert first["labels"][: len(positions)].tolist() == stored.input_ids[positions].tolist()
    unmasked = np.setdiff1d(np.arange(len(stored)), positions)
    assert first["input_ids"][0][unmasked].tolist() == stored.input_ids[unmasked].tolist()


def test_each_prediction_belongs_to_the_document_of_its_segment(opened):
    held_out = HeldOutText(opened, "test", with_nsp=True)
    documents = {name for i in range(len(held_out._table)) for name in held_out._table[i].doc_id}
    assert held_out.num_clusters == len(documents) > 1
    clusters = iter(torch.cat([batch.clusters for batch in held_out.batches()]).tolist())
    numbers: dict[str, int] = {}
    for batch_queries in (held_out._queries[i : i + 64] for i in range(0, len(held_out._queries), 64)):
        for index, _, positions in batch_queries:
            row = held_out._table[index]
            for position in positions:
                name = row.doc_id[row.token_type_ids[position]]
                assert numbers.setdefault(name, number := next(clusters)) == number
        for index, task, _ in batch_queries:
            if task == -1:
                name = held_out._table[index].doc_id[0]
                assert numbers.setdefault(name, number := next(clusters)) == number
    assert len(set(numbers.values())) == len(numbers)


def test_piece_counts_are_those_of_all_training_sequences(opened):
    expected = np.zeros((9, opened.manifest.vocab_size), np.int64)
    for task in TASK_NAMES:
        table = opened.train_table(task)
        for index in range(len(table)):
            row = table[index]
            for piece, task_id in zip(row.input_ids, row.task_ids, strict=True):
                if task_id != NO_TASK:
                    expected[task_id, piece] += 1
    np.testing.assert_array_equal(opened.piece_counts(), expected)


def test_held_out_masks_are_the_same_for_every_reader_and_differ_between_splits(opened):
    first, again = (HeldOutText(opened, "test", with_nsp=nsp) for nsp in (True, False))
    assert first.mask_hash == again.mask_hash
    assert first.mask_hash != HeldOutText(opened, "validation", with_nsp=False).mask_hash


def test_a_part_of_the_split_is_spread_over_it_and_keeps_its_masks(opened):
    whole = HeldOutText(opened, "test", with_nsp=False)
    part = HeldOutText(opened, "test", with_nsp=False, num_samples=5)
    size = len(whole._table)
    assert sorted({index for index, *_ in part._queries}) == [n * size // 5 for n in range(5)]
    masks = {(index, task): positions.tolist() for index, task, positions in whole._queries}
    assert all(masks[index, task] == positions.tolist() for index, task, positions in part._queries)


def test_ranks_share_the_held_out_batches_and_get_equally_many(opened):
    held_out = HeldOutText(opened, "test", with_nsp=True)
    whole = sum(len(batch.inputs["labels"]) for batch in held_out.batches())
    shares = [list(held_out.batches(rank, 3)) for rank in range(3)]
    assert len({len(share) for share in shares}) == 1
    assert sum(len(batch.inputs["labels"]) for share in shares for batch in share) == whole


def test_a_task_unigram_is_a_distribution_that_spares_unseen_pieces():
    counts = np.array([[6, 2, 0, 0], [0, 0, 0, 0]])
    unigrams = task_unigrams(counts)
    np.testing.assert_allclose(unigrams.sum(axis=1), 1)
    # k = 2 distinct pieces, pooled = (7, 3, 1, 1) / 12
    np.testing.assert_allclose(unigrams[0], [(6 + 2 * 7 / 12) / 10, (2 + 2 * 3 / 12) / 10, 1 / 60, 1 / 60])


def test_unigram_losses_lie_between_zero_and_the_uniform_loss(opened):
    losses = unigram_losses(opened, HeldOutText(opened, "test", with_nsp=False))
    uniform = np.log(opened.manifest.vocab_size)
    assert all(0 < losses[task] < uniform for task in ("noun", "verb", "determiner"))
    assert losses["determiner"] < losses["noun"]


def test_an_altered_shard_folder_is_refused(opened, tmp_path):
    import shutil

    copy = tmp_path / "shards"
    shutil.copytree(opened.folder, copy)
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        Shards(copy)
    shutil.copytree(opened.folder, copy, dirs_exist_ok=True)
    (copy / "test" / "shard-00000.arrow").unlink()
    with pytest.raises(UserError, match=r"shard-00000\.arrow.*missing"):
        HeldOutText(Shards(copy), "test", with_nsp=False)
