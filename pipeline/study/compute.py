"""What a run costs in FLOPs, counted, and how many steps of another one cost as much."""

from dataclasses import dataclass

from pipeline.config import RunConfig
from pipeline.plan.batch import BatchPlan, plan_batch
from pipeline.plan.simulation import count_flops
from pipeline.plan.text_case import planned_case
from pipeline.study.runs import ArmRun


@dataclass(frozen=True)
class StepFlops:
    """FLOPs of a run's steps on one rank: each has `usual`, those with an extra forward pass `extra` more."""

    batch: BatchPlan
    usual: int
    extra: int

    def between(self, first: int, end: int) -> int:
        """Of the steps from `first` on and before `end`."""
        return (end - first) * self.usual + self.batch.num_extra_forward(first, end) * self.extra

    def end_within(self, budget: int, first: int) -> int:
        """The last `end` such that the steps from `first` on and before it cost no more than `budget`."""
        in_warm_start = max(0, self.batch.start_step - first)
        end = first + min(budget // self.usual, in_warm_start)
        left = budget - self.between(first, end)
        return end + left // self.between(end, end + 1)


class FlopCounter:
    """Counts the FLOPs of runs on one rank. Runs that differ in seed and place alone are counted once."""

    def __init__(self) -> None:
        self._known: dict[str, StepFlops] = {}

    def of_steps(self, config: RunConfig) -> StepFlops:
        """Of forward and backward passes, and of what estimator and objective add to them."""
        key = config.model_dump_json(include={"model", "batch", "data", "masking", "objective"})
        if key not in self._known:
            case, batch = planned_case(config, None), plan_batch(config, world_size=1)
            gradients_of = case.tasks if batch.needs_gradients else ()
            forward_flops, flops = count_flops(case.make, gradients_of=gradients_of)
            number = batch.num_micro_batches
            self._known[key] = StepFlops(batch, number * flops, number * forward_flops)
        return self._known[key]

    def of_run(self, run: ArmRun) -> int:
        """All steps, those of the trunk included."""
        own = self.of_steps(run.config).between(run.num_trunk_steps, run.config.steps)
        return self._of_trunk(run) + own

    def steps_within(self, budget: int, run: ArmRun) -> int:
        """The most steps, those of the trunk included, that cost no more than `budget` FLOPs."""
        own_budget = budget - self._of_trunk(run)
        return self.of_steps(run.config).end_within(own_budget, run.num_trunk_steps)

    def _of_trunk(self, run: ArmRun) -> int:
        return self.of_steps(run.trunk.config).between(0, run.num_trunk_steps) if run.trunk else 0
