"""The named sizes of a backbone, and what becomes of one under a run file's own dimensions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config import ModelConfig


@dataclass(frozen=True)
class Size:
    """Dimensions under a name.

    `feed_forward` is the width of the feed-forward layers in widths of the model; `millions` the parameters
    that the name stands for, heads included, with the backbone's published vocabulary.
    """

    num_layers: int
    hidden_size: int
    num_heads: int
    feed_forward: float
    millions: float


def dimensions(config: ModelConfig, sizes: Mapping[str, Size]) -> dict[str, Any]:
    """The dimensions of a run file's model section, by their names in configurations of transformers.

    Raises:
        ValueError: a size that the backbone lacks, or a width that the heads do not divide.
    """
    assert config.size, "left out only where a folder decides"
    if config.size not in sizes:
        raise ValueError(f"model.size {config.size}: {config.backbone} has {', '.join(sizes)}")
    size = sizes[config.size]
    hidden_size = config.hidden_size or size.hidden_size
    num_heads = config.num_heads or size.num_heads
    if hidden_size % num_heads:
        raise ValueError(f"model.hidden_size {hidden_size} is not a multiple of model.num_heads {num_heads}")
    return {
        "num_hidden_layers": config.num_layers or size.num_layers,
        "hidden_size": hidden_size,
        "num_attention_heads": num_heads,
        "intermediate_size": config.intermediate_size or round(size.feed_forward * hidden_size),
    }
