"""Which documents are held out."""

import random
from collections import Counter

import numpy as np
import pytest
import xxhash

from data_prep.corpus.documents import Document
from data_prep.errors import UserError
from data_prep.passes.signatures import Signer, near_duplicates
from data_prep.passes.splits import SPLITS, TEST, VALIDATION, assign_splits, clusters

SHARES = {"test": 0.1, "validation": 0.1}
NUMBERS = {"test": TEST, "validation": VALIDATION}


def prose(seed, num_words):
    generator = random.Random(seed)
    return " ".join(f"w{generator.randrange(5_000)}" for _ in range(num_words))


@pytest.fixture(scope="module")
def originals():
    """Two hundred documents of 20 to 400 words, no two alike."""
    return [Document(f"d{seed}", prose(seed, random.Random(seed).randint(20, 400))) for seed in range(200)]


def splits(documents, seed=0, shares=SHARES):
    signer = Signer()
    signatures = [np.frombuffer(signer.sign(document.text.split()), "<u4") for document in documents]
    assigned = assign_splits(
        clusters(len(documents), [near_duplicates(np.stack(signatures))]),
        np.array([len(document.text.split()) for document in documents]),
        np.array([xxhash.xxh3_64_intdigest(document.doc_id.encode()) for document in documents], np.uint64),
        {NUMBERS[split]: share for split, share in shares.items()},
        seed,
    )
    return [SPLITS[number] for number in assigned]


def near_duplicate(document):
    """The document with its last word changed and a few put before it."""
    words = document.text.split()
    return Document(f"{document.doc_id} again", " ".join(["Reprinted", *words[:-1], "end"]))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.02, 0.1, 0.4])
def test_each_held_out_split_gets_about_its_share_of_the_words(originals, seed, share):
    assigned = splits(originals, seed, {"test": share, "validation": share})
    words = Counter()
    for document, split in zip(originals, assigned, strict=True):
        words[split] += len(document.text.split())
    for split in ("test", "validation"):
        assert 0.5 * share < words[split] / words.total() < 1.5 * share


def test_a_document_much_larger_than_a_held_out_split_is_trained_on():
    documents = [Document(f"d{number}", prose(number, 500 if number == 0 else 100)) for number in range(16)]
    assert {splits(documents, seed)[0] for seed in range(30)} == {"train"}


@pytest.mark.parametrize("seed", range(3))
def test_a_document_and_its_near_duplicate_belong_to_one_split(originals, seed):
    documents = [document for document in originals if len(document.text.split()) > 60]
    copies = [near_duplicate(document) for document in documents]
    assigned = splits(documents + copies, seed)
    assert assigned[: len(documents)] == assigned[len(documents) :]
    assert set(assigned) == {"train", "validation", "test"}


@pytest.mark.parametrize("seed", range(3))
def test_exact_copies_belong_to_one_split_however_short_and_in_whatever_case(originals, seed):
    short = [Document(f"s{number}", f"Only{number} words{number}") for number in range(50)]
    copies = [Document(f"{document.doc_id} again", document.text.upper()) for document in short]
    assigned = splits(originals + short + copies, seed)
    assert assigned[len(originals) :][:50] == assigned[len(originals) :][50:]


def test_a_chain_of_near_duplicates_belongs_to_one_split(originals):
    chain = [Document("link0", prose("chain", 200))]
    for number in range(1, 12):
        words = chain[-1].text.split()
        words[15 * number : 15 * number + 10] = [f"new{number}"] * 10
        chain.append(Document(f"link{number}", " ".join(words)))
    assert len(set(splits(originals + chain)[len(originals) :])) == 1


def test_the_split_is_a_function_of_documents_and_seed(originals):
    assert splits(originals, 5) == splits(originals, 5)
    assert splits(originals, 5) != splits(originals, 6)


@pytest.mark.parametrize("num_documents", [1, 2])
def test_too_few_documents_to_hold_some_out_are_refused(originals, num_documents):
    with pytest.raises(UserError, match=r"too small to hold a (test|validation) split out: "):
        splits(originals[:num_documents])


def test_copies_of_one_document_are_too_few_documents(originals):
    with pytest.raises(UserError, match="20 documents, 1 if near-duplicates count once; give more text"):
        splits(originals[:1] * 20)


def test_three_documents_give_one_to_each_split(originals):
    assert sorted(splits(originals[:3])) == ["test", "train", "validation"]


def test_parts_of_a_document_belong_to_one_split(originals):
    parents = np.arange(len(originals)) // 4 * 4
    everyone = np.arange(len(originals))
    assigned = assign_splits(
        clusters(len(originals), [everyone, parents]),
        np.full(len(originals), 100),
        everyone.astype(np.uint64),
        {TEST: 0.2, VALIDATION: 0.2},
        0,
    )
    assert (assigned.reshape(-1, 4) == assigned[::4, None]).all()
    assert set(assigned) == {0, 1, 2}
