"""A folder's tokenizer is compared with the shards' by what it does to text."""

import json
import shutil

import pytest
from tokenizers import Tokenizer, processors
from transformers import BertConfig, BertTokenizer

from data_prep.errors import UserError
from data_prep.sequences.tokenizer import load_tokenizer
from pipeline.data.shards import Shards
from pipeline.data.tokenizer_match import refuse_other_tokenizer


@pytest.fixture
def ours(shards):
    return Shards(shards)


@pytest.fixture
def folder(shards, tmp_path):
    """A model's folder with the shards' tokenizer in its file."""
    BertConfig().save_pretrained(tmp_path)
    shutil.copy(shards / "tokenizer.json", tmp_path)
    return tmp_path


def rewritten(folder, change, **how):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, **how))


def only_vocabulary(folder, **tokenizer_config):
    """As BERT's folders were at first: a list of pieces, and how to use it."""
    path = folder / "tokenizer.json"
    vocabulary = Tokenizer.from_file(str(path)).get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer"} | tokenizer_config)
    )
    path.unlink()


def test_formatting_templates_padding_and_truncation_may_differ(folder, ours):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(length=7)
    tokenizer.enable_truncation(9)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.decoder = None
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    refuse_other_tokenizer(folder, ours)


def test_strip_accents_left_out_is_what_lower_casing_says(folder, ours):
    rewritten(folder, lambda content: content["normalizer"].update(strip_accents=True))
    refuse_other_tokenizer(folder, ours)


def test_a_list_of_pieces_is_used_as_its_model_used_it(folder, ours):
    only_vocabulary(folder)
    refuse_other_tokenizer(folder, ours)


def swap_two_pieces(content):
    vocabulary = content["model"]["vocab"]
    first, second = (next(p for p, number in vocabulary.items() if number == n) for n in (500, 501))
    vocabulary.update({first: 501, second: 500})


DIFFERENCES = {
    "other ids": (swap_two_pieces, "piece 500 is "),
    "a piece more": (lambda c: c["model"]["vocab"].update(zyx=1_000), 'piece 1000 is "zyx" there and none'),
    "upper case": (
        lambda c: c["normalizer"].update(lowercase=False, strip_accents=True),
        "normalizer.lowercase is false there and true here",
    ),
    "accents": (
        lambda c: c["normalizer"].update(strip_accents=False),
        "normalizer.strip_accents is false there and true here",
    ),
    "other words": (
        lambda c: c.update(pre_tokenizer={"type": "WhitespaceSplit"}),
        'pre_tokenizer.type is "WhitespaceSplit" there and "BertPreTokenizer" here',
    ),
    "shorter words": (
        lambda c: c["model"].update(max_input_chars_per_word=5),
        "model.max_input_chars_per_word is 5 there and 100 here",
    ),
}


@pytest.mark.parametrize(("change", "expected"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_what_changes_pieces_or_ids_is_refused(folder, ours, change, expected):
    rewritten(folder, change)
    with pytest.raises(UserError) as refused:
        refuse_other_tokenizer(folder, ours)
    said = str(refused.value)
    assert expected in said
    assert f"data_prep text INPUT --tokenizer {folder} --out OUT" in said


def test_a_list_of_cased_pieces_is_refused_and_written_out_as_the_line_says_serves_data_prep(folder, ours):
    only_vocabulary(folder, do_lower_case=False)
    with pytest.raises(UserError, match=r"normalizer\.lowercase is false there") as refused:
        refuse_other_tokenizer(folder, ours)
    (command,) = [part for part in str(refused.value).split('"') if part.startswith("from transformers")]
    exec(command, {})
    cased = BertTokenizer.from_pretrained(folder)
    prepared = load_tokenizer(folder)
    text = "Ébène and Ebony"
    assert prepared.encode(text).ids == cased(text)["input_ids"] != ours.tokenizer.encode(text).ids


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"tokenizer_class": 7}', '{"tokenizer_class": "CanineTokenizer"}']
)
def test_a_list_of_pieces_with_malformed_settings_is_refused(folder, ours, content):
    only_vocabulary(folder)
    (folder / "tokenizer_config.json").write_text(content)
    with pytest.raises(UserError, match=r"vocab\.txt and tokenizer_config\.json make no tokenizer"):
        refuse_other_tokenizer(folder, ours)


def test_without_a_tokenizer_nobody_can_tell(folder, ours):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"has neither tokenizer\.json nor vocab\.txt"):
        refuse_other_tokenizer(folder, ours)
