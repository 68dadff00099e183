"""What the engine and evaluation ask of a model."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Scores:
    """R predictions in the order of the batch's labels: `losses` [R] nats in fp32, `correct` [R] bool."""

    losses: Tensor
    correct: Tensor


class TaskModel(nn.Module, ABC):
    """A model whose heads each contribute the losses of their tasks.

    `network` is the module whose parameters, under its own names, are what a checkpoint holds.
    """

    network: nn.Module

    def forward(self, inputs: dict[str, Tensor], *, score: bool = False) -> tuple[Tensor, Tensor] | Scores:
        """`task_losses` or `scores`, so that DeepSpeed's hooks run around either."""
        return self.scores(inputs) if score else self.task_losses(inputs)

    @abstractmethod
    def layers(self) -> Sequence[nn.Module]:
        """The modules that make up the depth, in the order in which they run.

        Each takes a hidden state as its first argument, and returns the next one. It may be run again in the
        backward pass, or be compiled.
        """

    def hidden_matrices(self) -> dict[nn.Parameter, int]:
        """The weights of the layers, before DeepSpeed cuts them, that are for muon.

        With each the number of matrices of equal shape that it stacks, one's rows after another's.
        """
        return {
            parameter: 1 for layer in self.layers() for parameter in layer.parameters() if parameter.ndim == 2
        }

    def unseen_flops(self, inputs: dict[str, Tensor]) -> int:
        """FLOPs of a forward pass that dense attention spends on pairs which the model's masks hide.

        Those of layers that see a part of a sequence; padding counts as seen.
        """
        return 0

    @abstractmethod
    def shared_layer(self) -> nn.Linear:
        """The last layer that all tasks share and that treats rows one by one, each of one loss term."""

    @abstractmethod
    def row_terms(self, inputs: dict[str, Tensor]) -> Tensor:
        """The loss terms [N] of the rows that the shared layer is given for these inputs."""

    @abstractmethod
    def task_losses(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Loss sums [M] fp32 (differentiable) and counts [M] int64 of the loss terms."""

    @abstractmethod
    def scores(self, inputs: dict[str, Tensor]) -> Scores:
        """Loss and correctness of every single prediction."""
