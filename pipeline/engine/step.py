"""One exact step: global counts first, global sums before the weights, one backward per micro-batch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.data.interface import MicroBatch, MicroBatches
from pipeline.engine.estimator import CoefficientRule
from pipeline.engine.guard import LossGuard, Refusal, UpdateGate
from pipeline.engine.launch import Place
from pipeline.engine.task_gradients import TaskGradients

_DROPOUT_STREAM = 4


def dropout_seed(seed: int, step: int, index: int) -> int:
    """Seed of torch's generator for micro-batch `index` of step `step`, on whichever rank it runs."""
    entropy = np.random.SeedSequence([seed, _DROPOUT_STREAM, step, index])
    return int(entropy.generate_state(1, np.uint64)[0])


@dataclass(frozen=True)
class StepResult:
    """Global figures of a step, on the device: sums [M], counts [M], coefficients [M].

    `gradient_norms` [T] are those that the objective `needs`, else None: see `TaskStats`.

    `refusal` says why no update was made, the same on all ranks; `suspects` are those of this rank's
    micro-batches that may be the cause.
    """

    sums: Tensor
    counts: Tensor
    coefficients: Tensor
    num_tokens: Tensor
    num_told_to_stop: Tensor
    """Ranks that were told before the step; the same number on all."""
    grad_norm: Tensor | float
    refusal: Refusal | None
    suspects: list[int]
    gradient_norms: Tensor | None


