"""Agreement with gold tags."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from data_prep.errors import UserError
from data_prep.tagging.accuracy import Confusion, print_accuracy, tag_accuracy
from data_prep.tagging.tag_map import TagMap
from data_prep.tagging.tagger import Tagger

EWT = Path(__file__).parents[4] / "shared" / "data" / "pos" / "en_ewt-ud-dev.conllu"


def write(tmp_path, sentences):
    """Write sentences of (word, universal tag, fine-grained tag) as CoNLL-U."""
    path = tmp_path / "gold.conllu"
    blocks = [
        "# a comment\n"
        + "".join(f"{i}\t{w}\t_\t{u}\t{x}\t_\t_\t_\t_\t_\n" for i, (w, u, x) in enumerate(s, 1))
        for s in sentences
    ]
    path.write_text("\n".join(blocks))
    return path


SENTENCE = [("She", "PRON", "PRP"), ("slept", "VERB", "VBD"), ("well", "ADV", "NN"), (".", "PUNCT", ".")]


def test_scores_and_confusions_are_those_of_the_words(tmp_path, tagger):
    accuracy = tag_accuracy(write(tmp_path, [SENTENCE, SENTENCE]), tagger)
    assert accuracy.words == 8
    assert accuracy.accuracy == 0.75
    scores = {task.task: (task.gold_words, task.precision, task.recall, task.f1) for task in accuracy.tasks}
    assert tuple(scores) == tagger.task_names
    assert scores["pronoun"] == scores["verb"] == (2, 1, 1, 1)
    assert scores["noun"] == (2, 0, 0, 0)
    assert accuracy.confusions == [Confusion("NN", "noun", "adverb", 2)]


def test_a_map_over_universal_tags_is_compared_with_the_universal_column(tmp_path):
    tagger = Tagger(None, TagMap(attribute="pos", tasks={"doing": ("VERB",), "how": ("ADV",)}))
    accuracy = tag_accuracy(write(tmp_path, [SENTENCE]), tagger)
    assert accuracy.accuracy == 1
    assert [task.gold_words for task in accuracy.tasks] == [1, 1]


def test_contracted_words_count_as_their_parts(tmp_path, tagger):
    line = "{}\t{}\t_\t_\t{}\t_\t_\t_\t_\t_\n"
    path = tmp_path / "gold.conllu"
    path.write_text(
        line.format("1-2", "don't", "_") + line.format(1, "do", "VBP") + line.format(2, "n't", "RB")
    )
    assert tag_accuracy(path, tagger).words == 2


def test_the_table_fits_into_80_columns(tmp_path, tagger):
    out = io.StringIO()
    print_accuracy(tag_accuracy(write(tmp_path, [SENTENCE]), tagger), Console(file=out, width=80))
    assert "interjection" in out.getvalue()
    assert "75.0%" in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 80


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\tword\n", "line 1: not CoNLL-U; a word takes 10 columns between tabs"),
        ("# x\n\n1\ta\t_\t_\tNN\t_\t_\t_\t_\t_\n2\tb\n", r"line 4: not CoNLL-U; .*\(this line has 2\)"),
        ("# x\none\ta\t_\t_\tNN\t_\t_\t_\t_\t_\n", "line 2: a sentence that is not CoNLL-U"),
        ("1\ta\t_\tNOPE\tNN\t_\t_\t_\t_\t_\n", "line 1: a sentence that is not CoNLL-U"),
        ("1\ta\t_\t_\tNOPE\t_\t_\t_\t_\t_\n", r"no gold tag belongs to a task \(tags: NOPE\)"),
        ("", r"no gold tag belongs to a task \(tags: none\)"),
    ],
)
def test_a_file_that_is_not_gold_is_refused_with_the_line(tmp_path, tagger, content, message):
    path = tmp_path / "gold.conllu"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        tag_accuracy(path, tagger)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path, tagger):
    with pytest.raises(UserError, match="No such file"):
        tag_accuracy(tmp_path / "none.conllu", tagger)


@pytest.mark.skipif(not EWT.is_file(), reason=f"needs gold tags: {EWT} is absent")
def test_the_english_tagger_finds_every_task(tagger):
    accuracy = tag_accuracy(EWT, tagger)
    assert accuracy.words == 25_147
    assert accuracy.accuracy > 0.95
    assert min(task.f1 for task in accuracy.tasks) > 0.75
