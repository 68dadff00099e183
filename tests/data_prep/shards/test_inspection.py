"""`data_prep inspect`: figures per task, and sequences with words shown by task."""

import io
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from data_prep.errors import UserError
from data_prep.schema import read_manifest
from data_prep.shards.inspection import inspect_folder
from data_prep.shards.palette import task_hues, task_marks, terminal_color
from data_prep.shards.samples import Sampler
from data_prep.shards.summary import padding_share, print_summary, scarce_tasks, task_figures

from .conftest import COLOURS, NUMBERS


def plain_console():
    return Console(file=io.StringIO(), width=200)


def color_console():
    return Console(file=io.StringIO(), width=200, force_terminal=True, color_system="truecolor")


def inspected(folder, *, console=None, **options):
    console = console or plain_console()
    inspect_folder(folder, console=console, **options)
    return console.file.getvalue()


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"{tag} closes at the wrong place"

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def page(shard_folder, tmp_path):
    """A function that writes the page of the folder and parses it."""

    def write(**options):
        inspected(shard_folder, html=tmp_path / "page.html", **options)
        return Page((tmp_path / "page.html").read_text())

    return write


def test_figures_are_those_of_the_rows(draft, shard_folder):
    colour, number = task_figures(read_manifest(shard_folder), steps=10, global_size=14)
    assert (colour.sequences, number.sequences) == (7, 4)
    assert colour.maskable_words == 14  # two in each sequence
    assert colour.words == number.words == 22
    tokens = [len(row["input_ids"]) for row in draft.rows["train/number/shard-00000.arrow"]]
    assert number.tokens == sum(tokens)
    assert colour.epochs == 10.0  # 10 steps of 7 sequences for each of the tasks
    assert number.epochs == 17.5
    assert 0 < padding_share(read_manifest(shard_folder)) < 1


def test_the_summary_names_every_task_and_what_was_left_out(shard_folder):
    console = plain_console()
    print_summary(read_manifest(shard_folder), console, steps=10, global_size=14)
    printed = console.file.getvalue()
    assert re.search(r"colour .* 7 .* 14 .* 22 .* 10\b", printed)
    assert "3 validation and 4 test sequences" in printed
    assert "3 too short" in printed


@pytest.mark.parametrize("names", [["[bold]loud[/bold]", "[/]"], ["a" * 60, "b"], [":smile:", "<b>"]])
def test_names_of_tasks_are_text_whatever_they_spell(draft, tmp_path, names):
    draft.task_names = names
    draft.rows = {
        path.replace("colour", "first").replace("number", "second"): rows for path, rows in draft.rows.items()
    }
    folder = draft.write(tmp_path / "shards")
    manifest = read_manifest(folder)
    renamed = {"first": names[0], "second": names[1], None: None}
    shards = [shard.model_copy(update={"task": renamed[shard.task]}) for shard in manifest.shards]
    console = plain_console()
    print_summary(manifest.model_copy(update={"shards": shards}), console, 10, 10)
    assert all(name in console.file.getvalue() for name in names)


def with_counts(manifest, rows, words):
    """The manifest with one shard for each task, of so many rows and words of its own."""
    base = manifest.shards_of("train", "colour")[0]
    names = [f"task{number}" for number in range(len(rows))]
    shards = [
        base.model_copy(update={"task": name, "rows": n, "task_words": dict.fromkeys(names, count)})
        for name, n, count in zip(names, rows, words, strict=True)
        if n
    ]
    return manifest.model_copy(update={"task_names": names, "shards": shards})


@pytest.mark.parametrize(
    ("rows", "words", "scarce"),
    [
        ([1000, 1000], [5000, 5000], []),
        ([1000, 100], [5000, 500], ["task1 is scarce"]),  # repeated too often, far below an even share
        ([1000, 300], [5000, 500], []),  # above a quarter of an even share
        ([1000, 1000], [5000, 99], ["task1 is scarce"]),
        ([1000, 0], [5000, 0], ["task1: no training sequence"]),
    ],
)
def test_a_task_too_scarce_to_train_on_is_named(shard_folder, rows, words, scarce):
    manifest = with_counts(read_manifest(shard_folder), rows, words)
    warnings = scarce_tasks(manifest, steps=1_000, global_size=256)
    assert [warning[: len(start)] for warning, start in zip(warnings, scarce, strict=True)] == scarce


