"""Which sequences a step is made of, and how they are masked."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.section import Section

Share = Annotated[float, Field(ge=0, le=1)]


class DataConfig(Section):
    """Where sequences come from, how many of each task a step takes, and what the tasks of training are."""

    path: Path = Field(description="Folder of shards that data_prep wrote.")
    quota: Literal["uniform", "proportional"] | dict[str, Annotated[int, Field(ge=0)]] = Field(
        "uniform",
        description="Sequences per task in a global batch: alike for all (uniform), by the words to mask in "
        "the corpus (proportional), or a map from task to number that sums to batch.global_size.",
    )
    tasks: Path | None = Field(
        None,
        description="File, made by pipeline tasks, that says which task a masked piece belongs to in "
        "training; the shards' own tasks if not given. Needs masking.policy random. The section objective "
        "then speaks of these tasks; data.quota, validation and evaluation stay with the shards'.",
    )
    tasks_sha256: str | None = Field(
        None,
        description="SHA-256 of the file data.tasks, written down when a run first starts: the run goes on "
        "with the same tasks alone, wherever the file lies.",
    )
    num_workers: Annotated[int, Field(ge=0)] = Field(
        1,
        description="Processes per rank that make micro-batches ahead, so that training need not wait for "
        "them; 0 makes them in the training process. The result is the same.",
    )

    @model_validator(mode="after")
    def _has_the_file_of_its_hash(self) -> "DataConfig":
        if self.tasks_sha256 is not None and self.tasks is None:
            raise ValueError("tasks_sha256 is the hash of the file tasks; name that, or leave both out")
        return self


class MaskingConfig(Section):
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


class BatchConfig(Section):
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
