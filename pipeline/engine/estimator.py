"""From global loss sums to coefficients: which losses the weights are made from, and what absence means."""

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from pipeline.config import ObjectiveConfig, RunConfig
from pipeline.data.interface import LossTerms
from pipeline.objectives import GRADIENTS, Objective, TaskStats, build_objective

Estimator = Literal["batch", "ema", "two_pass"]


def with_estimator(config: RunConfig, before: dict[str, Any] | None, world_size: int) -> RunConfig:
    """The configuration with `objective.estimator` decided where it is `auto`.

    A run that goes on keeps its estimator, whatever its ranks are now: `before` is the configuration that
    it went by. `two_pass` is exact with any number of ranks, and free where each has one micro-batch.
    """
    if config.objective.estimator != "auto":
        return config
    if before:
        estimator = before["objective"]["estimator"]
    else:
        estimator = "ema" if config.batch.num_micro_batches > world_size else "two_pass"
    objective = config.objective.model_copy(update={"estimator": estimator})
    return config.model_copy(update={"objective": objective})


class CoefficientRule:
    """Turns global sums and counts [M] into one coefficient per loss term [M].

    A task never seen is left out of the weights. One absent now keeps its last known loss for the weights,
    gets no gradient, and the coefficients of the present ones are scaled up to the same total.
    """

    def __init__(
        self,
        objective: Objective,
        terms: LossTerms,
        estimator: Estimator,
        ema_decay: float,
        device: torch.device,
    ) -> None:
        self._objective = objective.to(device)
        self.estimator = estimator
        self._decay = ema_decay
        self.tasks = terms.task_indices
        """Which of the M terms are the T tasks."""
        self._is_task = terms.is_task.to(device)
        self._is_untasked = terms.is_untasked.to(device)
        self._fixed = terms.fixed.to(device, torch.float64)
        num_tasks = len(terms.tasks)
        self._last = torch.zeros(num_tasks, dtype=torch.float64, device=device)
        self._seen = torch.zeros(num_tasks, dtype=torch.bool, device=device)
        self._ema_sums = torch.zeros_like(self._last)
        self._ema_counts = torch.zeros_like(self._last)
        self._ema_squares = torch.zeros_like(self._last)

    @classmethod
    def of(
        cls, config: ObjectiveConfig, terms: LossTerms, num_steps: int, device: torch.device
    ) -> "CoefficientRule":
        """As a run file of so many steps has it."""
        assert config.estimator != "auto"
        objective = build_objective(config, terms.tasks, num_steps)
        return cls(objective, terms, config.estimator, config.ema_decay, device)

    def needs_losses(self, step: int) -> bool:
        """Whether the weights of step `step` read the losses that they weigh."""
        return self._objective.reads_losses(step) and self.estimator != "ema"

    @property
    def effective_counts(self) -> Tensor | None:
        """[T] labels that the moving average of each task's loss is as good as; None without estimator ema.

        (Σ u)² / Σ u² over the labels, of which one that is i steps old weighs u = (1 − β) βⁱ: with n labels
        in every step it grows to n (1 + β) / (1 − β).
        """
        if self.estimator != "ema":
            return None
        tiny = torch.finfo(torch.float64).tiny
        return self._ema_counts**2 / self._ema_squares.clamp(min=tiny)

    @property
    def needs_gradients(self) -> bool:
        """Whether `after_step` is to see the gradient norms of the tasks."""
        return GRADIENTS in self._objective.needs

    def coefficients(self, step: int, sums: Tensor | None, counts: Tensor, step_counts: Tensor) -> Tensor:
        """[M] coefficients, from the global sums and counts [M] that the estimator calls for.

        Args:
            step: k, counted from 0.
            sums: loss sums of the step, or of a part of it; None where `needs_losses` is false.
            counts: what `sums` are sums over.
            step_counts: counts of the whole step, which tell what is present. A task that is present, but
                whose loss is not known yet, stands at the mean of the others.
        """
        losses, known = self._last, self._seen
        if sums is not None:
            here = counts[self._is_task] > 0
            now = sums[self._is_task] / counts[self._is_task].clamp(min=1)
            losses, known = torch.where(here, now, losses), known | here
        elif self.estimator == "ema":
            # A task that is absent for thousands of steps decays to nothing, but its loss is not 0.
            average = self._ema_sums / self._ema_counts
            losses = torch.where(self._ema_counts > torch.finfo(torch.float64).tiny, average, losses)
        # Where nothing is known all stand at 1, of which there is a logarithm.
        mean = torch.where(known.any(), torch.where(known, losses, 0.0).sum() / known.sum(), 1.0)
        losses, valid = torch.where(known, losses, mean), self._seen | (step_counts[self._is_task] > 0)
        stats = self._stats(step, losses, valid, step_counts)
        weights = self._objective.coefficients(stats)
        result = self._fixed * (step_counts > 0)
        result[self._is_task] = _renormalise(weights, stats.present)
        if self._objective.trains_untasked(step):
            num_labels = stats.counts.sum() + stats.num_untasked
            result[self._is_untasked] = stats.num_untasked / num_labels.clamp(min=1).to(result.dtype)
        return result

    def after_step(
        self, step: int, sums: Tensor, step_counts: Tensor, gradient_norms: Tensor | None = None
    ) -> None:
        """Remember the global sums and counts [M] of a finished step; the objective sees norms [T], too."""
        sums, counts = sums[self._is_task], step_counts[self._is_task]
        present = counts > 0
        self._last = torch.where(present, sums / counts.clamp(min=1), self._last)
        self._seen = self._seen | present
        self._ema_sums = self._decay * self._ema_sums + (1 - self._decay) * sums
        self._ema_counts = self._decay * self._ema_counts + (1 - self._decay) * counts
        self._ema_squares = self._decay**2 * self._ema_squares + (1 - self._decay) ** 2 * counts
        stats = self._stats(step, self._last, self._seen, step_counts)
        self._objective.after_step(replace(stats, gradient_norms=gradient_norms))

    def _stats(self, step: int, losses: Tensor, valid: Tensor, step_counts: Tensor) -> TaskStats:
        num_untasked = step_counts[self._is_untasked].sum()
        return TaskStats(step, losses, step_counts[self._is_task], valid, num_untasked)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold to go on, as plain values."""
        return {
            "last": self._last.tolist(),
            "seen": self._seen.tolist(),
            "ema_sums": self._ema_sums.tolist(),
            "ema_counts": self._ema_counts.tolist(),
            "ema_squares": self._ema_squares.tolist(),
            "objective": {name: value.tolist() for name, value in self._objective.state_dict().items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._last = self._last.new_tensor(state["last"])
        self._seen = self._seen.new_tensor(state["seen"])
        self._ema_sums = self._last.new_tensor(state["ema_sums"])
        self._ema_counts = self._last.new_tensor(state["ema_counts"])
        self._ema_squares = self._last.new_tensor(state["ema_squares"])
        now = self._objective.state_dict()
        then = {name: now[name].new_tensor(value) for name, value in state["objective"].items()}
        self._objective.load_state_dict(then)


def _renormalise(weights: Tensor, present: Tensor) -> Tensor:
    """Weights of the present tasks with the total of all; alike where all of it lay on absent ones."""
    kept = torch.where(present, weights, 0.0)
    total = weights.sum()
    alike = present.to(weights.dtype) / present.sum().clamp(min=1)
    scaled = kept * (total / kept.sum().clamp(min=torch.finfo(weights.dtype).tiny))
    return torch.where(kept.sum() > 0, scaled, alike)
