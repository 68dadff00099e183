"""What all text models share: masked words and sentence pairs become losses per task, and scores."""

import logging
from abc import abstractmethod
from typing import ClassVar

import torch
from task_kernels import task_loss_sums
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from data_prep.schema import NO_LABEL
from pipeline.models.interface import Scores, TaskModel

_LOG = logging.getLogger("pipeline.models")


class TaskLossLinear(nn.Linear):
    """The output layer of the masked-word head. It owns its weight when the loss is computed (ZeRO-3)."""

    def forward(  # type: ignore[override]
        self, hidden: Tensor, labels: Tensor | None = None, task_ids: Tensor | None = None, num_tasks: int = 0
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits [N, V] of hidden [N, D]; with labels and task ids [N], loss sums and counts [num_tasks]."""
        if labels is None or task_ids is None:
            return functional.linear(hidden, self.weight, self.bias)
        return task_loss_sums(hidden, self.weight, self.bias, labels, task_ids, num_tasks)


class TextModel(TaskModel):
    """Masked-word prediction per task, and next-sentence prediction as the last term.

    Args:
        network: of transformers, with a masked-word head; its parameters keep their names.
        num_word_terms: loss terms that masked words fall into in training; scores know of none.
        with_nsp: whether next-sentence prediction is trained.
    """

    network: PreTrainedModel
    input_names: ClassVar[tuple[str, ...]]
    """What the encoder reads of a batch, [B, L] each, by its names in transformers."""

    def __init__(self, network: PreTrainedModel, num_word_terms: int, *, with_nsp: bool) -> None:
        super().__init__()
        given = network.get_output_embeddings()
        assert isinstance(given, nn.Linear)
        decoder = TaskLossLinear(given.in_features, given.out_features, device="meta")
        decoder.weight, decoder.bias = given.weight, given.bias
        network.set_output_embeddings(decoder)
        self.network = network
        self._num_word_terms = num_word_terms
        self._with_nsp = with_nsp
        self._said: set[str] = set()

    @abstractmethod
    def encode(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The masked positions' inputs of the output layer [N, D], and a vector per sequence [B, D]."""

    @abstractmethod
    def pair_logits(self, pooled: Tensor) -> Tensor:
        """Logits [B, 2] of next-sentence prediction from the sequences' vectors [B, D]."""

    def say_once(self, how: str) -> None:
        """Tell the log how this model computes attention; one that is simulated speaks for itself alone."""
        if how not in self._said:
            self._said.add(how)
            _LOG.info("attention: %s", how)

    def task_losses(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Loss sums [M] fp32, counts [M] int64: the word terms, then next-sentence prediction if trained."""
        words, pooled = self.encode(inputs)
        decoder = self.network.get_output_embeddings()
        sums, counts = decoder(words, inputs["labels"], inputs["loss_tasks"], self._num_word_terms)
        if not self._with_nsp:
            return sums, counts
        labels = inputs["next_sentence_label"]
        logits = self.pair_logits(pooled).float()
        loss = functional.cross_entropy(logits, labels, ignore_index=NO_LABEL, reduction="sum")
        return torch.cat([sums, loss[None]]), torch.cat([counts, (labels != NO_LABEL).sum()[None]])

    def row_terms(self, inputs: dict[str, Tensor]) -> Tensor:
        """Those of the masked pieces [N]; no vector of a sequence comes by."""
        return inputs["loss_tasks"]

    def scores(self, inputs: dict[str, Tensor]) -> Scores:
        """Every masked piece, then every next-sentence label."""
        words, pooled = self.encode(inputs)
        logits = self.network.get_output_embeddings()(words)
        parts = [_score(logits, inputs["labels"])]
        if self._with_nsp:
            labelled = inputs["next_sentence_label"] != NO_LABEL
            labels = inputs["next_sentence_label"][labelled]
            parts.append(_score(self.pair_logits(pooled[labelled]), labels))
        return Scores(
            losses=torch.cat([part.losses for part in parts]),
            correct=torch.cat([part.correct for part in parts]),
        )


def _score(logits: Tensor, labels: Tensor) -> Scores:
    losses = functional.cross_entropy(logits.float(), labels, reduction="none")
    return Scores(losses, logits.argmax(dim=-1) == labels)
