"""Which loss is descended: the rule that makes one of the task losses."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipeline.config.section import Decay, Section, refuse_unread

Name = Literal["token_mean", "average", "minimax"]

_OBJECTIVES_THAT_READ: dict[str, tuple[str, ...]] = {
    "alpha": ("minimax",),
    "alpha_schedule": ("minimax",),
    "prior_power": ("minimax",),
}
"""By key of the section; the others are for all objectives."""
_SCHEDULES_THAT_READ = {
    "alpha": ("constant", "linear", "sqrt"),
    "radius_lipschitz": ("theorem",),
    "loss_bound": ("theorem",),
}
_THEOREM = ("radius_lipschitz", "loss_bound")

Positive = Annotated[float, Field(gt=0)]


class ObjectiveConfig(Section):
    """The rule that turns task losses into coefficients."""

    name: Name = Field(
        "minimax",
        description="token_mean: every label alike; average: every task alike; minimax: "
        "softmax(α L), detached (equation 7).",
    )
    alpha: Annotated[float, Field(ge=0)] = Field(1.0, description="α of minimax, in 1 / nats.")
    alpha_schedule: Literal["constant", "linear", "sqrt", "theorem"] = Field(
        "constant",
        description="α over the steps from objective.start_step on. linear and sqrt rise from near 0 to "
        "objective.alpha at the last step; theorem: the α of Theorem 3.1, from the two keys that follow.",
    )
    radius_lipschitz: Positive | None = Field(
        None,
        description="R₀L′ of the theorem's α, in nats: how far the best parameters are from the first ones, "
        "times the Lipschitz constant of the task losses.",
    )
    loss_bound: Positive | None = Field(
        None, description="B of the theorem's α, in nats: what no task loss exceeds."
    )
    prior_power: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0,
        description="τ: the weights are softmax(α L + τ log f), f the task's share of the step's labels. At "
        "0 no task has more for being frequent; at 1 with α = 0 it is token_mean.",
    )
    start_step: Annotated[int, Field(ge=0)] = Field(
        0, description="Step from which on the objective is descended, and before it objective.start_name."
    )
    start_name: Literal["token_mean", "average"] = Field(
        "token_mean", description="What is descended before objective.start_step."
    )
    estimator: Literal["auto", "batch", "ema", "two_pass"] = Field(
        "auto",
        description="Losses that the weights are made from when a step has several micro-batches per rank. "
        "two_pass: those of the whole step, exact, with an extra forward pass; batch: of the current "
        "micro-batches; ema: a moving average of pooled sums and counts up to the last step. auto, decided "
        "when a run first starts: ema where a rank has several, else two_pass, which then is batch.",
    )
    ema_decay: Decay = Field(0.9, description="Decay per step of estimator ema.")
    # YAML reads a bare `off` as false.
    nsp: Annotated[
        Literal["auxiliary", "task", "off"], BeforeValidator(lambda value: "off" if value is False else value)
    ] = Field(
        "auxiliary",
        description="Next-sentence prediction: a loss of fixed weight beside the objective, one more task of "
        "the objective, or none.",
    )
    nsp_weight: Annotated[float, Field(ge=0)] = Field(1.0, description="Weight of nsp as an auxiliary loss.")

    @model_validator(mode="after")
    def _asks_for_nothing_that_the_objective_lacks(self) -> "ObjectiveConfig":
        refuse_unread(self, "name", _OBJECTIVES_THAT_READ)
        refuse_unread(self, "alpha_schedule", _SCHEDULES_THAT_READ)
        return self

    @model_validator(mode="after")
    def _has_what_the_theorem_needs(self) -> "ObjectiveConfig":
        missing = [key for key in _THEOREM if getattr(self, key) is None]
        if self.alpha_schedule == "theorem" and missing:
            raise ValueError(f"alpha_schedule theorem needs {' and '.join(missing)}")
        return self
