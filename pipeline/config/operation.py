"""What a run does beside its steps: validating, saving, logging, profiling."""

from typing import Annotated

from pydantic import Field, model_validator

from pipeline.config.section import Section

Share = Annotated[float, Field(ge=0, le=1)]


class ValidateConfig(Section):
    """Held-out evaluation while training, on the validation split."""

    every: Annotated[int, Field(ge=0)] = Field(1_000, description="Steps between validations; 0 is never.")
    num_samples: Annotated[int, Field(ge=0)] = Field(
        1_000, description="Held-out sequences to validate on, spread evenly over the split; 0 is all."
    )


class CheckpointConfig(Section):
    """What is kept, and where a run goes on. The last step is always saved."""

    every: Annotated[int, Field(ge=0)] = Field(
        1_000, description="Steps between checkpoints; 0 is only the last."
    )
    keep_last: Annotated[int, Field(gt=0)] = Field(2, description="Newest complete checkpoints to keep.")
    keep_every: Annotated[int, Field(ge=0)] = Field(
        0, description="Keep those whose step is a multiple of this, too; 0 is none."
    )
    asynchronous: bool = Field(
        True,
        description="Copy the state to host memory, 12 bytes a parameter shared by the ranks, and write it "
        "while training goes on; false makes training wait, and needs no copy.",
    )
    save_before_s: Annotated[float, Field(ge=0)] = Field(
        120,
        description="Seconds before a SLURM job's time is up at which the run saves and stops; 0 is off.",
    )
    resume: str = Field(
        "auto",
        description="auto: the run's newest complete checkpoint, if any; never; or a checkpoint's path.",
    )


class LogConfig(Section):
    """What is written to metrics.jsonl, TensorBoard and the screen, and when a task is worth a warning."""

    every: Annotated[int, Field(gt=0)] = Field(10, description="Steps between lines.")
    collapse_weight: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.95, description="Share of the weight beyond which one task has nearly all of it."
    )
    collapse_steps: Annotated[int, Field(ge=0)] = Field(
        100, description="Steps in a row after which that is worth a warning; 0 is never."
    )
    absent_steps: Annotated[int, Field(ge=0)] = Field(
        1_000,
        description="Steps in a row without a task after which that is worth a warning; 0 is never.",
    )
    peak_tflops: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Peak of a rank's device in TFLOP/s, of which mfu in the log is a part; that of common "
        "GPUs is known, and where it is not, there is no mfu.",
    )
    wandb: bool = Field(
        False,
        description="Send the lines to Weights & Biases, too; it must be installed (pip install wandb).",
    )
    wandb_project: str | None = Field(
        None, description="Project there; if not given WANDB_PROJECT, or W&B's own default."
    )


class ProfileConfig(Section):
    """A look at what takes the time."""

    steps: tuple[Annotated[int, Field(ge=2)], int] | None = Field(
        None,
        description="First and last step, from 2 on, that torch.profiler watches on rank 0; the run's folder "
        "gets profile/ with a trace and a table of operations.",
    )

    @model_validator(mode="after")
    def _is_a_window(self) -> "ProfileConfig":
        if self.steps and self.steps[0] > self.steps[1]:
            raise ValueError(f"steps: the first, {self.steps[0]}, comes after the last, {self.steps[1]}")
        return self
