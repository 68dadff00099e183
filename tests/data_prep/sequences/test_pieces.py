"""Word pieces against a slow, obvious alignment of the tagger's words with the tokenizer's pieces."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from data_prep.corpus.documents import Document
from data_prep.errors import UserError
from data_prep.schema import NO_TASK
from data_prep.sequences.pieces import encode_document
from data_prep.sequences.tokenizer import SPECIALS, load_tokenizer, tokenizer_json, train_tokenizer
from data_prep.tagging.cutting import MAX_WORD
from data_prep.tagging.tag_map import load_tag_map

TRICKY = (
    "the quick brown foxes jumped over lazily and she he wow oh don't cannot it's gonna I'd've o'clock we'll "
    "mother-in-law state-of-the-art 10km 3.14kg £5m 1990s e\u0301te\u0301 cafe\u0301 naïve Ångström "
    "n\u0303\u0302o ﬁre 😀 👨‍👩‍👧‍👦 👍🏽fine 日本語 中文text 東京 Привет שלום "
    "‘quoted’ “double” \"plain\" 'single' ... — "
    "http://a.b/c?d=e x@y.org (bracketed) C++ #tag zero\u200bwidth soft\u00adhyphen \u200d \u0301 \ufeff "
    "antidisestablishmentarianism Donaudampfschifffahrtsgesellschaft U.S.A. :-) and/or \u202eback"
)
texts = st.lists(
    st.tuples(
        st.sampled_from(TRICKY.split())
        | st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
        | st.sampled_from("abcdé").flatmap(
            lambda letter: st.integers(90, 210).map(lambda size: letter * size)
        ),
        st.sampled_from([" ", " ", " ", " ", "", "-", "'", ". ", "\n\n"]),
    ),
    min_size=1,
    max_size=14,
).map(lambda parts: "".join(word + separator for word, separator in parts))
whole_texts = texts.filter(lambda text: max(map(len, text.split()), default=0) <= MAX_WORD)
"""Without words so long that the tagger gets them in pieces."""


@pytest.fixture(scope="module")
def tokenizers(tokenizer, documents):
    """The project's own kind, and one whose pieces are bytes with the space before them."""
    byte_level = Tokenizer(models.BPE())
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.decoder = decoders.ByteLevel()
    byte_level.train_from_iterator(
        [document.text for document in documents],
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=list(SPECIALS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return {"word pieces": tokenizer, "bytes": byte_level}


def slow_words_of_pieces(offsets, doc):
    """For each piece the word that holds most of its characters, the first on a tie, or None."""
    found = []
    for first, end in offsets:
        best, most = None, 0
        for token in doc:
            held = sum(token.idx <= place < token.idx + len(token) for place in range(first, end))
            if held > most:
                best, most = token.i, held
        found.append(best)
    return found


def encode(tagger, tokenizer, document):
    ((_, paragraphs),) = tagger.tag([document])
    return encode_document(tokenizer, document.doc_id, paragraphs)


@pytest.mark.parametrize("kind", ["word pieces", "bytes"])
@given(text=whole_texts)
@example(text="I don't, can't, won't; it's 'quoted', isn't it?")
@example(text="We ran 10km.Then e\u0301te\u0301 came\u200d 👨‍👩‍👧‍👦中文text " + "y" * 120)
@settings(max_examples=100, deadline=None)
def test_every_piece_has_the_task_of_the_word_that_holds_most_of_its_characters(
    tagger, nlp, tokenizers, kind, text
):
    tokenizer = tokenizers[kind]
    document = Document("d", text)
    encoded = encode(tagger, tokenizer, document)
    ids, tasks, words, sentence_starts, words_before = [], [], [], [], 0
    for paragraph in document.paragraphs:
        encoding = tokenizer.encode(paragraph, add_special_tokens=False)
        doc = nlp(paragraph)
        for word in slow_words_of_pieces(encoding.offsets, doc):
            tasks.append(NO_TASK if word is None else load_tag_map().task_of_tag(doc[word].tag_))
            words.append(-1 if word is None else words_before + word)
            if word is not None and (len(words) == 1 or words[-2] != words[-1]) and doc[word].is_sent_start:
                sentence_starts.append(len(words) - 1)
        ids += encoding.ids
        words_before += len(doc)
    unknown = tokenizer.token_to_id("[UNK]")
    unknown_words = {word for piece, word in zip(ids, words, strict=True) if piece == unknown}
    tasks = [NO_TASK if w in unknown_words else task for w, task in zip(words, tasks, strict=True)]
    assert encoded.ids.tolist() == ids
    assert encoded.words.tolist() == words
    assert encoded.tasks.tolist() == tasks
    assert encoded.sentence_starts.tolist() == [*sentence_starts, len(ids)]


@given(text=texts)
@settings(max_examples=50, deadline=None)
def test_the_pieces_of_a_word_stand_together_share_a_task_and_are_cut_only_before_the_first(
    tagger, tokenizer, text
):
    encoded = encode(tagger, tokenizer, Document("d", text))
    known = encoded.words[encoded.words >= 0]
    assert (np.diff(known) >= 0).all()
    for word in np.unique(known):
        (places,) = np.nonzero(encoded.words == word)
        assert len(set(encoded.tasks[places])) == 1
        assert places.tolist() == list(range(places[0], places[-1] + 1))
        assert np.isin(places, encoded.cuts).tolist() == [True] + [False] * (len(places) - 1)
    assert encoded.cuts[-1] == encoded.sentence_starts[-1] == len(encoded)
    assert np.isin(encoded.sentence_starts, encoded.cuts).all()


def test_a_piece_across_two_words_belongs_to_the_one_that_holds_more_of_it(tagger, nlp):
    """Of `don't` the tagger makes `do` and `n't`, BERT's rule `don`, `'` and `t`."""
    tokenizer = train_tokenizer(["i don't"] * 2, 64)
    encoded = encode(tagger, tokenizer, Document("d", "I don't"))
    assert [token.text for token in nlp("I don't")] == ["I", "do", "n't"]
    assert [tokenizer.id_to_token(piece) for piece in encoded.ids] == ["i", "don", "'", "t"]
    assert encoded.words.tolist() == [0, 1, 2, 2]
    assert encoded.tasks.tolist() == [load_tag_map().task_of_tag(tag) for tag in ("PRP", "VB", "RB", "RB")]


def test_a_document_without_words_has_no_pieces(tokenizer):
    encoded = encode_document(tokenizer, "d", [])
    assert len(encoded) == 0
    assert encoded.cuts.tolist() == encoded.sentence_starts.tolist() == [0]


def test_training_a_tokenizer_twice_gives_the_same_one(documents):
    texts = [document.text for document in documents]
    assert tokenizer_json(train_tokenizer(texts, 600)) == tokenizer_json(train_tokenizer(texts, 600))


def test_training_is_the_same_twice_where_more_characters_occur_than_pieces_are_left():
    texts = [f"{chr(0xAC00 + number)}x {chr(0x4E00 + number)}" for number in range(2_000)]
    assert tokenizer_json(train_tokenizer(texts, 1_000)) == tokenizer_json(train_tokenizer(texts, 1_000))


def test_a_trained_tokenizer_keeps_to_its_size_and_opens_with_the_specials(tokenizer):
    assert tokenizer.get_vocab_size() == 600
    assert [tokenizer.token_to_id(special) for special in SPECIALS] == [0, 1, 2, 3, 4]
    assert SPECIALS == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def test_a_trained_tokenizer_reads_any_case_and_accent_alike(tokenizer):
    assert tokenizer.encode("THE Naïve Café").ids == tokenizer.encode("the naive cafe").ids
    assert all(piece == piece.lower() for piece in tokenizer.get_vocab() if piece not in SPECIALS)


def test_a_trained_tokenizer_frames_pairs_as_bert_does(tokenizer):
    encoding = tokenizer.encode("the", "a")
    assert encoding.tokens == ["[CLS]", "the", "[SEP]", "a", "[SEP]"]
    assert encoding.type_ids == [0, 0, 0, 1, 1]


@pytest.fixture
def vocab_file(tokenizer, tmp_path):
    path = tmp_path / "vocab.txt"
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)
    path.write_text("".join(f"{piece}\n" for piece in pieces))
    return path


def test_a_tokenizer_loads_from_its_json_its_vocabulary_or_their_folder(
    tokenizer, tokenizer_file, vocab_file
):
    expected = tokenizer.encode("The assert statement, naïvely.", "It's unknowable: ☃")
    for path in (tokenizer_file, tokenizer_file.parent, vocab_file, vocab_file.parent):
        loaded = load_tokenizer(path).encode("The assert statement, naïvely.", "It's unknowable: ☃")
        assert (loaded.ids, loaded.type_ids) == (expected.ids, expected.type_ids), path


def test_truncation_and_padding_of_a_loaded_tokenizer_are_switched_off(tokenizer, tmp_path):
    settings_kept = Tokenizer.from_str(tokenizer.to_str())
    settings_kept.enable_truncation(8)
    settings_kept.enable_padding(length=100)
    settings_kept.save(str(tmp_path / "tokenizer.json"))
    text = "the value of the name " * 4
    assert load_tokenizer(tmp_path).encode(text).ids == tokenizer.encode(text).ids


def refusal(path):
    with pytest.raises(UserError) as error:
        load_tokenizer(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert "; " in message
    assert len(message.splitlines()) == 1
    return message


def test_a_missing_tokenizer_is_named_with_a_remedy(tmp_path):
    assert "no such tokenizer; give a tokenizer.json" in refusal(tmp_path / "absent.json")


def test_a_folder_without_a_tokenizer_is_named_with_a_remedy(tmp_path):
    assert "holds neither tokenizer.json nor vocab.txt" in refusal(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[1, 2]", "not JSON"])
def test_a_json_file_that_is_no_tokenizer_is_named_with_a_remedy(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    assert "not a tokenizer" in refusal(path)


def test_a_tokenizer_without_the_special_pieces_is_refused_with_their_names(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[UNK]\n[CLS]\nword\n")
    assert "lacks [SEP], [MASK]" in refusal(path)


def test_a_tokenizer_json_without_the_special_pieces_is_refused_too(tokenizer, tmp_path):
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "[MASK]"]
    del content["model"]["vocab"]["[MASK]"]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    assert "lacks [MASK]" in refusal(path)


def test_a_text_that_speaks_of_special_pieces_stays_text(tagger, tokenizer):
    encoded = encode(tagger, tokenizer, Document("d", "The [MASK] and the [SEP] are not words."))
    specials = {tokenizer.token_to_id(special) for special in SPECIALS} - {tokenizer.token_to_id("[UNK]")}
    assert not specials.intersection(encoded.ids.tolist())
