"""Each cleaning step, by itself and on real text."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.corpus.cleaning import Cleaner, CleaningSettings, Dropped
from data_prep.corpus.documents import Document
from data_prep.errors import UserError

ENGLISH = "It was a bright cold day in April, and the clocks were striking thirteen. "
GERMAN = "Es war ein klarer, kalter Tag im April, und die Uhren schlugen gerade dreizehn. "
RUN = "one two three four five six seven eight nine ten eleven twelve thirteen"
RUN_BYTES = RUN.encode()


def test_by_default_text_is_normalised_and_counted():
    cleaner = Cleaner(CleaningSettings())
    assert cleaner(Document("a", "schÃ¶n", continues=True)) == Document("a", "schön", continues=True)
    plain = Document("b", "plain")
    assert cleaner(plain) is plain
    assert cleaner.counts["normalized"] == 1


def test_normalisation_can_be_left_out():
    document = Document("a", "schÃ¶n")
    assert Cleaner(CleaningSettings(normalize=False))(document) is document


@pytest.mark.parametrize("text", ["", " \n", "\0\x07", "\ufeff"])
def test_a_document_without_words_is_dropped(text):
    assert Cleaner(CleaningSettings())(Document("a", text)) == Dropped("too_short", "0 words, fewer than 1")


def test_a_document_of_too_few_words_is_dropped_but_not_the_end_of_a_long_one():
    cleaner = Cleaner(CleaningSettings(min_words=3))
    assert cleaner(Document("a", "One two.")) == Dropped("too_short", "2 words, fewer than 3")
    assert isinstance(cleaner(Document("a", "One two three.")), Document)
    assert isinstance(cleaner(Document("a", "End.", continues=True)), Document)


def test_documents_of_another_language_are_dropped():
    cleaner = Cleaner(CleaningSettings(language="en"))
    assert isinstance(cleaner(Document("a", ENGLISH)), Document)
    assert cleaner(Document("a", GERMAN)) == Dropped("language", 'its language is "de", not "en"')


def test_the_language_is_that_of_the_middle():
    cleaner = Cleaner(CleaningSettings(language="de"))
    assert isinstance(cleaner(Document("a", ENGLISH * 50 + GERMAN * 100 + ENGLISH * 50)), Document)


def test_a_document_whose_language_cannot_be_told_is_kept():
    assert isinstance(Cleaner(CleaningSettings(language="en"))(Document("a", "1234 !")), Document)


def test_an_unknown_language_is_a_mistake_that_lists_the_known_ones():
    with pytest.raises(UserError, match=r'language "english": not known; give one of .*de, .*en, '):
        Cleaner(CleaningSettings(language="english"))


@pytest.fixture
def decontaminating(tmp_path):
    """A function that makes a Cleaner which knows one evaluation file."""

    def make(name="a.txt", content=RUN_BYTES, **settings):
        path = tmp_path / name
        path.write_bytes(content)
        return Cleaner(CleaningSettings(decontaminate=(str(path),), **settings))

    return make


def test_a_paragraph_that_shares_a_run_of_words_is_removed(decontaminating):
    cleaner = decontaminating()
    repeated = "He said: “" + RUN.title().replace(" ", ",\n") + "!” And went."
    document = Document("a", f"{ENGLISH}\n{ENGLISH}\n\n{repeated}\n\n{ENGLISH * 2}", continues=True)
    cleaned = cleaner(document)
    assert cleaned == Document("a", f"{(ENGLISH * 2).strip()}\n\n{(ENGLISH * 2).strip()}", continues=True)
    assert cleaner.counts["paragraphs_removed"] == 1
    assert cleaner.counts["documents_with_paragraphs_removed"] == 1


@pytest.mark.parametrize(
    "text",
    [
        RUN.removesuffix(" thirteen"),
        RUN.replace("six seven", "seven six"),
        RUN.replace("six seven", "six\n\nseven"),
        RUN.replace("six ", "six and "),
    ],
)
def test_twelve_words_other_orders_and_runs_across_paragraphs_are_no_repetition(decontaminating, text):
    document = Document("a", f"{ENGLISH}\n\n{text}")
    assert decontaminating()(document) is document


def test_a_document_that_lost_most_of_its_words_is_dropped(decontaminating):
    dropped = decontaminating()(
        Document("a", f"{RUN}\n\nTwelve other words are fewer than thirteen, they say, so go now.")
    )
    assert dropped == Dropped(
        "contaminated", "13 of 25 words stand in paragraphs that repeat evaluation texts"
    )


def test_a_document_of_which_too_little_is_left_is_dropped(decontaminating):
    document = Document("a", f"{RUN}\n\n{ENGLISH}{ENGLISH}")
    assert isinstance(decontaminating(min_words=28)(document), Document)
    assert decontaminating(min_words=29)(document).kind == "contaminated"


def test_evaluation_texts_too_short_to_be_found_are_counted(decontaminating):
    cleaner = decontaminating(content=f"{RUN}\n\none two\n{ENGLISH}".encode())
    assert (cleaner.num_evaluation_texts, cleaner.num_too_short_evaluation_texts) == (3, 1)


def _parquet():
    table = pa.table({"n": [1], "a": ["x"], "b": [RUN]})
    pq.write_table(table, sink := pa.BufferOutputStream())
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", json.dumps({"n": 1, "a": {"b": ["x", RUN]}}).encode()),
        ("a.jsonl.gz", gzip.compress(json.dumps([RUN]).encode())),
        ("a.csv", f"n,b\n1,{RUN}\n".encode()),
        ("a.tsv", f"n\tb\n1\t{RUN}\n".encode()),
        ("a.parquet", _parquet()),
    ],
)
def test_every_string_of_an_evaluation_file_is_looked_for(decontaminating, name, content):
    assert decontaminating(name, content)(Document("a", f"{RUN}")).kind == "contaminated"


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", b"{"), ("a.txt", b"\xff"), ("a.parquet", b"x"), ("a.csv", b'a\n"b'), ("a.txt.gz", b"x")],
)
def test_evaluation_texts_that_cannot_be_read_are_a_mistake(decontaminating, name, content):
    with pytest.raises(UserError, match=f"{name}: evaluation texts cannot be read") as error:
        decontaminating(name, content)
    assert len(str(error.value).splitlines()) == 1


def test_a_sentence_of_glue_in_a_real_book_is_found_and_nothing_else(shared_data):
    glue = shared_data / "glue" / "rte" / "validation-00000-of-00001.parquet"
    cleaner = Cleaner(CleaningSettings(decontaminate=(str(glue),)))
    planted = pq.read_table(glue)["sentence1"][7].as_py()
    with gzip.open(shared_data / "text" / "gutenberg-01.jsonl.gz") as lines:
        book = Document("book", json.loads(next(lines))["text"])
    clean = cleaner(book)
    assert isinstance(clean, Document)
    assert cleaner.counts["paragraphs_removed"] == 0
    paragraphs = clean.paragraphs
    middle = len(paragraphs) // 2
    text = "\n\n".join([*paragraphs[:middle], f"It says: {planted}", *paragraphs[middle:]])
    assert cleaner(Document("book", text)).paragraphs == paragraphs
    assert cleaner.counts["paragraphs_removed"] == 1
