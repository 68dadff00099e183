"""Tasks of training from a file: which loss a masked piece counts for, and nothing else."""

import json

import numpy as np
import pytest
import torch

from data_prep.errors import UserError
from pipeline.config import BatchConfig, DataConfig, MaskingConfig, ObjectiveConfig, RunConfig
from pipeline.data.shards import Shards
from pipeline.data.task_file import ByPiece, ByShardTask, Making, TaskFile, write_task_file
from pipeline.data.text import TextData
from pipeline.data.unigram import task_unigrams
from pipeline.data.word_tasks import WordTasks, with_hash_of_tasks, word_tasks
from pipeline.references import with_references

CONTENT = ("verb", "noun", "adjective", "adverb")
RANDOM = MaskingConfig(policy="random")


@pytest.fixture(scope="module")
def opened(shards):
    return Shards(shards)


@pytest.fixture
def merged(opened, tmp_path):
    """A file of two tasks: words of content, and of function."""
    task_of = {task: "content" if task in CONTENT else "function" for task in opened.task_names}
    return written(tmp_path / "merged.json", ["content", "function"], ByShardTask(task_of=task_of), opened)


@pytest.fixture
def by_piece(opened, tmp_path):
    """A file of three tasks, by the remainder of a piece's id."""
    task_of = [piece % 3 for piece in range(opened.manifest.vocab_size)]
    return written(tmp_path / "pieces.json", ["zero", "one", "two"], ByPiece(task_of=task_of), opened)


def written(path, names, assignment, opened):
    made = Making(method="by hand", settings={}, shards_sha256="")
    tokenizer = opened.manifest.tokenizer.sha256
    content = TaskFile(task_names=names, tokenizer_sha256=tokenizer, made=made, assignment=assignment)
    write_task_file(path, content)
    return path


def text_data(opened, path=None, **objective):
    return TextData(
        opened,
        DataConfig(path=opened.folder, tasks=path),
        RANDOM,
        ObjectiveConfig(**objective),
        BatchConfig(global_size=18, micro_size=6),
        seed=0,
    )


@pytest.fixture
def batches(opened):
    """Micro-batches with the shards' tasks and with those of a file."""

    def batches(path):
        data = text_data(opened), text_data(opened, path)
        return [[each.micro_batch(step, 0) for step in range(8)] for each in data]

    return batches


@pytest.mark.parametrize("kind", ["merged", "by_piece"])
def test_sequences_masks_and_labels_are_those_of_the_shards_tasks(batches, request, kind):
    for own, other in zip(*batches(request.getfixturevalue(kind)), strict=True):
        for name in own.inputs.keys() - {"loss_tasks"}:
            assert torch.equal(own.inputs[name], other.inputs[name])
        assert own.counts.sum() == other.counts.sum()


def test_merged_tasks_have_the_words_of_their_parts(opened, batches, merged):
    for own, other in zip(*batches(merged), strict=True):
        names = [*opened.task_names, "untagged"]
        expected = [
            2 if name == "untagged" else int(name not in CONTENT)
            for name in (names[term] for term in own.inputs["loss_tasks"])
        ]
        assert other.inputs["loss_tasks"].tolist() == expected


def test_tasks_by_piece_have_their_pieces_but_none_of_untagged_words(batches, by_piece):
    for own, other in zip(*batches(by_piece), strict=True):
        is_untagged = own.inputs["loss_tasks"] == 9
        assert is_untagged.any()
        expected = torch.where(is_untagged, 3, own.inputs["labels"] % 3)
        assert torch.equal(other.inputs["loss_tasks"], expected)
        assert other.counts[:4].tolist() == torch.bincount(expected, minlength=4).tolist()


def test_the_objective_speaks_of_the_tasks_of_the_file(opened, merged):
    assert text_data(opened, merged).terms.names == ("content", "function", "untagged", "nsp")
    assert text_data(opened, merged, nsp="task").terms.tasks == ("content", "function", "nsp")
    assert text_data(opened, merged, tasks=("function",)).terms.tasks == ("function",)
    with pytest.raises(UserError, match=r'objective\.tasks: unknown task "noun"'):
        text_data(opened, merged, tasks=("noun",))


def test_held_out_splits_stay_with_the_tasks_of_the_shards(opened, merged):
    own, other = (text_data(opened, path).held_out("validation", 20) for path in (None, merged))
    assert own.mask_hash == other.mask_hash
    assert other.term_names == (*opened.task_names, "nsp")
    for first, second in zip(own.batches(), other.batches(), strict=True):
        assert torch.equal(first.terms, second.terms)


