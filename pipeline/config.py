"""The run file: every key, its type, default and meaning."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag_for_a_number(cls, value: Any, field: ValidationInfo) -> Any:
        """YAML reads on, yes and true as a flag, which would count as 1."""
        wanted = cls.model_fields[field.field_name or ""].annotation
        if isinstance(value, bool) and wanted in (int, float, int | None):
            raise ValueError("must be a number")
        return value


class DataConfig(_Section):
    """Where sequences come from, and how many of each task a step takes."""

    path: Path = Field(description="Folder of shards that data_prep wrote.")
    quota: Literal["uniform", "proportional"] | dict[str, Annotated[int, Field(ge=0)]] = Field(
        "uniform",
        description="Sequences per task in a global batch: alike for all (uniform), by the words to mask in "
        "the corpus (proportional), or a map from task to number that sums to batch.global_size.",
    )
    num_workers: Annotated[int, Field(ge=0)] = Field(
        1,
        description="Processes per rank that make micro-batches ahead, so that training need not wait for "
        "them; 0 makes them in the training process. The result is the same.",
    )


class MaskingConfig(_Section):
    """How training sequences are masked. Evaluation never depends on it."""

    policy: Literal["group", "random"] = Field(
        "group",
        description="group masks only words of the sequence's task group; random masks any word, and its "
        "loss goes to its own task.",
    )
    rate: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.15,
        description="Part of a sequence's tokens to mask, by whole words, at most half of the eligible ones.",
    )
    corruption: tuple[Share, Share, Share] = Field(
        (0.8, 0.1, 0.1), description="Parts of the masked pieces that become [MASK], a random piece, or stay."
    )

    @model_validator(mode="after")
    def _sums_to_one(self) -> "MaskingConfig":
        if abs(sum(self.corruption) - 1) > 1e-6:
            raise ValueError(f"corruption must sum to 1, not {sum(self.corruption):g}")
        return self


class ModelConfig(_Section):
    """The encoder. Dimensions that are not given come from `size`, or from the folder `init_from`."""

    backbone: Literal["bert", "modernbert"] = Field("bert", description="Architecture.")
    init_from: Path | None = Field(
        None,
        description="Hugging Face folder of such a model, to go on from its weights. Its config.json decides "
        "the architecture, so dimensions need not be given; the shards must be made with its tokenizer.",
    )
    size: Literal["tiny", "mini", "small", "medium", "base", "large", "1.3b"] | None = Field(
        None,
        description="Named dimensions of the backbone (tiny: 2 layers of 128; large of bert: 24 of 1,024, of "
        "modernbert: 28 of 1,024; 1.3b, of bert alone: 24 of 2,048); base if not given.",
    )
    num_layers: Annotated[int, Field(gt=0)] | None = Field(None, description="Transformer layers.")
    hidden_size: Annotated[int, Field(gt=0)] | None = Field(None, description="Width.")
    num_heads: Annotated[int, Field(gt=0)] | None = Field(None, description="Attention heads.")
    intermediate_size: Annotated[int, Field(gt=0)] | None = Field(None, description="Feed-forward width.")
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="Dropout of activations and attention; if not given 0.1 of bert, 0 of modernbert."
    )
    unpad: bool | None = Field(
        None,
        description="Compute on pieces alone, and not on padding; modernbert only, where it is so without "
        "dropout if not given.",
    )
    vocab_size: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Rows of the embedding; the size of the shards' tokenizer if not given."
    )

    @field_validator("size")
    @classmethod
    def _is_base_unless_a_folder_decides(cls, size: str | None, earlier: ValidationInfo) -> str | None:
        return size if size or earlier.data.get("init_from") else "base"


class ObjectiveConfig(_Section):
    """The rule that turns task losses into coefficients."""

    name: Literal["average", "minimax"] = Field(
        "minimax", description="average: all tasks alike; minimax: softmax(α L), detached (equation 7)."
    )
    alpha: Annotated[float, Field(ge=0)] = Field(1.0, description="α of minimax.")
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


class BatchConfig(_Section):
    """Sizes that fix the result. They do not depend on the number of ranks."""

    global_size: Annotated[int, Field(gt=0)] = Field(256, description="Sequences per step, over all ranks.")
    micro_size: Annotated[int, Field(gt=0)] = Field(
        32, description="Sequences per forward pass; must divide batch.global_size."
    )

    @model_validator(mode="after")
    def _divides(self) -> "BatchConfig":
        if self.global_size % self.micro_size:
            raise ValueError(f"micro_size {self.micro_size} does not divide global_size {self.global_size}")
        return self

    @property
    def num_micro_batches(self) -> int:
        """Micro-batches per step, over all ranks."""
        return self.global_size // self.micro_size


class OptimizerConfig(_Section):
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
    def _is_implemented(self) -> "OptimizerConfig":
        if self.implementation != "torch" and self.name != "adamw":
            raise ValueError(
                f"implementation {self.implementation} is one of adamw, not of {self.name}; leave it out"
            )
        return self


class ScheduleConfig(_Section):
    """The learning rate over the steps."""

    name: Literal["constant", "linear", "cosine", "warmup_stable_decay"] = Field(
        "linear",
        description="Shape after the warm-up. linear and cosine fall from there to the end, "
        "warmup_stable_decay stays at the peak and falls in the last schedule.decay_steps.",
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
        if self.name != "warmup_stable_decay" and self.decay_steps is not None:
            raise ValueError(
                f"decay_steps is for warmup_stable_decay, not for {self.name}; leave it out, or change name"
            )
        return self


class ValidateConfig(_Section):
    """Held-out evaluation while training, on the validation split."""

    every: Annotated[int, Field(ge=0)] = Field(1_000, description="Steps between validations; 0 is never.")
    num_samples: Annotated[int, Field(ge=0)] = Field(
        1_000, description="Held-out sequences to validate on, spread evenly over the split; 0 is all."
    )


class CheckpointConfig(_Section):
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


class LogConfig(_Section):
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


class ProfileConfig(_Section):
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


class RunConfig(_Section):
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
    def _warms_up_to_the_peak(self) -> "RunConfig":
        if self.schedule.warmup_steps > self.steps:
            raise ValueError(
                f"schedule.warmup_steps is {self.schedule.warmup_steps}, steps is {self.steps}: the learning "
                "rate would never reach its peak; lower the one or raise the other"
            )
        if self.schedule.warmup_steps + (self.schedule.decay_steps or 0) > self.steps:
            raise ValueError(
                f"schedule.warmup_steps {self.schedule.warmup_steps} and schedule.decay_steps "
                f"{self.schedule.decay_steps} are more than steps, {self.steps}; lower one of them"
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

    def to_dict(self) -> dict[str, Any]:
        """The resolved configuration as plain values, as in a run file."""
        return self.model_dump(mode="json", by_alias=True)

    def to_yaml(self) -> str:
        """The resolved configuration as a run file."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)
