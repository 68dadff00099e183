"""Words, tasks and sentences from the real tagger."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from data_prep.corpus.documents import Document
from data_prep.errors import UserError
from data_prep.tagging import lexicon, loading
from data_prep.tagging.annotation import PlainAnnotator
from data_prep.tagging.fast_annotation import FastAnnotator
from data_prep.tagging.tag_map import TagMap, load_tag_map
from data_prep.tagging.tagger import Tagger

BOOKS = Path(__file__).parents[4] / "shared" / "data" / "text" / "gutenberg-03.jsonl.gz"
TASK_NAMES = load_tag_map().task_names
UNIVERSAL = TagMap(attribute="pos", tasks={"noun": ("NOUN", "PROPN"), "verb": ("VERB", "AUX")})


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


def test_the_tagger_is_told_apart_by_name_version_and_hash(tagger):
    assert tagger.component.name.startswith("en_core_web_sm")
    assert tagger.component == Tagger(tagger.component.name).component
    assert len(tagger.component.sha256) == 64


def test_a_missing_tagger_is_named_with_a_remedy():
    with pytest.raises(UserError, match="no_such_tagger: no such spaCy pipeline; give a path, or install it"):
        Tagger("no_such_tagger")


def assert_same(own, expected):
    assert own.text == expected.text
    for column in ("starts", "ends", "tasks", "sentence_starts"):
        np.testing.assert_array_equal(getattr(own, column), getattr(expected, column), err_msg=own.text)


def by_spacy(nlp, texts, tag_map=None):
    """What the default pipeline, with spaCy's own matrix products, says of texts."""
    tag_map = tag_map or load_tag_map()
    for doc in nlp.pipe(texts):
        columns = doc.to_array(["IDX", "LENGTH", "SENT_START"]).astype(np.int64).T
        keys = doc.to_array(tag_map.attribute.upper()).tolist()
        task_of_key = {key: tag_map.task_of_tag(nlp.vocab.strings[key]) for key in set(keys)}
        tasks = [task_of_key[key] for key in keys]
        yield columns[0], columns[0] + columns[1], tasks, columns[2] == 1


def count_differing(nlp, tagged):
    """Paragraphs that spaCy sees otherwise, and all words."""
    differing = words = 0
    for own, (starts, ends, tasks, sentence_starts) in zip(
        tagged, by_spacy(nlp, [paragraph.text for paragraph in tagged]), strict=True
    ):
        words += len(tasks)
        sentence_starts[0] = True
        pairs = [(own.starts, starts), (own.ends, ends), (own.tasks, tasks)]
        pairs.append((own.sentence_starts, sentence_starts))
        differing += not all(np.array_equal(ours, theirs) for ours, theirs in pairs)
    return differing, words


def test_words_tags_and_sentences_are_those_of_the_plain_pipeline(tagger, nlp, documents):
    tagged = [paragraph for _, paragraphs in tagger.tag(documents) for paragraph in paragraphs]
    assert isinstance(tagger._annotator, FastAnnotator)
    differing, words = count_differing(nlp, tagged)
    assert differing == 0
    assert words > 20_000


@pytest.mark.skipif(not BOOKS.is_file(), reason=f"needs real text: {BOOKS} is absent")
def test_they_are_those_of_the_plain_pipeline_over_200_000_words_of_books(tagger, nlp):
    tagged, words = [], 0
    with gzip.open(BOOKS) as lines:
        books = (Document("", json.loads(line)["text"]) for line in lines)
        for _, paragraphs in tagger.tag(Document("", book.text[100_000:400_000]) for book in books):
            tagged += paragraphs
            words += sum(len(paragraph.tasks) for paragraph in paragraphs)
            if words > 200_000:
                break
    with nlp.select_pipes(disable=["attribute_ruler"]):  # the test above shows that it changes no tag
        assert count_differing(nlp, tagged)[0] == 0


SPECIAL = sorted(rule for rule in spacy.blank("en").tokenizer.rules if rule.strip())
NASTY = [
    "\x00",
    "\u200b",
    "\u202e\u05e9\u05dc",
    "e\u0301",
    "中文。",
    "👩‍👩‍👧",
    "\ufeff",
    "http://x.y/z?a=b",
    "'s",
    "((",
    "n't",
]
words_of_all_kinds = st.lists(
    st.one_of(st.sampled_from(SPECIAL), st.sampled_from(NASTY), st.text(":;)(-.'Dox8=^_\"", min_size=1)),
    min_size=1,
    max_size=3,
).map("".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(words_of_all_kinds, min_size=1, max_size=12).map(" ".join), min_size=1, max_size=8))
def test_nasty_words_are_tagged_as_by_the_plain_pipeline(tagger, texts):
    texts = [" ".join(text.split()) for text in texts]
    fast, plain = (way.annotate(texts) for way in (tagger._annotator, tagger._plain))
    for own, expected in zip(fast, plain, strict=True):
        assert_same(own, expected)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_as_its_words(tagger, text):
    for _, paragraphs in tagger.tag([Document("", text)]):
        kept = "".join(paragraph.text for paragraph in paragraphs)
        assert "".join(kept.split()) == "".join("".join(Document("", text).paragraphs).split())
        for own in paragraphs:
            words_of = "".join(own.text[a:b] for a, b in zip(own.starts, own.ends, strict=True))
            assert words_of == "".join(own.text.split())
            assert own.sentence_starts[0]