@pytest.mark.parametrize("kind", ["merged", "by_piece"])
def test_a_unigram_reference_is_that_of_the_tasks_of_the_file(opened, request, kind):
    data = DataConfig(path=opened.folder, tasks=request.getfixturevalue(kind))
    tasks = word_tasks(data, opened)
    counts = opened.piece_counts()
    if kind == "merged":
        is_content = np.isin(opened.task_names, CONTENT)
        expected = np.stack([counts[is_content].sum(axis=0), counts[~is_content].sum(axis=0)])
    else:
        expected = np.zeros((3, counts.shape[1]))
        for piece in range(counts.shape[1]):
            expected[piece % 3, piece] = counts[:, piece].sum()
    np.testing.assert_array_equal(tasks.regrouped(counts), expected)
    section = ObjectiveConfig(name="excess", reference="unigram")
    entropies = [-(p * np.log(p)).sum() for p in task_unigrams(expected)]
    found = with_references(section, opened, tasks, None).reference_losses
    assert found == pytest.approx(dict(zip(tasks.names, entropies, strict=True)))


def test_a_run_is_no_reference_for_other_tasks_than_it_was_validated_on(opened, merged, tmp_path):
    line = json.dumps({"step": 1, "task_loss": {"content": 1.0, "function": 1.0}})
    (tmp_path / "validation.jsonl").write_text(f"{line}\n")
    section = ObjectiveConfig(name="excess", reference=tmp_path)
    assert with_references(section, opened, WordTasks.of_shards(opened), None).reference_losses
    tasks = word_tasks(DataConfig(path=opened.folder, tasks=merged), opened)
    with pytest.raises(UserError, match=r"a run is validated on the shards' tasks, data\.tasks has others"):
        with_references(section, opened, tasks, None)


def put(*keys_and_value):
    *keys, last, value = keys_and_value

    def change(content):
        for key in keys:
            content = content[key]
        content[last] = value

    return change


MERGED_MISTAKES = {
    "another version": (put("schema_version", 2), "schema version 2, this program reads 1"),
    "no names": (put("task_names", []), "task_names: 0 tasks; give 1 to 254"),
    "a name twice": (put("task_names", ["content", "content"]), 'task_names: "content" stands there twice'),
    "a name that is taken": (put("task_names", ["content", "nsp"]), 'task_names: "nsp"; use letters'),
    "an unknown name": (put("assignment", "task_of", "verb", "doing"), '"doing" is not among task_names'),
    "a task of nothing": (put("task_names", ["content", "function", "x"]), 'nothing belongs to task "x"'),
    "an unknown key": (put("colour", "red"), "colour: Extra inputs are not permitted"),
    "another kind": (put("assignment", "by", "letter"), "assignment: Input tag 'letter'"),
    "another tokenizer": (put("tokenizer_sha256", "0" * 64), "made for another tokenizer than that of"),
    "an unknown part": (put("assignment", "task_of", "nuon", "content"), '"nuon" is no task of .*"noun"'),
    "a part too few": (
        lambda content: content["assignment"]["task_of"].pop("adverb"),
        'says nothing of task "adverb"',
    ),
}
PIECE_MISTAKES = {
    "no such index": (put("assignment", "task_of", 5, 3), "3 is no index into task_names"),
    "a vocabulary of another size": (
        lambda content: content["assignment"]["task_of"].pop(),
        "tasks of 999 pieces, the vocabulary of .* has 1000",
    ),
}


def alter(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(("change", "expected"), MERGED_MISTAKES.values(), ids=MERGED_MISTAKES)
def test_a_file_that_merges_wrongly_is_refused(opened, merged, change, expected):
    with pytest.raises(UserError, match=expected):
        word_tasks(DataConfig(path=opened.folder, tasks=alter(merged, change)), opened)


@pytest.mark.parametrize(("change", "expected"), PIECE_MISTAKES.values(), ids=PIECE_MISTAKES)
def test_a_file_of_wrong_pieces_is_refused(opened, by_piece, change, expected):
    with pytest.raises(UserError, match=expected):
        word_tasks(DataConfig(path=opened.folder, tasks=alter(by_piece, change)), opened)


def test_what_is_no_file_of_tasks_is_refused(opened, tmp_path):
    for text, expected in (
        (None, "no such file; make one with pipeline tasks"),
        ("tasks: 3", "Invalid JSON"),
    ):
        if text:
            (tmp_path / "tasks.json").write_text(text)
        with pytest.raises(UserError, match=expected):
            word_tasks(DataConfig(path=opened.folder, tasks=tmp_path / "tasks.json"), opened)


def test_a_run_knows_its_file_by_its_content(opened, merged, tmp_path):
    keys = {"name": "run", "steps": 1, "data": {"path": opened.folder, "tasks": merged}}
    config = with_hash_of_tasks(RunConfig.model_validate({**keys, "masking": {"policy": "random"}}))
    elsewhere = merged.rename(tmp_path / "elsewhere.json")
    data = config.data.model_copy(update={"tasks": elsewhere})
    assert word_tasks(data, opened).sha256 == config.data.tasks_sha256
    elsewhere.write_text(elsewhere.read_text() + " ")
    with pytest.raises(UserError, match=r"was altered since data\.tasks_sha256 was written down"):
        word_tasks(data, opened)
