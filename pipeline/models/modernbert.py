"""ModernBERT from transformers: rotary positions, local and global layers, and no padding."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import ModernBertConfig, ModernBertForMaskedLM

from pipeline.config import ModelConfig
from pipeline.models.attention import UNPADDED, Pieces, flash_attention_runs
from pipeline.models.dimensions import Size, dimensions
from pipeline.models.text import TextModel

SIZES = {
    # Depth, width and heads of the BERT of that name; feed-forward 1.5 widths, as in ModernBERT-base
    "tiny": Size(2, 128, 2, feed_forward=1.5, millions=6.79),
    "mini": Size(4, 256, 4, feed_forward=1.5, millions=15.2),
    "small": Size(4, 512, 8, feed_forward=1.5, millions=35.0),
    "medium": Size(8, 512, 8, feed_forward=1.5, millions=43.9),
    # Warner et al. 2024
    "base": Size(22, 768, 12, feed_forward=1.5, millions=149),
    "large": Size(28, 1024, 16, feed_forward=2.5625, millions=395),
}
VOCAB_SIZE = 50_368
"""Pieces of the published models."""
_MIN_POSITIONS = 8_192


def modernbert_config(
    config: ModelConfig, vocab_size: int, sequence_length: int, pad_id: int
) -> ModernBertConfig:
    """The transformers configuration of a run file's model section; raises ValueError where it is none."""
    sizes = dimensions(config, SIZES)
    if sizes["hidden_size"] // sizes["num_attention_heads"] % 2:
        raise ValueError("model.hidden_size ÷ model.num_heads must be even for rotary positions")
    dropout = config.dropout or 0.0
    unpads = not dropout if config.unpad is None else config.unpad
    network = ModernBertConfig(
        **sizes,
        vocab_size=vocab_size,
        embedding_dropout=dropout,
        attention_dropout=dropout,
        mlp_dropout=dropout,
        max_position_embeddings=max(_MIN_POSITIONS, sequence_length),
        pad_token_id=pad_id,
        # The defaults are pieces of the published vocabulary; the tokenizer knows its own.
        bos_token_id=None,
        eos_token_id=None,
        cls_token_id=None,
        sep_token_id=None,
    )
    network._attn_implementation = UNPADDED if unpads else "sdpa"
    return network


class NextSentenceHead(nn.Module):
    """BERT's pooler and its classifier, which ModernBERT lacks."""

    def __init__(self, hidden_size: int, initializer_range: float) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.classifier = nn.Linear(hidden_size, 2)
        for layer in (self.dense, self.classifier):
            nn.init.normal_(layer.weight, std=initializer_range)
            nn.init.zeros_(layer.bias)

    def forward(self, first: Tensor) -> Tensor:
        """Logits [B, 2] from the hidden states of the sequences' first pieces [B, D]."""
        return self.classifier(torch.tanh(self.dense(first)))


class ModernBertTaskModel(TextModel):
    """Parameters have the names of `ModernBertForMaskedLM`, under `network`.

    Next-sentence prediction has a head of its own, `network.next_sentence`.
    """

    network: ModernBertForMaskedLM
    input_names = ("input_ids", "attention_mask")

    def __init__(self, config: ModernBertConfig, num_word_terms: int, *, with_nsp: bool) -> None:
        network = ModernBertForMaskedLM(config)
        if with_nsp:
            network.next_sentence = NextSentenceHead(config.hidden_size, config.initializer_range)
        super().__init__(network, num_word_terms, with_nsp=with_nsp)
        self._unpads = config._attn_implementation == UNPADDED

    def layers(self) -> Sequence[nn.Module]:
        """Attention and feed-forward, `num_layers` times."""
        return list(self.network.model.layers)

    def hidden_matrices(self) -> dict[nn.Parameter, int]:
        """As of all models; query, key and value lie in one weight, and so do feed-forward and its gate."""
        stacked: dict[nn.Parameter, int] = {}
        for layer in self.network.model.layers:
            stacked |= {layer.attn.Wqkv.weight: 3, layer.mlp.Wi.weight: 2}
        return super().hidden_matrices() | stacked

    def unseen_flops(self, inputs: dict[str, Tensor]) -> int:
        """Those of local layers, beyond their window."""
        config, layers = self.network.config, self.network.model.layers
        num_local = sum(layer.attention_type == "sliding_attention" for layer in layers)
        num_sequences, length = inputs["input_ids"].shape
        reach = min(config.sliding_window, length - 1)
        num_seen = length + 2 * reach * length - reach * (reach + 1)
        num_unseen = num_sequences * (length**2 - num_seen)
        # Two products, query with key and weight with value, two operations for each element of a piece.
        return 4 * config.hidden_size * num_unseen * num_local

    def shared_layer(self) -> nn.Linear:
        """That of the masked-word head, before its output layer."""
        return self.network.head.dense

    def encode(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The masked positions' inputs of the output layer [N, D], and the first pieces' outputs [B, D]."""
        masked, first = self._unpadded(inputs) if self._unpads else self._padded(inputs)
        return self.network.head(masked), first

    def pair_logits(self, pooled: Tensor) -> Tensor:
        """Logits [B, 2] of the first pieces' outputs [B, D]."""
        return self.network.get_submodule("next_sentence")(pooled)

    def _padded(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Hidden states of masked [N, D] and first pieces [B, D], from sequences [B, L]."""
        self.say_once("SDPA on padded sequences")
        hidden = self.network.model(**{name: inputs[name] for name in self.input_names})[0]
        return hidden.flatten(0, 1)[inputs["masked_positions"]], hidden[:, 0]

    def _unpadded(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The same, from pieces [1, P]."""
        pieces = self._pieces(inputs)
        self.say_once("FlashAttention without padding" if pieces.with_flash else "SDPA without padding")
        hidden = self.network.model(
            input_ids=inputs["input_ids"].flatten()[pieces.positions][None],
            position_ids=pieces.of_sequence[None],
            attention_mask={"full_attention": pieces, "sliding_attention": pieces},
        )[0][0]
        return hidden[pieces.places_of(inputs["masked_positions"])], hidden[pieces.bounds[:-1]]

    def _pieces(self, inputs: dict[str, Tensor]) -> Pieces:
        config, positions = self.network.config, inputs["piece_positions"]
        with_flash = flash_attention_runs(
            positions.device,
            next(self.network.parameters()).dtype,  # a weight asked for by name would be gathered at stage 3
            config.hidden_size // config.num_attention_heads,
            config.attention_dropout if self.training else 0.0,
        )
        return Pieces(
            positions=positions,
            bounds=inputs["sequence_bounds"],
            longest=inputs["input_ids"].shape[1],
            window=config.sliding_window,
            with_flash=with_flash,
        )
