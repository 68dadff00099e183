"""Tag maps: which tags make up which task."""

import pytest

from data_prep.errors import UserError
from data_prep.schema import NO_TASK
from data_prep.tagging.tag_map import TagMap, load_tag_map
from data_prep.tagging.tagger import Tagger

ENGLISH = load_tag_map()


def write(tmp_path, content):
    path = tmp_path / "map.yaml"
    path.write_text(content)
    return path


def test_the_nine_tasks_stand_in_the_order_that_fixes_their_ids():
    nine = "verb noun adjective determiner adverb pronoun preposition conjunction interjection"
    assert ENGLISH.task_names == tuple(nine.split())
    assert ENGLISH.attribute == "tag"


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
    assert {ENGLISH.task_names[ENGLISH.task_of_tag(tag)] for tag in tags.split()} == {task}


@pytest.mark.parametrize("tag", [".", "``", "CD", "FW", "LS", "SYM", "POS", "XX", "_SP", "", "nn", "NOUN"])
def test_punctuation_numbers_and_unknown_tags_belong_to_no_task(tag):
    assert ENGLISH.task_of_tag(tag) == NO_TASK


def test_every_tag_of_the_tagger_that_names_a_part_of_speech_has_a_task(nlp):
    without = {tag for tag in nlp.get_pipe("tagger").labels if ENGLISH.task_of_tag(tag) == NO_TASK}
    punctuation = {"$", "''", ",", "-LRB-", "-RRB-", ".", ":", "``", "HYPH", "NFP"}
    assert without - punctuation <= {"ADD", "AFX", "CD", "FW", "LS", "POS", "SYM", "XX", "_SP"}


def test_a_users_map_names_its_own_tasks(tmp_path):
    path = write(tmp_path, 'attribute: pos\ntasks:\n  open-class: [NOUN, VERB]\n  small_2: ["ADP", DET]\n')
    tag_map = load_tag_map(path)
    assert tag_map.task_names == ("open-class", "small_2")
    assert [tag_map.task_of_tag(tag) for tag in ("NOUN", "DET", "X")] == [0, 1, NO_TASK]


def test_the_hash_is_of_the_meaning(tmp_path):
    first = TagMap(attribute="tag", tasks={"a": ("X", "Y"), "b": ("Z",)})
    assert first.sha256 == TagMap(attribute="tag", tasks={"a": ("Y", "X"), "b": ("Z",)}).sha256
    others = [
        TagMap(attribute="pos", tasks=first.tasks),
        TagMap(attribute="tag", tasks={"b": ("Z",), "a": ("X", "Y")}),
        TagMap(attribute="tag", tasks={"a": ("X",), "b": ("Z", "Y")}),
    ]
    assert len({first.sha256, *(other.sha256 for other in others)}) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "not YAML"),
        ("\x00", "not YAML"),
        ("attribute: tag\nattribute: pos\ntasks: {a: [X]}", "duplicate key"),
        ("- a", "not a mapping; give the keys attribute and tasks"),
        ("attribute: tag", 'no key "tasks"; add it'),
        ("attribute: tag\ntasks: {a: [X]}\ntask: 1", 'unknown key "task"; did you mean "tasks"?'),
        ("attribute: tags\ntasks: {a: [X]}", "attribute: 'tags'; give 'tag' or 'pos'"),
        ("attribute: tag\ntasks: {}", "0 tasks; give 1 to 254"),
        ("attribute: tag\ntasks: {A: [X]}", 'task name "A"; use lower-case letters'),
        ("attribute: tag\ntasks: {../x: [X]}", 'task name "../x"'),
        ("attribute: tag\ntasks: {a: []}", 'task "a" has no tag'),
        ("attribute: tag\ntasks: {a: [X], b: [X]}", 'tag "X" stands in "a" and in "b"; keep one'),
        ("attribute: tag\ntasks: {a: [NO]}", "tasks.a.0: False is no word to YAML; put it in quotes"),
        ("attribute: tag\ntasks: {a: X}", "each task takes a list of tags"),
    ],
)
def test_a_file_that_is_no_tag_map_is_refused_in_one_line(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(UserError) as error:
        load_tag_map(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_254_tasks_are_the_most():
    tasks = {f"t{number}": (f"T{number}",) for number in range(255)}
    with pytest.raises(ValueError, match="255 tasks; give 1 to 254"):
        TagMap(attribute="tag", tasks=tasks)
    del tasks["t254"]
    assert TagMap(attribute="tag", tasks=tasks).task_of_tag("T253") == 253


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml: no such file; --tag-map names"):
        load_tag_map(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("attribute", "tag", "meant"), [("pos", "PROPNN", "PROPN"), ("tag", "WPP$", "WP$"), ("pos", "NN", None)]
)
def test_a_tag_that_the_tagger_never_gives_is_refused(attribute, tag, meant):
    tag_map = TagMap(attribute=attribute, tasks={"things": ("NOUN" if attribute == "pos" else "NN", tag)})
    with pytest.raises(UserError, match="is no tag of this tagger") as error:
        Tagger(tag_map=tag_map)
    assert meant is None or f'did you mean "{meant}"?' in str(error.value)
