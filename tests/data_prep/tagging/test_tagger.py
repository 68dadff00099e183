"""Words, tasks and sentences from the real tagger."""

import itertools
from pathlib import Path

import pytest
import spacy

from data_prep.corpus.documents import Document
from data_prep.errors import UserError
from data_prep.tagging.tag_map import TASK_NAMES, task_of_tag
from data_prep.tagging.tagger import Tagger

GOLD = Path(__file__).parents[3] / "shared" / "data" / "pos" / "en_ewt-ud-dev.conllu"


def words(paragraph):
    """The text and the task's name of each word."""
    spans = zip(paragraph.starts, paragraph.ends, paragraph.tasks, strict=True)
    return [(paragraph.text[a:b], TASK_NAMES[task] if task < 9 else None) for a, b, task in spans]


def test_words_carry_the_task_of_their_part_of_speech(tagger):
    ((_, (paragraph,)),) = tagger.tag(
        [Document("", "Oh, she quickly read the old books and slept under 2 trees.")]
    )
    assert words(paragraph) == [
        ("Oh", "interjection"),
        (",", None),
        ("she", "pronoun"),
        ("quickly", "adverb"),
        ("read", "verb"),
        ("the", "determiner"),
        ("old", "adjective"),
        ("books", "noun"),
        ("and", "conjunction"),
        ("slept", "verb"),
        ("under", "preposition"),
        ("2", None),
        ("trees", "noun"),
        (".", None),
    ]


def test_sentences_start_where_the_tagger_says(tagger):
    text = "Dr. Smith slept. It rained all day! Who cares?"
    ((_, (paragraph,)),) = tagger.tag([Document("", text)])
    starts = paragraph.starts[paragraph.sentence_starts]
    assert [text[start:].split()[0] for start in starts] == ["Dr.", "It", "Who"]


def test_documents_come_back_in_order_with_a_tagged_text_per_paragraph(tagger, documents):
    documents = [Document("twin", "Same text."), Document("twin", "Same text."), *documents[:20]]
    tagged = list(tagger.tag(documents))
    assert [document for document, _ in tagged] == documents
    for document, paragraphs in tagged:
        assert [paragraph.text for paragraph in paragraphs] == document.paragraphs


def test_documents_without_a_word_come_with_an_empty_list(tagger):
    tagged = tagger.tag([Document("a", " \n "), Document("b", "Text."), Document("c", "")])
    assert [(document.doc_id, len(paragraphs)) for document, paragraphs in tagged] == [
        ("a", 0),
        ("b", 1),
        ("c", 0),
    ]


@pytest.mark.parametrize("text", ["never ending words " * 3_000, "x" * 50_001])
def test_a_paragraph_too_long_for_the_tagger_is_cut_and_loses_no_word(tagger, text):
    ((_, paragraphs),) = tagger.tag([Document("", text)])
    assert len(paragraphs) == 2
    separator = " " if " " in text else ""
    assert separator.join(paragraph.text for paragraph in paragraphs) == text.strip()


def test_the_tagger_is_told_apart_by_name_version_and_hash(tagger):
    assert tagger.component.name.startswith("en_core_web_sm")
    assert tagger.component == Tagger(tagger.component.name).component
    assert len(tagger.component.sha256) == 64


def test_a_missing_tagger_is_named_with_a_remedy():
    with pytest.raises(UserError, match="no_such_tagger: no such spaCy pipeline; install it"):
        Tagger("no_such_tagger")


def test_a_spacy_pipeline_without_a_tagger_is_refused(tmp_path):
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(UserError, match="blank: this spaCy pipeline has no tagger; give --tagger"):
        Tagger(str(tmp_path / "blank"))


@pytest.mark.skipif(not GOLD.is_file(), reason=f"needs gold tags: {GOLD} is absent")
def test_tasks_agree_with_gold_tags(tagger):
    """Of the gold words of each task that the tagger splits alike, at least three in four get that task."""
    sentences = GOLD.read_text().split("\n\n")[:800]
    gold, texts = [], []
    for sentence in filter(None, map(str.strip, sentences)):
        lines = [line.split("\t") for line in sentence.splitlines() if not line.startswith("#")]
        gold.append([(line[1], task_of_tag(line[4])) for line in lines if line[0].isdigit()])
        texts.append(" ".join(word for word, _ in gold[-1]))
    right, total = [0] * 9, [0] * 9
    tagged = tagger.tag(Document(str(number), text) for number, text in enumerate(texts))
    for expected, (_, paragraphs) in zip(gold, tagged, strict=True):
        ends = itertools.accumulate(len(word) + 1 for word, _ in expected)
        spans = {
            (end - len(word) - 1, end - 1): task for end, (word, task) in zip(ends, expected, strict=True)
        }
        (paragraph,) = paragraphs
        for start, end, task in zip(paragraph.starts, paragraph.ends, paragraph.tasks, strict=True):
            wanted = spans.get((start, end), 9)
            if wanted < 9:
                total[wanted] += 1
                right[wanted] += wanted == task
    agreement = {name: right[task] / total[task] for task, name in enumerate(TASK_NAMES)}
    assert min(agreement.values()) > 0.75, agreement
