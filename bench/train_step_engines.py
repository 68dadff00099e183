"""Our training steps, with DeepSpeed's engine and without."""

from typing import Any

import torch
from torch import Tensor, nn
from train_step_clock import DATA, Clock

from pipeline.assembly import build_model, text_data, text_recipe
from pipeline.config import RunConfig
from pipeline.data.text_terms import NSP
from pipeline.engine.estimator import CoefficientRule, with_estimator
from pipeline.engine.guard import LossGuard, UpdateGate
from pipeline.engine.job import Job
from pipeline.engine.launch import Place
from pipeline.engine.schedule import build_schedule
from pipeline.engine.step import StepResult, StepRunner
from pipeline.engine.training import TrainingRun
from pipeline.models.bert import BertTaskModel
from pipeline.optimizers import build_optimizer


class PlainEngine:
    """Torch alone, behind as much of DeepSpeed's engine as `StepRunner` calls."""

    def __init__(self, model: nn.Module, config: RunConfig) -> None:
        self.module = model
        self.optimizer = build_optimizer(model, config.optimizer)
        self._schedule = build_schedule(config.schedule, config.steps)(self.optimizer)
        self._clip = config.optimizer.grad_clip
        self._rounds = config.batch.num_micro_batches
        self._done = 0
        self._norm: Tensor | None = None
        self.skipped_steps = 0

    def __call__(self, inputs: dict[str, Tensor]) -> Any:
        """What the model returns."""
        return self.module(inputs)

    def train(self) -> None:
        """Training mode."""
        self.module.train()

    def backward(self, loss: Tensor) -> None:
        """Add a micro-batch's share of the gradient."""
        (loss / self._rounds).backward()
        self._done += 1

    def is_gradient_accumulation_boundary(self) -> bool:
        """Whether `step` is to update."""
        return self._done % self._rounds == 0

    def step(self) -> None:
        """Update after the last micro-batch."""
        if self.is_gradient_accumulation_boundary():
            self._norm = nn.utils.clip_grad_norm_(self.module.parameters(), self._clip)
            self.optimizer.step()
            self._schedule.step()
            self.optimizer.zero_grad()

    def zero_optimization_stage(self) -> int:
        """One of those at which the runner leaves the gradient norm to the engine."""
        return 1

    def get_global_grad_norm(self) -> Tensor | None:
        """Of the last update."""
        return self._norm


class OurSteps:
    """A run of this project, from the same initial parameters whatever the engine, a step at a time.

    Args:
        config: the run.
        zero_stage: of DeepSpeed's engine; None is torch without DeepSpeed.
        place: this process.
        sections: of the DeepSpeed JSON, beside the stage.
    """

    def __init__(self, config: RunConfig, zero_stage: int | None, place: Place, **sections: Any) -> None:
        self.clock = Clock()
        self.data = text_data(config)
        self.model = fresh_model(config)
        self.clock.watch_model(self.model, self.model.network.base_model)
        self.data.micro_batch = self.clock.timed(DATA, self.data.micro_batch)  # type: ignore[method-assign]
        if zero_stage is None:
            engine = PlainEngine(self.model, config)
            self._runner, optimizer = plain_runner(engine, self.data, config, place), engine.optimizer
        else:
            settings = {"zero_optimization": {"stage": zero_stage}, **sections}
            run = TrainingRun(Job(config, settings, self.data, self.model, {}, place))
            # Where DeepSpeed keeps a copy of what it optimises, torch's optimizer lies within its own.
            optimizer = getattr(run.engine.optimizer, "optimizer", run.engine.optimizer)
            self._runner = run.runner
        self.clock.watch_optimizer(optimizer)
        self._results: list[StepResult] = []

    def step(self) -> None:
        """The next one."""
        self.clock.start()
        self._results.append(self._runner.run(len(self._results)))
        self.clock.stop()

    @property
    def losses(self) -> list[float]:
        """Of each step, the mean over all masked words."""
        words = slice(len(self.data.terms) - (NSP in self.data.terms.names))
        return [float(r.sums[words].sum() / r.counts[words].sum()) for r in self._results]

    @property
    def num_tokens(self) -> list[int]:
        """Of each step, without padding."""
        return [int(result.num_tokens) for result in self._results]

    @property
    def num_labels(self) -> list[int]:
        """Of each step, masked words."""
        words = slice(len(self.data.terms) - (NSP in self.data.terms.names))
        return [int(result.counts[words].sum()) for result in self._results]


def fresh_model(config: RunConfig) -> BertTaskModel:
    """The model of a run before its first step."""
    torch.manual_seed(config.seed)
    return build_model(config, text_recipe(config, text_data(config).shards))


def plain_runner(engine: PlainEngine, data: Any, config: RunConfig, place: Place) -> StepRunner:
    """As `TrainingRun` makes its own."""
    objective = with_estimator(config, None, 1).objective
    rule = CoefficientRule.of(objective, data.terms, config.steps, place.device)
    guard, gate = LossGuard(data.terms.is_task, config.spike_factor), UpdateGate(engine.optimizer)
    return StepRunner(engine, data, rule, guard, gate, config.batch.num_micro_batches, config.seed, place)