def test_a_group_that_is_small_but_seldom_repeated_is_not_scarce(shard_folder):
    manifest = with_counts(read_manifest(shard_folder), [1_000, 100], [5_000, 500])
    assert scarce_tasks(manifest, steps=10, global_size=256) == []


def test_a_warning_tells_the_numbers_and_what_to_do(shard_folder):
    manifest = with_counts(read_manifest(shard_folder), [1_000, 100], [5_000, 500])
    (warning,) = scarce_tasks(manifest, steps=1_000, global_size=256)
    for part in ("100 sequences", "500 words", "1,280 times", "more text", "data.quota", "tag map"):
        assert part in warning


def test_only_words_of_the_group_s_task_are_masked_and_at_least_one_is(shard_folder):
    samples = Sampler(shard_folder, read_manifest(shard_folder), "train", seed=0).draw(100)
    assert len(samples) == 11  # all there are, each once
    assert len({(sample.shard, sample.row) for sample in samples}) == 11
    for sample in samples:
        masked = [part for segment in sample.segments for part in segment.stretches if part.is_masked]
        words = (COLOURS, NUMBERS)[sample.task]
        assert masked
        assert {part.text for part in masked} <= set(words)


def test_tasks_take_turns(shard_folder):
    samples = Sampler(shard_folder, read_manifest(shard_folder), "train", seed=5).draw(4)
    assert (
        sorted(sample.task for sample in samples[:2])
        == sorted(sample.task for sample in samples[2:])
        == [0, 1]
    )


def test_the_task_of_a_held_out_sequence_is_one_that_it_holds(draft, tmp_path):
    for row in draft.rows["test/shard-00000.arrow"][1:]:
        row["task_ids"] = [255 if task == 0 else task for task in row["task_ids"]]
    folder = draft.write(tmp_path / "shards")
    sampler = Sampler(folder, read_manifest(folder), "test", seed=0)
    assert [sample.row for sample in sampler.draw(9, task=0)] == [0]
    assert {sample.task for sample in sampler.draw(9) if sample.row} == {1}


def test_each_document_of_a_packed_sequence_is_shown_by_itself(draft, tmp_path):
    for row in draft.rows["train/colour/shard-00001.arrow"]:
        row |= {
            "token_type_ids": [0] * len(row["input_ids"]),
            "next_sentence_label": -1,
            "doc_id": ["x", "y"],
        }
    folder = draft.write(tmp_path / "shards")
    samples = Sampler(folder, read_manifest(folder), "train", seed=0).draw(20)
    packed = [sample for sample in samples if sample.shard == "train/colour/shard-00001.arrow"]
    assert len(packed) == 2
    for sample in packed:
        assert sample.next_sentence == "no next-sentence label"
        assert [segment.documents for segment in sample.segments] == ["x", "y"]
        assert all(segment.stretches[-1].text == "[SEP]" for segment in sample.segments)


def test_pieces_are_joined_to_readable_text(shard_folder):
    printed = inspected(shard_folder, task="colour", num_samples=7)
    text = re.sub(r"«|»|/[cn]\b", "", " ".join(printed.split()))
    assert "[CLS] the red house has two doors. [SEP]" in text
    assert "two doors are red. [SEP]" in text
    assert "follows the first" in text and "is random" in text
    assert "colours-0" in text


def test_without_colours_tasks_and_masks_are_told_by_marks(shard_folder):
    printed = inspected(shard_folder, num_samples=4)
    assert "\x1b" not in printed
    assert "/c colour" in printed and "/n number" in printed
    assert re.search(r"«(red|green|yellow|violet)/c»", printed)
    assert re.search(r" (two|three|seven|twelve)/n ", printed)


def test_with_colours_each_task_has_its_own_and_masked_words_are_reversed(shard_folder):
    printed = inspected(shard_folder, num_samples=4, console=color_console())
    colors = [terminal_color(hue) for hue in task_hues(2)]
    for color in colors:
        red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        assert f"\x1b[38;2;{red};{green};{blue}m" in printed  # a word
        assert f"\x1b[1;7;38;2;{red};{green};{blue}m" in printed  # a masked word
    assert "/n number" not in printed


