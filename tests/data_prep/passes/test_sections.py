"""Sections of documents, where there are few."""

import random

import pytest

from data_prep.corpus.documents import Document
from data_prep.passes.sections import section_words, sections


def prose(seed, num_words):
    generator = random.Random(seed)
    return " ".join(f"w{generator.randrange(5_000)}" for _ in range(num_words))


def test_sections_are_cut_at_blank_lines_where_a_document_has_them():
    paragraphs = [prose(seed, 5 + seed % 30) for seed in range(100)]
    parts = list(sections(Document("book", "\n\n".join(paragraphs)), 120))
    assert [paragraph for part in parts for paragraph in part.paragraphs] == paragraphs
    assert [part.doc_id for part in parts] == [f"book#{number}" for number in range(1, len(parts) + 1)]
    assert all(120 <= len(part.text.split()) < 120 + 35 for part in parts[:-1])


@pytest.mark.parametrize("line_words", [1, 12, 119, 5_000])
def test_a_document_without_blank_lines_is_cut_too_and_loses_no_word(line_words):
    words = prose("book", 5_000).split()
    lines = [" ".join(words[first : first + line_words]) for first in range(0, len(words), line_words)]
    parts = list(sections(Document("book", "\n".join(lines)), 120))
    assert [word for part in parts for word in part.text.split()] == words
    assert all(120 <= len(part.text.split()) <= 2 * 120 for part in parts[:-1])


def test_a_document_without_text_has_no_sections():
    assert list(sections(Document("empty", " \n\n "), 50)) == []


def test_a_corpus_gives_about_two_hundred_sections_unless_they_would_be_tiny():
    assert section_words(100_000) == 500
    assert section_words(1_000) == 100
