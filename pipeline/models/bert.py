"""BERT from transformers, with its masked-word head computed at masked positions only."""

import torch
from task_kernels import task_loss_sums
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertForPreTraining

from data_prep.schema import NO_LABEL
from pipeline.config import ModelConfig
from pipeline.models.interface import Scores, TaskModel

SIZES = {  # num_layers, hidden_size, num_heads; Devlin et al. 2019 and Turc et al. 2019
    "tiny": (2, 128, 2),
    "mini": (4, 256, 4),
    "small": (4, 512, 8),
    "medium": (8, 512, 8),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
    "1.3b": (24, 2048, 32),  # GPT-3 XL's depth and width (Brown et al. 2020), heads of 64 as in BERT
}
_MIN_POSITIONS = 512


def bert_config(config: ModelConfig, vocab_size: int, sequence_length: int, pad_id: int) -> BertConfig:
    """The transformers configuration of a run file's model section."""
    assert config.size, "left out only where a folder decides"
    num_layers, hidden_size, num_heads = SIZES[config.size]
    hidden_size = config.hidden_size or hidden_size
    num_heads = config.num_heads or num_heads
    if hidden_size % num_heads:
        raise ValueError(f"model.hidden_size {hidden_size} is not a multiple of model.num_heads {num_heads}")
    return BertConfig(
        vocab_size=vocab_size,
        num_hidden_layers=config.num_layers or num_layers,
        hidden_size=hidden_size,
        num_attention_heads=num_heads,
        intermediate_size=config.intermediate_size or 4 * hidden_size,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        max_position_embeddings=max(_MIN_POSITIONS, sequence_length),
        pad_token_id=pad_id,
    )


class TaskLossLinear(nn.Linear):
    """The output layer of the masked-word head. It owns its weight when the loss is computed (ZeRO-3)."""

    def forward(  # type: ignore[override]
        self, hidden: Tensor, labels: Tensor | None = None, task_ids: Tensor | None = None, num_tasks: int = 0
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits [N, V] of hidden [N, D]; with labels and task ids [N], loss sums and counts [num_tasks]."""
        if labels is None or task_ids is None:
            return functional.linear(hidden, self.weight, self.bias)
        return task_loss_sums(hidden, self.weight, self.bias, labels, task_ids, num_tasks)


class BertTaskModel(TaskModel):
    """Masked-word prediction per task, and next-sentence prediction as the last term.

    Parameters have the names of `BertForPreTraining`, under `network`.
    """

    network: BertForPreTraining

    def __init__(self, config: BertConfig, num_word_terms: int, *, with_nsp: bool) -> None:
        super().__init__()
        self.network = BertForPreTraining(config)
        head = self.network.cls.predictions
        head.decoder = TaskLossLinear(config.hidden_size, config.vocab_size, device="meta")
        head.decoder.weight = self.network.bert.embeddings.word_embeddings.weight
        head.decoder.bias = head.bias
        self._num_word_terms = num_word_terms
        self._with_nsp = with_nsp
        if not with_nsp:
            assert self.network.bert.pooler is not None
            for unused in (self.network.bert.pooler, self.network.cls.seq_relationship):
                unused.requires_grad_(False)

    def task_losses(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Loss sums [M] fp32, counts [M] int64: the word terms, then next-sentence prediction if trained."""
        words, pooled = self._encode(inputs)
        decoder = self.network.cls.predictions.decoder
        sums, counts = decoder(words, inputs["labels"], inputs["loss_tasks"], self._num_word_terms)
        if not self._with_nsp:
            return sums, counts
        labels = inputs["next_sentence_label"]
        logits = self.network.cls.seq_relationship(pooled).float()
        loss = functional.cross_entropy(logits, labels, ignore_index=NO_LABEL, reduction="sum")
        return torch.cat([sums, loss[None]]), torch.cat([counts, (labels != NO_LABEL).sum()[None]])

    def scores(self, inputs: dict[str, Tensor]) -> Scores:
        """Every masked piece, then every next-sentence label."""
        words, pooled = self._encode(inputs)
        parts = [
            _score(
                self.network.cls.predictions.decoder(words),
                inputs["labels"],
                inputs["loss_tasks"],
            )
        ]
        if self._with_nsp:
            labelled = inputs["next_sentence_label"] != NO_LABEL
            labels = inputs["next_sentence_label"][labelled]
            terms = torch.full_like(labels, self._num_word_terms)
            parts.append(_score(self.network.cls.seq_relationship(pooled[labelled]), labels, terms))
        return Scores(
            terms=torch.cat([part.terms for part in parts]),
            losses=torch.cat([part.losses for part in parts]),
            correct=torch.cat([part.correct for part in parts]),
        )

    def _encode(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The masked positions' inputs of the output layer [N, D], and the pooled output [B, D]."""
        hidden, pooled = self.network.bert(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            token_type_ids=inputs["token_type_ids"],
        )[:2]
        masked = hidden.flatten(0, 1)[inputs["masked_positions"]]
        return self.network.cls.predictions.transform(masked), pooled


def _score(logits: Tensor, labels: Tensor, terms: Tensor) -> Scores:
    losses = functional.cross_entropy(logits.float(), labels, reduction="none")
    return Scores(terms, losses, logits.argmax(dim=-1) == labels)
