"""Penn Treebank tags to tasks."""

import pytest

from data_prep.schema import NO_TASK
from data_prep.tagging.tag_map import TASK_NAMES, task_of_tag


def test_the_nine_tasks_stand_in_the_order_that_fixes_their_ids():
    assert TASK_NAMES == (
        "verb",
        "noun",
        "adjective",
        "determiner",
        "adverb",
        "pronoun",
        "preposition",
        "conjunction",
        "interjection",
    )


@pytest.mark.parametrize(
    ("task", "tags"),
    [
        ("verb", "VB VBD VBG VBN VBP VBZ MD"),
        ("noun", "NN NNS NNP NNPS"),
        ("adjective", "JJ JJR JJS"),
        ("determiner", "DT PDT WDT"),
        ("adverb", "RB RBR RBS WRB"),
        ("pronoun", "PRP PRP$ WP WP$ EX"),
        ("preposition", "IN TO RP"),
        ("conjunction", "CC"),
        ("interjection", "UH"),
    ],
)
def test_each_tag_belongs_to_the_task_of_its_part_of_speech(task, tags):
    assert {TASK_NAMES[task_of_tag(tag)] for tag in tags.split()} == {task}


@pytest.mark.parametrize(
    "tag", [".", ",", "``", "CD", "FW", "LS", "SYM", "POS", "XX", "_SP", "", "nn", "NOUN"]
)
def test_punctuation_numbers_and_unknown_tags_belong_to_no_task(tag):
    assert task_of_tag(tag) == NO_TASK


def test_every_tag_of_the_tagger_that_names_a_part_of_speech_has_a_task(nlp):
    without = {tag for tag in nlp.get_pipe("tagger").labels if task_of_tag(tag) == NO_TASK}
    punctuation = {"$", "''", ",", "-LRB-", "-RRB-", ".", ":", "``", "HYPH", "NFP"}
    assert without - punctuation <= {"ADD", "AFX", "CD", "FW", "LS", "POS", "SYM", "XX", "_SP"}