class StepRunner:
    """Runs step k on this rank's micro-batches.

    Micro-batch m belongs to rank m mod W; a rank without one in the last round runs an empty one. With S_t
    this rank's loss sums of a round, the rank back-propagates Σ_t c_t S_t · (W · rounds) / n_t: DeepSpeed
    divides by the rounds and averages over the W ranks, which leaves Σ_t c_t ∇L_t with the global mean
    L_t = Σ S_t / n_t over ranks and micro-batches.
    """

    def __init__(
        self,
        engine: Any,
        data: MicroBatches,
        rule: CoefficientRule,
        guard: LossGuard,
        gate: UpdateGate,
        num_micro_batches: int,
        seed: int,
        place: Place,
    ) -> None:
        self._engine = engine
        self._data = data
        self._rule = rule
        self._guard = guard
        self._gate = gate
        self._num_micro_batches = num_micro_batches
        self._rounds = -(-num_micro_batches // place.world_size)
        self._seed = seed
        self._place = place
        self._gradient_scale = place.world_size * self._rounds
        self._task_gradients = TaskGradients(engine.module, rule.tasks) if rule.needs_gradients else None

    def run(self, step: int, *, told_to_stop: bool = False) -> StepResult:
        """Take step `step`, counted from 0; all ranks learn how many of them were told to stop."""
        batches = self._micro_batches(step)
        counts, num_tokens, num_told = self._global_counts([batch for _, batch in batches], told_to_stop)
        denominators = counts.clamp(min=1)
        self._engine.train()
        coefficients = self._coefficients_before(step, batches, counts)
        used = torch.zeros(len(counts), dtype=torch.float64, device=self._place.device)
        used = used if coefficients is None else coefficients
        parts = []
        for number, (index, batch) in enumerate(batches):
            if number > 0:
                self._engine.step()  # which only counts, before the last one
            sums = self._forward(step, index, batch)
            weights = coefficients
            if weights is None:
                round_counts = self._round_counts(batch, counts)
                round_sums = self._all_reduce(sums.detach().double())
                weights = self._rule.coefficients(step, round_sums, round_counts, counts)
                used = used + weights * round_counts / denominators
            scale = (weights * self._gradient_scale / denominators).to(sums.dtype)
            if self._task_gradients:
                self._task_gradients.follow(batch.inputs, sums)
            self._engine.backward((scale * sums).sum())
            parts.append(sums.detach().double())
        total = self._all_reduce(torch.stack(parts).sum(dim=0))
        gradient_norms = self._gradient_norms(counts)
        refusal, grad_norm = self._update(self._guard.judge(total, counts))
        self._guard.count(refusal)
        if refusal is None:
            self._rule.after_step(step, total, counts, gradient_norms)
        return StepResult(
            sums=total,
            counts=counts,
            coefficients=used,
            num_tokens=num_tokens,
            num_told_to_stop=num_told,
            grad_norm=grad_norm,
            refusal=refusal,
            suspects=[] if refusal is None else self._suspects(refusal, [i for i, _ in batches], parts),
            gradient_norms=gradient_norms,
        )

    def _update(self, refusal: Refusal | None) -> tuple[Refusal | None, Tensor | float]:
        """The optimizer's step, unless it is refused; why it was not made after all; the gradient's norm."""
        norm = self._grad_norm_before_step()
        if norm is not None and not torch.isfinite(norm):
            refusal = refusal or Refusal.GRADIENT
        num_skipped = self._engine.skipped_steps
        self._gate.is_open = refusal is None
        self._engine.step()
        if self._engine.skipped_steps > num_skipped:  # DeepSpeed found the norm not finite
            self._engine.lr_scheduler.step()  # the learning rate is a function of the step
            if not self._engine.fp16_enabled():  # there, it is how the loss scale is found
                refusal = refusal or Refusal.GRADIENT
        return refusal, norm if norm is not None else self._engine.get_global_grad_norm()

    def _suspects(self, refusal: Refusal, indices: list[int], parts: list[Tensor]) -> list[int]:
        """Those with a loss that is no number; all where that says nothing."""
        if refusal is Refusal.LOSS:
            finite = torch.isfinite(torch.stack(parts)).all(dim=1).tolist()
            return [index for index, is_finite in zip(indices, finite, strict=True) if not is_finite]
        return [index for index in indices if index < self._num_micro_batches]

    def _micro_batches(self, step: int) -> list[tuple[int, MicroBatch]]:
        """This rank's (index, micro-batch) of each round, on the device."""
        batches = []
        for round_index in range(self._rounds):
            index = round_index * self._place.world_size + self._place.rank
            if index < self._num_micro_batches:
                batch = self._data.micro_batch(step, index)
            else:
                batch = self._data.empty_micro_batch()
            batches.append((index, self._to_device(batch)))
        return batches

    def _to_device(self, batch: MicroBatch) -> MicroBatch:
        device = self._place.device
        inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.inputs.items()}
        return MicroBatch(inputs, batch.counts.to(device), batch.num_tokens)

    def _global_counts(self, batches: list[MicroBatch], told_to_stop: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Labels per term over the whole step, known before its first forward; its tokens; ranks told."""
        num_tokens = sum(batch.num_tokens for batch in batches)
        others = torch.tensor([num_tokens, int(told_to_stop)], device=self._place.device)
        local = torch.stack([batch.counts for batch in batches]).sum(dim=0)
        total = self._all_reduce(torch.cat([local, others]))
        return total[:-2], total[-2], total[-1]

    def _coefficients_before(
        self, step: int, batches: list[tuple[int, MicroBatch]], counts: Tensor
    ) -> Tensor | None:
        """The step's coefficients where they are known before its backward passes, else None."""
        if not self._rule.needs_losses(step):
            return self._rule.coefficients(step, None, counts, counts)
        if self._rule.estimator == "batch" or self._rounds == 1:
            return None
        with torch.no_grad():  # dropout is replayed: the second pass draws the same masks
            sums = torch.stack([self._forward(step, index, batch).double() for index, batch in batches])
        return self._rule.coefficients(step, self._all_reduce(sums.sum(dim=0)), counts, counts)

    def _forward(self, step: int, index: int, batch: MicroBatch) -> Tensor:
        """Loss sums [M]."""
        torch.manual_seed(dropout_seed(self._seed, step, index))
        sums, _ = self._engine(batch.inputs)
        return sums

    def _round_counts(self, batch: MicroBatch, counts: Tensor) -> Tensor:
        """Labels per term in the current round, over all ranks."""
        return counts if self._rounds == 1 else self._all_reduce(batch.counts.clone())

    def _gradient_norms(self, counts: Tensor) -> Tensor | None:
        """[T] ‖∇L_t‖ of the step at the shared layer, 0 where a task was not trained; None if nobody asks."""
        if not self._task_gradients:
            return None
        gradients = self._all_reduce(self._task_gradients.take())
        return torch.linalg.matrix_norm(gradients).double() / counts[self._rule.tasks].clamp(min=1)

    def _grad_norm_before_step(self) -> Tensor | None:
        """The gradient norm at ZeRO stage 0 in fp32, where DeepSpeed does not keep one."""
        if self._engine.zero_optimization_stage() > 0:
            return None
        gradients = [p.grad for p in self._engine.module.parameters() if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def _all_reduce(self, tensor: Tensor) -> Tensor:
        if self._place.world_size > 1:
            dist.all_reduce(tensor)
        return tensor
