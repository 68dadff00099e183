"""What `estimators.py` measures: the weights of real steps, exact and as each estimator would make them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from train_step_cases import Sizes, run_config
from train_step_engines import fresh_model

from pipeline.assembly import text_data
from pipeline.config import ObjectiveConfig, RunConfig
from pipeline.data.interface import LossTerms, MicroBatches
from pipeline.engine.estimator import CoefficientRule
from pipeline.engine.job import Job
from pipeline.engine.launch import Place
from pipeline.engine.step import dropout_seed
from pipeline.engine.training import TrainingRun
from pipeline.models.interface import TaskModel

EXACT, EMA, REDRAWN = "exact", "ema", "exact, other masks"
"""`REDRAWN`: exact weights of the same sequences, with other masks and dropout. No estimator can come closer
to `EXACT` without having seen the very same draw."""
LEARNING_RATE, WARM_UP_STEPS = 2e-3, 20


def batch_name(num_micro_batches: int) -> str:
    """What estimator `batch` is called in a step of so many micro-batches."""
    return f"batch, micro-batches: {num_micro_batches}"


@dataclass(frozen=True)
class RunWeights:
    """The weights that each estimator would have given the tasks in each step of a run.

    Attributes:
        weights: by estimator [K, T], those of the whole step among them (`EXACT`).
        counts: [K, T] masked pieces.
    """

    alpha: float
    seed: int
    weights: dict[str, Tensor]
    counts: Tensor

    def errors(self, estimator: str) -> Tensor:
        """[K, T] weight less exact weight."""
        return self.weights[estimator] - self.weights[EXACT]

    def distances(self, estimator: str) -> Tensor:
        """[K] total-variation distances to the exact weights."""
        return 0.5 * self.errors(estimator).abs().sum(dim=1)


class ShadowRule:
    """The coefficients of an estimator that no run follows, from the losses of a run that another one leads.

    Args:
        objective: names the estimator.
        terms: the M loss terms.
        num_steps: of the run.
        num_micro_batches: that a step would be cut into.
    """

    def __init__(
        self, objective: ObjectiveConfig, terms: LossTerms, num_steps: int, num_micro_batches: int
    ) -> None:
        self._rule = CoefficientRule.of(objective, terms, num_steps, torch.device("cpu"))
        self._num_micro_batches = num_micro_batches

    def coefficients(self, step: int, sums: Tensor, counts: Tensor) -> Tensor:
        """[M] what the mean loss of each term would be multiplied by, as `StepResult` has it.

        Args:
            step: k, counted from 0.
            sums: [P, M] of the step's P parts, which P / num_micro_batches make a micro-batch of.
            counts: [P, M] of the same.
        """
        step_sums, step_counts = sums.sum(dim=0), counts.sum(dim=0)
        if self._rule.needs_losses(step):
            parts = zip(self._by_micro_batch(sums), self._by_micro_batch(counts), strict=True)
            shares = [self._rule.coefficients(step, s, n, step_counts) * n for s, n in parts]
            used = torch.stack(shares).sum(dim=0) / step_counts.clamp(min=1)
        else:
            used = self._rule.coefficients(step, None, step_counts, step_counts)
        self._rule.after_step(step, step_sums, step_counts)
        return used

    def _by_micro_batch(self, parts: Tensor) -> Tensor:
        """[num_micro_batches, M] from [P, M]."""
        return parts.unflatten(0, (self._num_micro_batches, -1)).sum(dim=1)


def shadow_rules(
    objective: ObjectiveConfig, terms: LossTerms, num_steps: int, cuts: list[int]
) -> dict[str, ShadowRule]:
    """The exact weights, `batch` for each number of micro-batches in `cuts`, and `ema`."""

    def rule(estimator: str, num_micro_batches: int) -> ShadowRule:
        named = objective.model_copy(update={"estimator": estimator})
        return ShadowRule(named, terms, num_steps, num_micro_batches)

    of_batch = {batch_name(number): rule("batch", number) for number in cuts}
    return {EXACT: rule("two_pass", 1), **of_batch, EMA: rule("ema", 1)}


def measure(sizes: Sizes, shards: Path, alpha: float, seed: int, cuts: list[int], place: Place) -> RunWeights:
    """Train with the exact weights; before each step, ask each estimator for its own.

    The run takes its steps in one forward pass, whose weights are exact. The estimators see the same
    sequences in `max(cuts)` parts, with masks and dropout of their own, at the same parameters.
    """
    config = bench_config(sizes, shards, alpha, seed)
    data, model = text_data(config), fresh_model(config)
    run = TrainingRun(Job(config, {"zero_optimization": {"stage": 0}}, data, model, {}, place))
    parts = text_data(in_micro_batches(config, max(cuts)))
    rules = shadow_rules(config.objective, data.terms, config.steps, cuts)
    weights: dict[str, list[Tensor]] = {name: [] for name in (*rules, REDRAWN)}
    step_counts = []
    for step in range(sizes.num_steps):
        sums, counts = losses_of_parts(model, parts, config.seed, step, max(cuts))
        for name, rule in rules.items():
            weights[name].append(rule.coefficients(step, sums, counts)[data.terms.is_task])
        step_counts.append(counts.sum(dim=0)[data.terms.is_task])
        weights[REDRAWN].append(run.runner.run(step).coefficients[data.terms.is_task])
    by_name = {name: torch.stack(of_steps) for name, of_steps in weights.items()}
    return RunWeights(alpha, seed, by_name, torch.stack(step_counts))


def bench_config(sizes: Sizes, shards: Path, alpha: float, seed: int) -> RunConfig:
    """A run whose steps are one forward pass."""
    objective = {"name": "minimax", "alpha": alpha, "estimator": "two_pass", "nsp": "off"}
    return run_config(
        shards,
        sizes,
        objective,
        seed=seed,
        optimizer={"lr": LEARNING_RATE},
        schedule={"warmup_steps": min(WARM_UP_STEPS, sizes.num_steps)},
    )


def in_micro_batches(config: RunConfig, number: int) -> RunConfig:
    """The same steps, cut into `number` micro-batches."""
    micro_size = config.batch.global_size // number
    batch = config.batch.model_copy(update={"micro_size": micro_size})
    return config.model_copy(update={"batch": batch})


def losses_of_parts(
    model: TaskModel, parts: MicroBatches, seed: int, step: int, num_parts: int
) -> tuple[Tensor, Tensor]:
    """Loss sums and counts [P, M] of a step's parts, with dropout as in training."""
    model.train()
    with torch.no_grad():
        found = list(one_by_one(model, parts, seed, step, num_parts))
    sums, counts = zip(*found, strict=True)
    return torch.stack(sums), torch.stack(counts)


def one_by_one(
    model: TaskModel, parts: MicroBatches, seed: int, step: int, num_parts: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Sums and counts [M] of each part."""
    for index in range(num_parts):
        torch.manual_seed(dropout_seed(seed, step, index))
        sums, counts = model.task_losses(parts.micro_batch(step, index).inputs)
        yield sums.double(), counts
