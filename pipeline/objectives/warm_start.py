"""Another objective for the first steps."""

from dataclasses import replace

from torch import Tensor

from pipeline.objectives.interface import Objective, TaskStats


class WarmStart(Objective):
    """`before` for `start_step` steps, then `then`, to which that is step 0: it has seen nothing before.

    A young model learns language from easy, frequent words, and a worst-case objective gives them little
    weight. It costs what the two cost. The jump of the weights at `start_step` is seen in the gradient norm,
    less with a schedule of α.
    """

    def __init__(self, before: Objective, then: Objective, start_step: int) -> None:
        super().__init__()
        self._before = before
        self._then = then
        self._start_step = start_step
        self.needs = before.needs | then.needs

    def reads_losses(self, step: int) -> bool:
        """As the one whose turn it is."""
        objective, step = self._at(step)
        return objective.reads_losses(step)

    def trains_untasked(self, step: int) -> bool:
        """As the one whose turn it is."""
        objective, step = self._at(step)
        return objective.trains_untasked(step)

    def coefficients(self, stats: TaskStats) -> Tensor:
        """[T] those of the one whose turn it is."""
        objective, step = self._at(stats.step)
        return objective.coefficients(replace(stats, step=step))

    def after_step(self, stats: TaskStats) -> None:
        """Tell the one whose turn it was."""
        objective, step = self._at(stats.step)
        objective.after_step(replace(stats, step=step))

    def _at(self, step: int) -> tuple[Objective, int]:
        """Whose turn it is, and its own step."""
        if step < self._start_step:
            return self._before, step
        return self._then, step - self._start_step
