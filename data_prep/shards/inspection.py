"""A look into a folder of shards: figures per task, and sequences with words coloured by task."""

from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from data_prep.durable import write_durably
from data_prep.errors import UserError, nearest
from data_prep.schema import Manifest, Split, read_manifest
from data_prep.shards.page import render_page
from data_prep.shards.palette import task_hues, task_marks, terminal_color
from data_prep.shards.samples import Sample, Sampler, Segment, Stretch
from data_prep.shards.summary import print_summary

_SAMPLES_ON_PAGE = 20


def inspect_folder(
    folder: Path,
    *,
    split: str = "train",
    task: str | None = None,
    num_samples: int = 3,
    seed: int = 0,
    html: Path | None = None,
    steps: int = 100_000,
    global_size: int = 256,
    console: Console | None = None,
) -> None:
    """Print the figures of a folder of shards and some sequences; write a page of the same and more.

    Args:
        folder: the folder of shards.
        split: where sequences are drawn from.
        task: only sequences to be masked for this task; None takes all tasks in turn.
        num_samples: how many sequences are printed.
        seed: decides the sequences and their masks.
        html: the page to write, if any.
        steps: of the training run for which epochs are counted.
        global_size: sequences in a step of that run.
        console: where to print; standard output if None.

    Raises:
        UserError: an unknown split or task, no such sequence, a page that cannot be written there.
    """
    manifest = read_manifest(folder)
    chosen, task_id = _split_of(split), _task_of(task, manifest)
    if html is not None:
        _refuse_page(html, folder)
    console = console or Console()
    print_summary(manifest, console, steps, global_size)
    sampler = Sampler(folder, manifest, chosen, seed)
    samples = sampler.draw(num_samples, task_id)
    if num_samples and not samples:
        raise UserError(
            f"{folder}: no {split} sequence {f'for {task}' if task else 'with a task'}; name another"
        )
    _print_samples(samples, manifest.task_names, console)
    if html is not None:
        page = render_page(folder, manifest, sampler.draw(_SAMPLES_ON_PAGE, task_id), steps, global_size)
        write_durably(html, page)
        console.print(Text(f"\nWrote {html}"))


def _split_of(name: str) -> Split:
    for split in get_args(Split):
        if name == split:
            return split
    raise UserError(f'--split: unknown split "{name}"{nearest(name, get_args(Split))}')


def _task_of(name: str | None, manifest: Manifest) -> int | None:
    if name is None:
        return None
    if name not in manifest.task_names:
        known = nearest(name, manifest.task_names) or f"; known: {', '.join(manifest.task_names)}"
        raise UserError(f'--task: unknown task "{name}"{known}')
    return manifest.task_names.index(name)


def _refuse_page(html: Path, folder: Path) -> None:
    if html.is_dir() or not html.parent.is_dir():
        raise UserError(f"{html}: --html names a file in a folder that exists")
    if html.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{html}: lies among the shards, where it would be a stray file; name another place")


class _TerminalStyle:
    """Tasks as colours; as marks behind the words where colours are missing or too few to tell them apart."""

    def __init__(self, task_names: list[str], console: Console) -> None:
        self._names = task_names
        self._colors = [terminal_color(hue) for hue in task_hues(len(task_names))]
        self._marks = task_marks(task_names)
        self._has_colors = console.color_system in ("256", "truecolor") and not console.no_color

    def legend(self) -> Text:
        """Each task as it is shown, and how masked words are."""
        line = Text("Words by task: ")
        for name, color, mark in zip(self._names, self._colors, self._marks, strict=True):
            line.append(name, style=color) if self._has_colors else line.append(f"/{mark} {name}")
            line.append("  ")
        return line.append(self._as_masked("masked words", ""))

    def task(self, task: int) -> Text:
        """The name of a task."""
        return Text(self._names[task], style=self._colors[task] if self._has_colors else "")

    def segment(self, segment: Segment) -> Text:
        """The words of a segment."""
        line = Text()
        for stretch in segment.stretches:
            line.append(" " if stretch.has_space else "").append_text(self._stretch(stretch))
        return line

    def _stretch(self, stretch: Stretch) -> Text:
        if stretch.is_special:
            return Text(stretch.text, style="dim")
        color = self._colors[stretch.task] if self._has_colors and stretch.task is not None else ""
        mark = f"/{self._marks[stretch.task]}" if not self._has_colors and stretch.task is not None else ""
        text = f"{stretch.text}{mark}"
        return self._as_masked(text, color) if stretch.is_masked else Text(text, style=color)

    def _as_masked(self, text: str, color: str) -> Text:
        return Text(text, style=f"bold reverse {color}") if self._has_colors else Text(f"«{text}»")


def _print_samples(samples: list[Sample], task_names: list[str], console: Console) -> None:
    if not samples:
        return
    style = _TerminalStyle(task_names, console)
    console.print()
    console.print(style.legend())
    for sample in samples:
        place = f"\n{sample.shard}, row {sample.row:,}: {sample.num_pieces:,} pieces, masked for "
        console.print(Text(place, style="bold").append_text(style.task(sample.task)))
        console.print(Text(f"  {sample.next_sentence}", style="dim"))
        for number, segment in enumerate(sample.segments, 1):
            console.print(Text(f"  {number}. {segment.documents}", style="dim"))
            console.print(Padding(style.segment(segment), (0, 0, 0, 4)))
