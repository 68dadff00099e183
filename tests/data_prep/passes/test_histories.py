"""A block is a function of its documents, though a worker remembers words from one block to the next."""

import pytest

from data_prep.passes.blocks import BlocksPass
from data_prep.passes.planning import PlanningPass
from data_prep.passes.prepare import Preparation, begin
from data_prep.passes.reading import ReadingPass
from data_prep.progress import Monitor
from data_prep.tagging import lexicon, loading
from tests.data_prep.conftest import SETTINGS, write_corpus


@pytest.fixture(scope="module")
def blocks(documents, tokenizer_file, tmp_path_factory):
    """The last pass before the merge, done."""
    folder = tmp_path_factory.mktemp("histories")
    settings = SETTINGS.model_copy(update={"tokenizer": str(tokenizer_file), "block_size": 10_000})
    job = begin([str(write_corpus(folder / "a.jsonl", documents[:40]))], folder / "out", settings, None).job
    Preparation(job, Monitor()).prepare()
    return BlocksPass(job, PlanningPass(job, ReadingPass(job)))


def made(blocks, order):
    """The bytes of all blocks, made by one worker in some order."""
    for path in blocks.folder.glob("*.arrow"):
        path.unlink()
    prepare = blocks.worker()
    for task in order:
        prepare(task, lambda counts: None)
    return {path.name: path.read_bytes() for path in blocks.folder.glob("*.arrow")}


@pytest.fixture(scope="module")
def expected(blocks):
    return made(blocks, range(len(blocks.planning.plan().blocks)))


def test_the_order_of_the_blocks_does_not_matter(blocks, expected):
    assert len(expected) >= 8
    assert made(blocks, reversed(range(len(expected)))) == expected


def test_a_block_that_is_prepared_alone_is_the_same(blocks, expected):
    (alone,) = made(blocks, [len(expected) // 2]).items()
    assert alone in expected.items()


@pytest.mark.parametrize(("module", "bound"), [(lexicon, "_MAX_WORDS"), (loading, "_MAX_LEXEMES")])
def test_forgetting_words_in_between_does_not_matter(blocks, expected, monkeypatch, module, bound):
    monkeypatch.setattr(module, bound, 1_500)
    order = [*range(0, len(expected), 3), *range(1, len(expected), 3), *range(2, len(expected), 3)]
    assert made(blocks, order) == expected
