"""Sections of documents, for a corpus of too few documents to hold whole ones out."""

from collections.abc import Iterator

from data_prep.corpus.documents import Document

MIN_DOCUMENTS = 20
"""With fewer, whole documents cannot be held out, and their sections take the place of documents."""
_NUM_SECTIONS = 200
_MIN_SECTION_WORDS = 100


def section_words(corpus_words: int) -> int:
    """Words per section such that there are sections enough to hold some out."""
    return max(corpus_words // _NUM_SECTIONS, _MIN_SECTION_WORDS)


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