def test_a_text_that_is_not_folded_is_tagged_the_plain_way(tagger):
    texts = ["Two  spaces here.", " one before", "a\ttab", "   ", ""]
    fast, plain = (way.annotate(texts) for way in (tagger._annotator, tagger._plain))
    assert fast[-1] is plain[-1] is None
    for own, expected in zip(fast[:-1], plain[:-1], strict=True):
        assert_same(own, expected)


def test_what_is_tagged_with_a_text_does_not_matter_to_its_numbers(tagger, documents):
    """Not only the labels: the lexicon's vectors are the same bits whatever the order."""
    texts = [paragraph for document in documents[:20] for paragraph in document.paragraphs]
    first, other = Tagger(), Tagger()
    for own, again in zip(
        first._annotator.annotate(texts), other._annotator.annotate(texts[::-1])[::-1], strict=True
    ):
        assert_same(own, again)
    vectors = [way._annotator._lexicon for way in (first, other)]
    places = [item._row_of for item in vectors]
    for key in list(places[0])[:500]:
        np.testing.assert_array_equal(
            vectors[0].table(0)[places[0][key]], vectors[1].table(0)[places[1][key]]
        )


def test_memory_is_bounded_and_forgetting_changes_nothing(documents, monkeypatch):
    expected = [paragraphs for _, paragraphs in Tagger().tag(documents[:20])]
    monkeypatch.setattr(lexicon, "_MAX_WORDS", 500)
    monkeypatch.setattr("data_prep.tagging.tagger._BATCH_CHARACTERS", 5_000)
    forgetful = Tagger()
    first, sizes = forgetful._annotator._lexicon._pipeline.nlp, []
    for wanted, (_, own) in zip(expected, forgetful.tag(documents[:20]), strict=True):
        for one, other in zip(own, wanted, strict=True):
            assert_same(one, other)
        sizes.append(len(forgetful._annotator._lexicon._numbers))
    assert max(sizes) < 3_000
    assert forgetful._annotator._lexicon._pipeline.nlp is not first


def test_the_plain_way_forgets_words_too(documents, monkeypatch):
    pipeline = loading.Pipeline(None, load_tag_map(), "cpu")
    plain, first = PlainAnnotator(pipeline, load_tag_map()), pipeline.nlp
    texts = documents[0].paragraphs
    expected = plain.annotate(texts)
    monkeypatch.setattr(loading, "_MAX_LEXEMES", 10)
    for own, other in zip(plain.annotate(texts), expected, strict=True):
        assert_same(own, other)
    assert pipeline.nlp is not first


def test_blas_runs_one_thread_while_tagging(tagger, documents, monkeypatch):
    seen = []

    def annotate(texts):
        seen.extend(item["num_threads"] for item in threadpool_info() if item["user_api"] == "blas")
        return [None] * len(texts)

    monkeypatch.setattr(tagger._annotator, "annotate", annotate)
    list(tagger.tag(documents[:1]))
    assert set(seen) == {1}


def test_a_pipeline_of_another_kind_is_tagged_the_plain_way(tagger, tmp_path):
    nlp = spacy.load(tagger.component.name, exclude=["parser", "ner", "lemmatizer", "senter"])
    nlp.to_disk(tmp_path / "no_senter")
    other = Tagger(str(tmp_path / "no_senter"))
    assert isinstance(other._annotator, PlainAnnotator)
    ((_, (paragraph,)),) = other.tag([Document("", "She slept. It rained.")])
    assert words(paragraph)[:2] == [("She", "pronoun"), ("slept", "verb")]
    assert paragraph.starts[paragraph.sentence_starts].tolist() == [0, 11]


def test_universal_tags_come_from_the_attribute_ruler_where_there_is_no_morphologizer(nlp, documents):
    tagger = Tagger(None, UNIVERSAL)
    assert tagger.task_names == ("noun", "verb")
    tagged = [paragraph for _, paragraphs in tagger.tag(documents[:3]) for paragraph in paragraphs]
    expected = by_spacy(nlp, [paragraph.text for paragraph in tagged], UNIVERSAL)
    for own, (_, _, tasks, _) in zip(tagged, expected, strict=True):
        assert own.tasks.tolist() == tasks


def test_a_spacy_pipeline_without_a_tagger_is_refused_with_what_it_has(tmp_path):
    blank = spacy.blank("en")
    blank.add_pipe("sentencizer")
    blank.to_disk(tmp_path / "blank")
    with pytest.raises(
        UserError, match=r"no tagger; give --tagger one that has \(this one has: sentencizer\)"
    ):
        Tagger(str(tmp_path / "blank"))
    with pytest.raises(UserError, match="no morphologizer, nor a tagger with attribute_ruler"):
        Tagger(str(tmp_path / "blank"), UNIVERSAL)


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}: spaCy cannot load this"):
        Tagger(str(tmp_path))


def test_tags_that_the_tag_map_does_not_know_are_named_with_a_remedy():
    german = TagMap(attribute="tag", tasks={"verb": ("VVFIN", "VAFIN")})
    with pytest.raises(UserError, match=r"its tags \(\$, '', .*\) are none of the tag map's; give --tag-map"):
        Tagger(None, german)


def test_without_a_gpu_the_gpu_is_refused_in_one_line():
    if spacy.prefer_gpu():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="the tagger cannot run on a GPU"):
        Tagger(device="gpu")
