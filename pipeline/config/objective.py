"""Which loss is descended: the rule that makes one of the task losses."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipeline.config.section import Decay, Section, refuse_unread

_OBJECTIVES_THAT_READ: dict[str, tuple[str, ...]] = {
    "alpha": ("minimax", "excess"),
    "alpha_schedule": ("minimax", "excess"),
    "prior_power": ("minimax", "excess"),
    "normalise": ("minimax", "group_dro"),
    "weights": ("static",),
    "reference": ("excess",),
    "reference_losses": ("excess",),
    "step_size": ("group_dro",),
    "memory": ("group_dro",),
    "mu": ("tchebycheff",),
    "temperature": ("dwa",),
    "asymmetry": ("gradnorm",),
    "window": ("dwa", "tchebycheff", "gradnorm", "minimax", "group_dro"),
    "lr": ("uncertainty", "famo", "gradnorm"),
}
"""By key of the section; the others are for all objectives."""
_SCALES_THAT_READ = {"window": ("initial",)}
"""Of objectives that read `normalise`."""
_SCHEDULES_THAT_READ = {
    "alpha": ("constant", "linear", "sqrt"),
    "radius_lipschitz": ("theorem",),
    "loss_bound": ("theorem",),
}

NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class ObjectiveConfig(Section):
    """The rule that turns task losses into coefficients."""

    name: Literal[
        "average",
        "token_mean",
        "static",
        "minimax",
        "excess",
        "group_dro",
        "tchebycheff",
        "uncertainty",
        "dwa",
        "famo",
        "gradnorm",
    ] = Field(
        "minimax",
        description="average: every task alike; token_mean: every label alike; static: fixed weights; "
        "minimax: softmax(α L), detached (equation 7); excess: that of losses above a reference; "
        "group_dro: a softmax that remembers; tchebycheff: the worst ratio to the first losses, smoothed; "
        "uncertainty, dwa, famo, gradnorm: weights after Kendall et al. 2018, Liu et al. 2019, Liu et al. "
        "2023, Chen et al. 2018.",
    )
    tasks: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        None,
        description="Tasks that the objective weighs, all if not given; the others are only logged "
        "(data.quota decides whether there are sequences for them).",
    )
    alpha: NonNegative = Field(1.0, description="α of minimax and excess, in 1 / nats.")
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
    normalise: Literal["raw", "initial", "log"] = Field(
        "raw",
        description="φ(L) that minimax and group_dro make weights w from; the coefficients are w φ′(L). raw: "
        "L; initial: L over the first losses (objective.window); log: log L. α has the unit of 1 / φ.",
    )
    start_step: Annotated[int, Field(ge=0)] = Field(
        0, description="Step from which on the objective is descended, and before it objective.start_name."
    )
    start_name: Literal["token_mean", "average"] = Field(
        "token_mean", description="What is descended before objective.start_step."
    )
    weights: dict[str, NonNegative] | None = Field(
        None,
        description="Task → weight of static, brought to sum 1; a task that is not named is not trained.",
    )
    reference: Literal["unigram"] | Path | None = Field(
        None,
        description="Where excess has its references from when a run first starts: a JSON or YAML file of "
        "task → nats; a run's folder, for its newest validation; or unigram, the entropy of each task's "
        "pieces.",
    )
    reference_losses: dict[str, NonNegative] | None = Field(
        None, description="Task → nats that excess subtracts; made from objective.reference if not given."
    )
    step_size: Positive = Field(0.01, description="η of group_dro, in 1 / nats.")
    memory: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="What group_dro keeps of its log weights per step: 1 is the original, 0 minimax."
    )
    mu: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="μ of tchebycheff: the smaller the nearer to the worst; at 1 it is static."
    )
    temperature: Positive = Field(
        2.0, description="Temperature of dwa; the higher the more alike the weights."
    )
    asymmetry: NonNegative = Field(
        1.5, description="α of gradnorm: how strongly tasks that are slow are pulled along; at 0 not at all."
    )
    window: Annotated[int, Field(gt=0)] = Field(
        100,
        description="Steps whose pooled losses dwa compares with those before; the objective's first ones, "
        "by whose pooled losses tchebycheff, gradnorm and objective.normalise=initial measure.",
    )
    lr: Positive | None = Field(
        None,
        description="Learning rate of what the objective learns itself, by Adam (gradnorm: by plain steps); "
        "if not given 0.01 of uncertainty, 0.025 of famo and gradnorm.",
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
        if self.name in _OBJECTIVES_THAT_READ["normalise"]:
            refuse_unread(self, "normalise", _SCALES_THAT_READ)
        if self.start_name != "token_mean" and self.start_step == 0:
            raise ValueError("start_name is for a start_step above 0; leave it out, or give start_step")
        return self

    @model_validator(mode="after")
    def _has_what_the_objective_needs(self) -> "ObjectiveConfig":
        if self.alpha_schedule == "theorem" and not (self.radius_lipschitz and self.loss_bound):
            raise ValueError("alpha_schedule theorem needs radius_lipschitz and loss_bound")
        if self.name == "static" and not any((self.weights or {}).values()):
            raise ValueError("static needs weights: task → weight, at least one above 0")
        if self.name == "excess" and self.reference is None and self.reference_losses is None:
            raise ValueError("excess needs a reference: a file of task → nats, a run's folder, or unigram")
        if self.name == "gradnorm" and self.nsp == "task":
            raise ValueError(
                "gradnorm compares gradients in the masked-word head, where nsp=task has none; set nsp to "
                "auxiliary or off"
            )
        if self.nsp == "task" and self.tasks is not None and "nsp" not in self.tasks:
            raise ValueError(
                "nsp=task, but tasks does not name nsp; add nsp to objective.tasks, or set objective.nsp=off"
            )
        return self
