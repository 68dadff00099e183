"""What a run file means on so many ranks, worked out without data, GPU or training."""

from dataclasses import dataclass
from typing import Any

import torch

from data_prep.errors import UserError
from pipeline.config import RunConfig
from pipeline.engine.activation_checkpointing import SECTION, checkpoint_layers, num_checkpointed
from pipeline.engine.ds_config import complete_ds_config, zero_stage
from pipeline.engine.refusals import refusal_of_settings
from pipeline.plan.batch import BatchPlan, plan_batch
from pipeline.plan.checkpoint import CheckpointSize, checkpoint_size, count_moments, planned_optimizer
from pipeline.plan.communication import CommunicationCase, left_out, step_traffic
from pipeline.plan.duration import Duration, Speed, duration
from pipeline.plan.layout import layout_of
from pipeline.plan.memory import MemoryCase, StageMemory, stage_memory
from pipeline.plan.simulation import (
    Device,
    MakeCase,
    ParameterCounts,
    PassCounts,
    count_parameters,
    count_pass,
    without_data,
)
from pipeline.plan.tasks import TaskGroup, TaskUse, task_uses
from pipeline.plan.traffic import Traffic

STAGES = (0, 1, 2, 3)
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class PlannedCase:
    """What data and model are, as far as a plan needs to know.

    `groups` is None where there are no shards yet; `num_masked` is the number of predictions in a
    micro-batch, `tokens_per_sequence` the mean without padding.
    """

    sequence_length: int
    tokens_per_sequence: float
    num_masked: int
    groups: list[TaskGroup] | None
    tasks: tuple[int, ...]
    """The loss terms that the objective weighs."""
    make: MakeCase


@dataclass(frozen=True)
class RunPlan:
    """All figures of a plan. Memory is per rank; stages that the run would refuse are left out."""

    config: RunConfig
    device: Device
    case: PlannedCase
    parameters: ParameterCounts
    batch: BatchPlan
    counts: PassCounts
    tasks: list[TaskUse] | None
    stage: int
    """Of the DeepSpeed JSON."""
    memory: dict[int, StageMemory]
    traffic: dict[int, list[Traffic]]
    """What a rank sends in a step, by stage."""
    left_out: list[str]
    """What stage 3's traffic does not follow, though the JSON asks for it."""
    refusals: dict[int, str]
    checkpoint: CheckpointSize
    duration: Duration | None
    """None where no speed is given."""
    offloads: bool
    """Whether the JSON moves something to the host, which the figures leave out."""
    num_recomputed: int
    """Layers that run again in the backward pass."""

    @property
    def tokens_per_step(self) -> float:
        """Without padding."""
        return self.batch.global_size * self.case.tokens_per_sequence

    @property
    def flops_per_token(self) -> float:
        """Of forward and backward pass, in full sequences."""
        return self.counts.flops / (self.batch.micro_size * self.case.sequence_length)

    def smallest_stage(self, capacity_bytes: float) -> int | None:
        """The first ZeRO stage whose peak is within a capacity; None if none is."""
        fitting = (stage for stage, memory in self.memory.items() if memory.peak <= capacity_bytes)
        return next(fitting, None)


def plan_run(
    config: RunConfig,
    ds_settings: dict[str, Any],
    case: PlannedCase,
    world_size: int,
    device: Device,
    speed: Speed | None,
) -> RunPlan:
    """Plan a run.

    Raises:
        UserError: the run file and the DeepSpeed JSON contradict each other, or go together at no stage.
    """
    complete_ds_config(ds_settings, config, world_size)
    refusals = _refusals(config, ds_settings, world_size, device)
    dtype = _TYPES[config.precision]
    with without_data(dtype):
        model, inputs = case.make(False)
        parameters = count_parameters(model.network)
        num_recomputed = num_checkpointed(model.layers(), ds_settings, config.deepspeed)
        checkpoint_layers(model.layers(), ds_settings)
        shared_weight = model.shared_layer().weight.numel()
        layout = layout_of(model, inputs, planned_optimizer(model, config.optimizer, model.hidden_matrices()))
    prepare = (lambda model: checkpoint_layers(model.layers(), ds_settings)) if num_recomputed else None
    batch = plan_batch(config, world_size)
    gradients_of = case.tasks if batch.needs_gradients else ()
    counts = count_pass(case.make, dtype, device, prepare, gradients_of)
    num_moments = count_moments(model, config.optimizer)
    section = ds_settings.get("zero_optimization", {})
    accumulated = ds_settings.get("data_types", {}).get("grad_accum_dtype", config.precision)

    def memory(stage: int) -> StageMemory:
        memory_case = MemoryCase(
            parameters=parameters,
            counts=counts,
            weight_bytes=dtype.itemsize,
            gradient_bytes=_TYPES[accumulated].itemsize,
            num_moments=num_moments,
            world_size=world_size,
            accumulates=batch.rounds > 1,
            device=device,
            zero=_zero_config(section, stage),
        )
        return stage_memory(memory_case, stage)

    def traffic(stage: int) -> list[Traffic]:
        communication_case = CommunicationCase(
            layout=layout,
            batch=batch,
            weight_bytes=dtype.itemsize,
            reduced_bytes=_TYPES[ds_settings.get("communication_data_type", config.precision)].itemsize,
            zero=_zero_config(section, stage),
            task_gradients=len(gradients_of) * shared_weight,
        )
        return step_traffic(communication_case, stage)

    tokens_per_micro_batch = config.batch.micro_size * case.tokens_per_sequence
    return RunPlan(
        config=config,
        device=device,
        case=case,
        parameters=parameters,
        batch=batch,
        counts=counts,
        tasks=task_uses(case.groups, config.batch.global_size, config.steps) if case.groups else None,
        stage=zero_stage(ds_settings),
        memory={stage: memory(stage) for stage in STAGES if stage not in refusals},
        traffic={stage: traffic(stage) for stage in STAGES if stage not in refusals},
        left_out=left_out(section),
        refusals=refusals,
        checkpoint=checkpoint_size(parameters, num_moments),
        duration=duration(speed, batch, counts, tokens_per_micro_batch, config.steps) if speed else None,
        offloads=any(f"offload_{part}" in section for part in ("optimizer", "param"))
        or bool(ds_settings.get(SECTION, {}).get("cpu_checkpointing")),
        num_recomputed=num_recomputed,
    )


def _refusals(
    config: RunConfig, ds_settings: dict[str, Any], world_size: int, device: Device
) -> dict[int, str]:
    """Why the run cannot start, by stage at which it cannot; raises UserError where there is no other."""
    torch_device = torch.device("cuda" if device == "gpu" else "cpu")
    section = ds_settings.get("zero_optimization", {})
    refusals = {}
    for stage in STAGES:
        settings = {**ds_settings, "zero_optimization": {**section, "stage": stage}}
        if reason := refusal_of_settings(settings, config, world_size, torch_device):
            refusals[stage] = reason
    if len(refusals) == len(STAGES):
        reason = refusals[zero_stage(ds_settings)]
        raise UserError(f"{config.deepspeed}: {reason}" if config.deepspeed else reason)
    return refusals


def _zero_config(section: dict[str, Any], stage: int) -> Any:
    """The section of the DeepSpeed JSON with DeepSpeed's defaults, as if its stage were `stage`."""
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    given = {key: value for key, value in section.items() if value != "auto"}
    return DeepSpeedZeroConfig(**{**given, "stage": stage})
