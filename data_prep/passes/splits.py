"""Which documents train and which are held out; near-duplicates stay together."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import networkx
import xxhash
from datasketch import MinHash, MinHashLSH

from data_prep.corpus.documents import Document
from data_prep.errors import UserError
from data_prep.schema import Split

MIN_DOCUMENTS = 20
"""With fewer, whole documents cannot be held out, and their sections take the place of documents."""
_NUM_SECTIONS = 200
_MIN_SECTION_WORDS = 100
_SHINGLE_WORDS = 5
_NEAR_DUPLICATE = 0.7
"""Jaccard similarity of word 5-grams from which two documents are near-duplicates."""
_CANDIDATE = 0.4
"""Similarity at which the index looks for candidates: lower, since it misses some of those just above."""
_PERMUTATIONS = 128


@dataclass(frozen=True)
class Survey:
    """What the split needs to know of a document."""

    doc_id: str
    words: int
    signature: MinHash


def survey(document: Document) -> Survey:
    """Count a document's words and sign its word 5-grams."""
    words = document.text.lower().split()
    last = max(len(words) - _SHINGLE_WORDS, 0)
    shingles = {" ".join(words[i : i + _SHINGLE_WORDS]).encode() for i in range(last + 1)}
    signature = MinHash(num_perm=_PERMUTATIONS, hashfunc=xxhash.xxh32_intdigest)
    signature.update_batch(list(shingles))
    return Survey(document.doc_id, len(words), signature)


def sections(document: Document, num_words: int) -> Iterator[Document]:
    """A document cut into sections of `num_words` to twice as many words, at blank lines where it has them.

    Where it has none, it is cut between lines, and a very long line between words.
    """
    block: list[str] = []
    size, number = 0, 1
    for line in _short_lines(document.text, num_words):
        length = len(line.split())
        if size >= num_words and (not length or size + length > 2 * num_words):
            yield Document(f"{document.doc_id}#{number}", "\n".join(block))
            block, size, number = [], 0, number + 1
        block.append(line)
        size += length
    if size:
        yield Document(f"{document.doc_id}#{number}", "\n".join(block))


def _short_lines(text: str, num_words: int) -> Iterator[str]:
    for line in text.splitlines():
        words = line.split()
        if len(words) <= num_words:
            yield line
        else:
            yield from (" ".join(words[i : i + num_words]) for i in range(0, len(words), num_words))


def section_words(corpus_words: int) -> int:
    """Words per section such that there are sections enough to hold some out."""
    return max(corpus_words // _NUM_SECTIONS, _MIN_SECTION_WORDS)


def assign_splits(surveys: list[Survey], shares: dict[Split, float], seed: int) -> list[Split]:
    """The split of each document: whole clusters of near-duplicates, by words, in an order drawn from `seed`.

    Raises:
        UserError: a split would stay empty.
    """
    clusters = _clusters([item.signature for item in surveys])

    def draw(cluster: list[int]) -> str:
        return hashlib.sha256(f"{seed}\n{surveys[cluster[0]].doc_id}\n{cluster[0]}".encode()).hexdigest()

    clusters.sort(key=draw)
    words = [sum(surveys[index].words for index in cluster) for cluster in clusters]
    splits: list[Split] = ["train"] * len(surveys)
    free = list(range(len(clusters)))
    for split, share in shares.items():
        taken = _take(free, words, share * sum(words), most=max(len(clusters) // 4, 1))
        free = [number for number in free if number not in taken]
        for number in taken:
            for index in clusters[number]:
                splits[index] = split
        if not taken or not free:
            raise UserError(
                f"the corpus has {len(surveys)} documents in {len(clusters)} groups without near-duplicates: "
                f"too few to hold a {split} split out; give more text"
            )
    return splits


def _take(free: list[int], words: list[int], room: float, most: int) -> set[int]:
    """Clusters in order until `room` words are taken, none that would overshoot it by more than half.

    At least two, since half of the pairs need another document; at most `most`, lest small ones are used up.
    """
    taken: list[int] = []
    size = 0.0
    for number in free:
        if len(taken) >= most or (size >= room and len(taken) >= 2):
            break
        if size + words[number] <= 1.5 * room:
            taken.append(number)
            size += words[number]
    smallest = sorted((n for n in free if n not in taken), key=lambda number: words[number])
    return {*taken, *smallest[: max(min(2, most) - len(taken), 0)]}


def _clusters(signatures: Iterable[MinHash]) -> list[list[int]]:
    """Connected components of the near-duplicate relation, as ascending indices."""
    index = MinHashLSH(threshold=_CANDIDATE, num_perm=_PERMUTATIONS)
    graph = networkx.Graph()
    seen: list[MinHash] = []
    for number, signature in enumerate(signatures):
        graph.add_node(number)
        for other in index.query(signature):
            if signature.jaccard(seen[other]) >= _NEAR_DUPLICATE:
                graph.add_edge(number, other)
        index.insert(number, signature)
        seen.append(signature)
    return [sorted(component) for component in networkx.connected_components(graph)]
