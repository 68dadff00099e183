"""How parameters move: the update rule and its learning rate."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.section import Decay, Section, refuse_unread

_RULES_THAT_READ = {
    "implementation": ("adamw",),
    "muon_lr": ("muon",),
    "momentum": ("muon",),
    "betas": ("adamw", "lamb", "muon"),
    "eps": ("adamw", "lamb", "muon"),
}
"""By key of the section optimizer; the others are for all rules."""
_SHAPES_THAT_READ = {"decay_steps": ("warmup_stable_decay",), "decay_type": ("warmup_stable_decay",)}
"""By key of the section schedule; the others are for all shapes."""


class OptimizerConfig(Section):
    """The update rule."""

    name: Literal["adamw", "lamb", "muon", "sgd"] = Field(
        "adamw",
        description="The rule. muon is for the matrices between embeddings and heads; the rest takes AdamW.",
    )
    implementation: Literal["torch", "deepspeed_cpu", "apex"] = Field(
        "torch",
        description="Whose AdamW: torch's fused one; DeepSpeed's CPUAdam, for an offloaded optimizer, which "
        "is compiled once; or NVIDIA Apex's FusedAdam, which must be installed.",
    )
    lr: Annotated[float, Field(gt=0)] = Field(1e-4, description="Peak learning rate.")
    muon_lr: Annotated[float, Field(gt=0)] = Field(
        0.02, description="Peak learning rate of the matrices that muon takes."
    )
    momentum: Decay = Field(0.95, description="Decay of muon's momentum.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.01, description="Decay of matrices; biases and norms have none."
    )
    betas: tuple[Decay, Decay] = Field((0.9, 0.98), description="Moment decays of AdamW and LAMB.")
    eps: Annotated[float, Field(gt=0)] = Field(1e-6, description="Denominator floor of AdamW and LAMB.")
    grad_clip: Annotated[float, Field(ge=0)] = Field(1.0, description="Largest gradient norm; 0 is off.")

    @model_validator(mode="after")
    def _asks_for_nothing_that_the_rule_lacks(self) -> "OptimizerConfig":
        refuse_unread(self, "name", _RULES_THAT_READ)
        return self


class ScheduleConfig(Section):
    """The learning rate over the steps."""

    name: Literal["constant", "linear", "cosine", "warmup_stable_decay"] = Field(
        "linear",
        description="Shape after the warm-up. linear and cosine fall from there to the end, "
        "warmup_stable_decay stays at the peak and falls in the last schedule.decay_steps.",
    )
    total_steps: Annotated[int, Field(gt=0)] | None = Field(
        None,
        description="Steps that the shape is made for, of a run that takes only the first of them; those of "
        "the run if not given.",
    )
    warmup_steps: Annotated[int, Field(ge=0)] = Field(0, description="Steps up to the peak.")
    decay_steps: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Last steps of warmup_stable_decay, in which it falls."
    )
    decay_type: Literal["linear", "cosine", "1-sqrt"] = Field(
        "linear", description="How warmup_stable_decay falls."
    )
    min_lr_ratio: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Part of the peak from which the learning rate rises, and to which it falls."
    )

    @model_validator(mode="after")
    def _decays_where_it_has_steps_for_it(self) -> "ScheduleConfig":
        if self.name == "warmup_stable_decay" and self.decay_steps is None:
            raise ValueError("warmup_stable_decay needs decay_steps: how many of the last steps it falls in")
        return self

    @model_validator(mode="after")
    def _asks_for_nothing_that_the_shape_lacks(self) -> "ScheduleConfig":
        refuse_unread(self, "name", _SHAPES_THAT_READ)
        return self