def test_the_same_seed_shows_the_same_sequences_and_masks(shard_folder):
    assert inspected(shard_folder, seed=1) == inspected(shard_folder, seed=1)
    assert inspected(shard_folder, seed=1) != inspected(shard_folder, seed=2)


def test_what_the_corpus_says_cannot_steer_the_terminal(draft, tmp_path):
    for rows in draft.rows.values():
        for row in rows:
            row["doc_id"] = ["\x1b[2J\u202e[red]", "\x07\n"]
    printed = inspected(draft.write(tmp_path / "shards"))
    assert not set(printed) & set("\x1b\u202e\x07")
    assert "[red]" in printed


def test_a_mistyped_task_or_split_is_named_with_the_nearest(shard_folder):
    with pytest.raises(UserError, match=r'unknown task "color".*"colour"'):
        inspected(shard_folder, task="color")
    with pytest.raises(UserError, match=r'unknown task "xyz".*colour, number'):
        inspected(shard_folder, task="xyz")
    with pytest.raises(UserError, match=r'unknown split "trian".*"train"'):
        inspected(shard_folder, split="trian")


def test_a_task_without_a_sequence_is_the_user_s_mistake(draft, tmp_path):
    del draft.rows["train/number/shard-00000.arrow"]
    with pytest.raises(UserError, match="for number"):
        inspected(draft.write(tmp_path / "shards"), task="number")


def test_a_page_is_not_written_among_the_shards_or_nowhere(shard_folder, tmp_path):
    for path in (shard_folder / "page.html", tmp_path / "nowhere" / "page.html", tmp_path):
        with pytest.raises(UserError):
            inspected(shard_folder, html=path)
    assert not (shard_folder / "page.html").exists()


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(page):
    found = page()
    assert found.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    assert not {"src", "href", "srcset"} & {name for name, _ in found.attributes}
    text = " ".join(found.texts)
    assert "url(" not in text and "@import" not in text and "prefers-color-scheme: dark" in text
    assert found.tags.count("article") == 11


def test_the_page_tells_the_task_of_each_word_on_hovering(page):
    titles = [value for name, value in page().attributes if name == "title"]
    assert {"colour", "number", "colour, masked", "number, masked"} <= set(titles)


def test_the_page_escapes_all_that_comes_from_the_corpus(draft, tmp_path):
    for rows in draft.rows.values():
        for row in rows:
            row["doc_id"] = ["<script>alert(1)</script>", "\"'&<b>"]
    folder = draft.write(tmp_path / "shards")
    inspected(folder, html=tmp_path / "page.html")
    found = Page((tmp_path / "page.html").read_text())
    assert not {"script", "corpus"} & set(found.tags)  # the source is called <corpus>.txt
    texts = " ".join(found.texts)
    assert "<script>alert(1)</script>" in texts and "\"'&<b>" in texts and "<corpus>.txt" in texts


def test_the_histogram_counts_every_sequence(page):
    bins = [text for text in page().texts if re.fullmatch(r"[\d,]+ to [\d,]+ pieces: [\d,]+ sequences", text)]
    assert sum(int(text.split(": ")[1].split()[0]) for text in bins) == 18


@pytest.mark.parametrize("num_tasks", [1, 2, 9, 30, 254])
def test_any_number_of_tasks_has_hues_and_marks_of_its_own(num_tasks):
    names = [f"group{number}" for number in range(num_tasks)]
    assert len(set(task_hues(num_tasks))) == len(set(task_marks(names))) == num_tasks


def test_colours_are_readable_on_black_and_on_white():
    def luminance(color):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return sum(weight * x for weight, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for hue in range(0, 360, 10):
        bright = luminance(terminal_color(hue))
        assert 1.05 / (bright + 0.05) > 4 and (bright + 0.05) / 0.05 > 4  # WCAG's contrast


def test_marks_are_the_shortest_that_tell_names_apart():
    assert task_marks(["verb", "adverb", "adjective", "noun", "nounish"]) == [
        "v",
        "adv",
        "adj",
        "noun",
        "nouni",
    ]
