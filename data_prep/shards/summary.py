"""What a folder of shards holds, from its manifest alone."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_prep.schema import Manifest

_MOST_EPOCHS = 40
"""Repeating data more often than this is worth next to nothing (Muennighoff et al. 2023)."""
_LEAST_SHARE = 1 / 4
"""Of an even share of the training sequences."""
_FEWEST_WORDS = 100


@dataclass(frozen=True)
class TaskFigures:
    """A task in the training split."""

    name: str
    sequences: int
    """In its group."""
    maskable_words: int
    """Words of the task in its group."""
    words: int
    """Words of the task in all groups."""
    tokens: int
    """Pieces in its group."""
    epochs: float | None
    """How often training would see each sequence of the group; None where it has none."""


def task_figures(manifest: Manifest, steps: int, global_size: int) -> list[TaskFigures]:
    """A line per task, for a run of `steps` steps of `global_size` sequences at uniform quota."""
    num_trained = sum(manifest.train_rows(task) > 0 for task in manifest.task_names)
    train = [shard for shard in manifest.shards if shard.split == "train"]
    figures = []
    for task in manifest.task_names:
        sequences = manifest.train_rows(task)
        figures.append(
            TaskFigures(
                name=task,
                sequences=sequences,
                maskable_words=manifest.train_words(task),
                words=sum(shard.task_words[task] for shard in train),
                tokens=sum(shard.tokens for shard in train if shard.task == task),
                epochs=steps * global_size / num_trained / sequences if sequences else None,
            )
        )
    return figures


def padding_share(manifest: Manifest) -> float:
    """The share of positions that hold no piece, in batches padded to the sequence length."""
    positions = sum(shard.rows for shard in manifest.shards) * manifest.sequence_length
    return 1 - sum(shard.tokens for shard in manifest.shards) / positions if positions else 0.0


def scarce_tasks(manifest: Manifest, steps: int, global_size: int) -> list[str]:
    """A warning for each task that such a run cannot train well for want of words."""
    figures = task_figures(manifest, steps, global_size)
    num_trained = sum(item.sequences > 0 for item in figures)
    even_share = sum(item.sequences for item in figures) / max(num_trained, 1)
    remedy = "or drop it from the tag map"
    warnings = []
    for item in figures:
        if item.epochs is None:
            warnings.append(
                f"{item.name}: no training sequence holds a word of it, so it is not trained on; "
                f"give text that does, {remedy}"
            )
            continue
        repeated = item.epochs > _MOST_EPOCHS and item.sequences < _LEAST_SHARE * even_share
        if repeated or item.maskable_words < _FEWEST_WORDS:
            warnings.append(
                f"{item.name} is scarce: {item.sequences:,} sequences with {item.maskable_words:,} words "
                f"to mask, which {steps:,} steps of {global_size:,} sequences see "
                f"{format_epochs(item.epochs)} times; give more text, lower its data.quota, {remedy}"
            )
    return warnings


def print_summary(manifest: Manifest, console: Console, steps: int, global_size: int) -> None:
    """Print the training tasks as a table, and what is held out, padded and left out."""
    table = Table(
        "task",
        title="Training sequences",
        title_justify="left",
    )
    for column in ("sequences", "words\nto mask", "words in\nall groups", "tokens", "epochs"):
        table.add_column(column, justify="right")
    for item in task_figures(manifest, steps, global_size):
        counts = (item.sequences, item.maskable_words, item.words, item.tokens)
        table.add_row(Text(item.name), *(f"{count:,}" for count in counts), format_epochs(item.epochs))
    console.print(table)
    run = f"{steps:,} steps of {global_size:,} sequences at uniform quota"
    for line in (f"Epochs are those of its own group in {run}.", *_summary_lines(manifest)):
        console.print(line, highlight=False, markup=False)


def _summary_lines(manifest: Manifest) -> list[str]:
    """What the table does not tell, in sentences."""
    held_out = [
        f"{sum(shard.rows for shard in manifest.shards_of(split)):,} {split}"
        for split in ("validation", "test")
    ]
    documents, dropped = sum(manifest.documents.values()), sum(manifest.dropped.values())
    splits = ", ".join(f"{count:,} {split}" for split, count in manifest.documents.items())
    what = "documents" if manifest.section_words is None else "sections of documents"
    lines = [
        f"Of {documents + dropped:,} {what}, {documents:,} are kept ({splits}), "
        f"{sum(manifest.words.values()):,} words.",
        f"Held out: {' and '.join(held_out)} sequences. Vocabulary: {manifest.vocab_size:,} pieces. "
        f"Padding at length {manifest.sequence_length:,}: {padding_share(manifest):.1%}. "
        f"Left out, without a word of any task: {manifest.without_task:,} training sequences.",
    ]
    for what, counts in (
        ("Left out", manifest.dropped),
        ("Changed among the kept", manifest.cleaned),
    ):
        kinds = [f"{count:,} {kind.replace('_', ' ')}" for kind, count in counts.items() if count]
        if kinds:
            lines.append(f"{what}: {', '.join(kinds)}.")
    return lines


def format_epochs(epochs: float | None) -> str:
    """Two significant digits below ten, whole numbers above; a dash for none."""
    if epochs is None:
        return "–"
    return f"{epochs:.2g}" if epochs < 10 else f"{epochs:,.0f}"
