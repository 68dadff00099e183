"""The run file as a whole, and what its sections must agree on."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from pipeline.config.data import BatchConfig, DataConfig, MaskingConfig
from pipeline.config.model import ModelConfig
from pipeline.config.objective import ObjectiveConfig
from pipeline.config.operation import CheckpointConfig, LogConfig, ProfileConfig, ValidateConfig
from pipeline.config.optimization import OptimizerConfig, ScheduleConfig
from pipeline.config.section import Section


class RunConfig(Section):
    """A run file."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")] = Field(
        description="Folder of the run below out_dir."
    )
    out_dir: Path = Field(Path("runs"), description="Folder of all runs.")
    seed: Annotated[int, Field(ge=0)] = Field(
        0, description="Decides initialisation, data order, masks, dropout."
    )
    steps: Annotated[int, Field(gt=0)] = Field(description="Optimizer steps.")
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="Type of the working weights.")
    compile: bool = Field(
        False,
        description="Compile the layers with torch.compile as they first run, which takes a compiler; ZeRO "
        "stages 0 to 2. The same dropout, other rounding.",
    )
    deepspeed: Path | None = Field(
        None,
        description="DeepSpeed JSON (ZeRO, offload, communication, activation checkpointing); if not given "
        "ZeRO stage 1, and stage 0 for one rank in fp32, which has nothing to divide.",
    )
    timeout_s: Annotated[float, Field(gt=0)] = Field(
        600, description="Seconds for which a rank waits for another; then the job ends, and names it."
    )
    on_nonfinite: Literal["stop", "skip", "rollback"] = Field(
        "stop",
        description="What to do with a step whose loss or gradient is not a finite number, or whose loss is "
        "a spike. Its update is never made. stop ends the run; skip goes on with the next step; rollback "
        "goes back to the newest checkpoint and on with the data after the step.",
    )
    spike_factor: Annotated[float, Field(gt=1)] | None = Field(
        None,
        description="A step is a spike where its average loss is more than so many times its moving "
        "average; none is off.",
    )
    data: DataConfig
    masking: MaskingConfig = MaskingConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    batch: BatchConfig = BatchConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    validation: ValidateConfig = Field(ValidateConfig(), alias="validate")
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    profile: ProfileConfig = ProfileConfig()

    @model_validator(mode="after")
    def _quota_fills_the_batch(self) -> "RunConfig":
        if isinstance(self.data.quota, dict) and sum(self.data.quota.values()) != self.batch.global_size:
            total = sum(self.data.quota.values())
            raise ValueError(f"data.quota sums to {total}, batch.global_size is {self.batch.global_size}")
        return self

    @model_validator(mode="after")
    def _masks_words_of_all_tasks(self) -> "RunConfig":
        if self.data.tasks is not None and self.masking.policy != "random":
            raise ValueError(
                f"data.tasks is for masking.policy random, not for {self.masking.policy}, which masks "
                "words of a sequence's task group; leave data.tasks out, or set masking.policy=random"
            )
        return self

    @model_validator(mode="after")
    def _warms_up_to_the_peak(self) -> "RunConfig":
        key, steps = "steps", self.steps
        if self.schedule.total_steps is not None:
            key, steps = "schedule.total_steps", self.schedule.total_steps
            if steps < self.steps:
                raise ValueError(
                    f"schedule.total_steps is {steps}, steps is {self.steps}: the last steps would have no "
                    "learning rate; leave schedule.total_steps out, or raise it"
                )
        if self.schedule.warmup_steps > steps:
            raise ValueError(
                f"schedule.warmup_steps is {self.schedule.warmup_steps}, {key} is {steps}: the learning "
                "rate would never reach its peak; lower the one or raise the other"
            )
        if self.schedule.warmup_steps + (self.schedule.decay_steps or 0) > steps:
            raise ValueError(
                f"schedule.warmup_steps {self.schedule.warmup_steps} and schedule.decay_steps "
                f"{self.schedule.decay_steps} are more than {key}, {steps}; lower one of them"
            )
        return self

    @model_validator(mode="after")
    def _has_steps_for_its_objective(self) -> "RunConfig":
        if self.objective.start_step >= self.steps:
            raise ValueError(
                f"objective.start_step is {self.objective.start_step}, steps is {self.steps}: "
                f"{self.objective.name} would never begin; lower the one or raise the other"
            )
        return self

    @model_validator(mode="after")
    def _profiles_steps_that_it_takes(self) -> "RunConfig":
        if self.profile.steps and self.profile.steps[1] > self.steps:
            raise ValueError(f"profile.steps ends at {self.profile.steps[1]}, steps is {self.steps}")
        return self

    @property
    def run_dir(self) -> Path:
        """The folder of this run."""
        return self.out_dir / self.name

    @property
    def num_planned_steps(self) -> int:
        """Steps that the schedules of learning rate and α are made for."""
        return self.schedule.total_steps or self.steps

    def to_dict(self) -> dict[str, Any]:
        """The resolved configuration as plain values, as in a run file."""
        return self.model_dump(mode="json", by_alias=True)

    def to_yaml(self) -> str:
        """The resolved configuration as a run file."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)
