"""How a global batch falls on ranks."""

from dataclasses import dataclass

from pipeline.config import RunConfig
from pipeline.engine.estimator import with_estimator
from pipeline.objectives import GRADIENTS, build_objective


@dataclass(frozen=True)
class BatchPlan:
    """The micro-batches of a step on `world_size` ranks, which take them round-robin."""

    global_size: int
    micro_size: int
    num_micro_batches: int
    world_size: int
    estimator: str
    start_step: int
    """Step before which there is a warm start."""
    reads_losses: bool
    """Whether the weights, after the warm start, are made from losses of the same step."""
    extra_forward: bool
    """Whether each micro-batch, after the warm start, runs forward once more, for the weights."""
    needs_gradients: bool
    """Whether the objective asks for the gradient of every task; then it is made in a warm start, too."""

    @property
    def rounds(self) -> int:
        """Micro-batches per rank."""
        return -(-self.num_micro_batches // self.world_size)

    @property
    def num_idle(self) -> int:
        """Ranks without a micro-batch in the last round."""
        return self.rounds * self.world_size - self.num_micro_batches

    @property
    def busy_share(self) -> float:
        """Part of the ranks' time in which they have a micro-batch."""
        return self.num_micro_batches / (self.rounds * self.world_size)

    def num_extra_forward(self, first: int, end: int) -> int:
        """Steps from `first` on and before `end` in which each micro-batch runs forward once more."""
        return max(0, end - max(first, self.start_step)) if self.extra_forward else 0


def plan_batch(config: RunConfig, world_size: int) -> BatchPlan:
    """The batch of a run file on so many ranks."""
    objective = with_estimator(config, None, world_size).objective
    several = config.batch.num_micro_batches > world_size
    # Which tasks there are changes nothing about when their losses are read.
    rule = build_objective(objective, (), config.num_planned_steps)
    reads_losses = rule.reads_losses(config.steps - 1) and objective.estimator != "ema"
    return BatchPlan(
        global_size=config.batch.global_size,
        micro_size=config.batch.micro_size,
        num_micro_batches=config.batch.num_micro_batches,
        world_size=world_size,
        estimator=objective.estimator,
        start_step=objective.start_step,
        reads_losses=reads_losses,
        extra_forward=several and reads_losses and objective.estimator == "two_pass",
        needs_gradients=GRADIENTS in rule.needs,
    )
