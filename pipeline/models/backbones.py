"""The backbones that a run file can name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config import ModelConfig
from pipeline.models import bert, modernbert
from pipeline.models.dimensions import Size
from pipeline.models.text import TextModel


@dataclass(frozen=True)
class Backbone:
    """An architecture of text models.

    `configure` makes its transformers configuration from a run file's model section, the size of the
    vocabulary, the length of a sequence, and the id of padding; `model` is made of that, the number of word
    terms, and `with_nsp`. `vocab_size` is the one that the parameters of `sizes` are stated for.
    """

    sizes: Mapping[str, Size]
    vocab_size: int
    configure: Callable[[ModelConfig, int, int, int], Any]
    model: Callable[..., TextModel]


BACKBONES = {
    "bert": Backbone(bert.SIZES, bert.VOCAB_SIZE, bert.bert_config, bert.BertTaskModel),
    "modernbert": Backbone(
        modernbert.SIZES,
        modernbert.VOCAB_SIZE,
        modernbert.modernbert_config,
        modernbert.ModernBertTaskModel,
    ),
}
