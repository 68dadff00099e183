"""BERT from transformers, with its masked-word head computed at masked positions only."""

from collections.abc import Sequence

from torch import Tensor, nn
from transformers import BertConfig, BertForPreTraining

from pipeline.config import ModelConfig
from pipeline.models.dimensions import Size, dimensions
from pipeline.models.text import TextModel

SIZES = {  # Devlin et al. 2019 and Turc et al. 2019
    "tiny": Size(2, 128, 2, feed_forward=4, millions=4.43),
    "mini": Size(4, 256, 4, feed_forward=4, millions=11.3),
    "small": Size(4, 512, 8, feed_forward=4, millions=29.1),
    "medium": Size(8, 512, 8, feed_forward=4, millions=41.7),
    "base": Size(12, 768, 12, feed_forward=4, millions=110),
    "large": Size(24, 1024, 16, feed_forward=4, millions=336),
    # GPT-3 XL's depth and width (Brown et al. 2020), heads of 64 as in BERT
    "1.3b": Size(24, 2048, 32, feed_forward=4, millions=1280),
}
VOCAB_SIZE = 30_522
"""Pieces of the published models."""
_MIN_POSITIONS = 512
_DROPOUT = 0.1


def bert_config(config: ModelConfig, vocab_size: int, sequence_length: int, pad_id: int) -> BertConfig:
    """The transformers configuration of a run file's model section; raises ValueError where it is none."""
    if config.unpad:
        raise ValueError("model.unpad true: bert has learned positions and is padded; take modernbert")
    dropout = _DROPOUT if config.dropout is None else config.dropout
    return BertConfig(
        **dimensions(config, SIZES),
        vocab_size=vocab_size,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        max_position_embeddings=max(_MIN_POSITIONS, sequence_length),
        pad_token_id=pad_id,
    )


class BertTaskModel(TextModel):
    """Parameters have the names of `BertForPreTraining`, under `network`."""

    network: BertForPreTraining
    input_names = ("input_ids", "token_type_ids", "attention_mask")

    def __init__(self, config: BertConfig, num_word_terms: int, *, with_nsp: bool) -> None:
        super().__init__(BertForPreTraining(config), num_word_terms, with_nsp=with_nsp)
        if not with_nsp:
            assert self.network.bert.pooler is not None
            for unused in (self.network.bert.pooler, self.network.cls.seq_relationship):
                unused.requires_grad_(False)

    def layers(self) -> Sequence[nn.Module]:
        """Attention and feed-forward, `num_layers` times."""
        return list(self.network.bert.encoder.layer)

    def shared_layer(self) -> nn.Linear:
        """The transform of the masked-word head."""
        return self.network.cls.predictions.transform.dense

    def encode(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The masked positions' inputs of the output layer [N, D], and the pooled output [B, D]."""
        self.say_once("SDPA on padded sequences")
        hidden, pooled = self.network.bert(**{name: inputs[name] for name in self.input_names})[:2]
        masked = hidden.flatten(0, 1)[inputs["masked_positions"]]
        return self.network.cls.predictions.transform(masked), pooled

    def pair_logits(self, pooled: Tensor) -> Tensor:
        """Logits [B, 2] of the pooled output [B, D]."""
        return self.network.cls.seq_relationship(pooled)
