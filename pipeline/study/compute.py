"""What a run costs in FLOPs, counted, and how many steps of another one cost as much."""

from pipeline.config import RunConfig
from pipeline.plan.batch import plan_batch
from pipeline.plan.simulation import count_flops
from pipeline.plan.text_case import planned_case
from pipeline.study.runs import ArmRun


class FlopCounter:
    """Counts the FLOPs of runs on one rank. Runs that differ in seed and place alone are counted once."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def of_step(self, config: RunConfig) -> int:
        """Forward, backward, and the forward pass that an estimator may add."""
        key = config.model_dump_json(include={"model", "batch", "data", "masking", "objective"})
        if key not in self._known:
            forward_flops, flops = count_flops(planned_case(config, None).make)
            batch = plan_batch(config, world_size=1)
            extra_flops = forward_flops if batch.extra_forward else 0
            self._known[key] = batch.num_micro_batches * (flops + extra_flops)
        return self._known[key]

    def of_run(self, run: ArmRun) -> int:
        """All steps, those of the trunk included."""
        return self._of_trunk(run) + (run.config.steps - run.num_trunk_steps) * self.of_step(run.config)

    def steps_within(self, budget: int, run: ArmRun) -> int:
        """The most steps, those of the trunk included, that cost no more than `budget` FLOPs."""
        return run.num_trunk_steps + (budget - self._of_trunk(run)) // self.of_step(run.config)

    def _of_trunk(self, run: ArmRun) -> int:
        return run.num_trunk_steps * self.of_step(run.trunk.config) if run.trunk else 0
