"""The look into a folder of shards as one HTML page, without scripts and without anything from elsewhere."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from data_prep.schema import Manifest
from data_prep.shards.palette import task_hues
from data_prep.shards.reading import SequenceTable
from data_prep.shards.samples import Sample
from data_prep.shards.summary import format_epochs, padding_share, scarce_tasks, task_figures

_NUM_BINS = 32
_SHARDS_MEASURED = 64


@dataclass(frozen=True)
class _Bin:
    """Sequences of `first` to `last` pieces."""

    first: int
    last: int
    count: int


def render_page(folder: Path, manifest: Manifest, samples: list[Sample], steps: int, global_size: int) -> str:
    """A self-contained page; all that comes from the corpus is escaped.

    Raises:
        UserError: a shard cannot be read.
    """
    figures = task_figures(manifest, steps, global_size)
    measured = manifest.shards[:: -(-len(manifest.shards) // _SHARDS_MEASURED)]
    lengths = SequenceTable(folder, manifest, measured).lengths()
    environment = Environment(
        loader=PackageLoader("data_prep.shards", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = lambda number: f"{number:,}"
    environment.filters["epochs"] = format_epochs
    return environment.get_template("page.html").render(
        title=folder.resolve().name,
        manifest=manifest,
        figures=figures,
        hues=[round(hue) for hue in task_hues(len(figures))],
        most_words=max([item.words for item in figures] + [1]),
        most_sequences=max([item.sequences for item in figures] + [1]),
        held_out={
            split: sum(shard.rows for shard in manifest.shards_of(split)) for split in ("validation", "test")
        },
        padding=padding_share(manifest),
        warnings=scarce_tasks(manifest, steps, global_size),
        steps=steps,
        global_size=global_size,
        bins=_histogram(lengths, manifest.sequence_length),
        num_measured=len(measured),
        median_length=int(np.median(lengths)) if len(lengths) else 0,
        samples=samples,
    )


def _histogram(lengths: NDArray[np.int64], longest: int) -> list[_Bin]:
    """Counts of sequences by length, in at most _NUM_BINS bins of equal width from 1 to `longest` pieces."""
    width = -(-longest // _NUM_BINS)
    firsts = range(1, longest + 1, width)
    counts = np.bincount((lengths - 1) // width, minlength=len(firsts))
    return [
        _Bin(first, min(first + width - 1, longest), int(count))
        for first, count in zip(firsts, counts, strict=True)
    ]
