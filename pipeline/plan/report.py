"""A plan on screen, in the order in which one asks, and as plain values."""

import math
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from pipeline.amounts import size, unit_of
from pipeline.facts import facts_table
from pipeline.plan.checkpoint import most_checkpoints
from pipeline.plan.memory import USABLE_MEMORY, usable_bytes
from pipeline.plan.network import Network
from pipeline.plan.run_plan import RunPlan
from pipeline.plan.tasks import scarcest
from pipeline.plan.traffic import Traffic


def print_plan(
    plan: RunPlan, console: Console, gpu_memory_gib: float | None, network: Network | None
) -> None:
    """Print all sections; given them, also which ZeRO stage fits, and how long messages take."""
    kind = "GPU" if plan.device == "gpu" else "CPU process"
    ranks = f"{plan.batch.world_size:,} {kind}{'es' if kind[0] == 'C' else 's'}"
    if plan.batch.world_size == 1:
        ranks = f"1 {kind}"
    console.print(f"[bold]{plan.config.name}[/] on {ranks}, {plan.config.precision}\n")
    _print_facts(console, "Model", _model_facts(plan))
    _print_facts(console, "Batch", _batch_facts(plan))
    _print_data(plan, console)
    _print_memory(plan, console, gpu_memory_gib)
    _print_traffic(plan, console, network)
    _print_facts(console, "Checkpoint", _checkpoint_facts(plan))
    _print_facts(console, "Time", _time_facts(plan))


def plan_to_dict(plan: RunPlan, network: Network | None = None) -> dict[str, Any]:
    """All figures as plain values, in bytes, seconds and FLOPs."""
    return {
        "name": plan.config.name,
        "precision": plan.config.precision,
        "device": plan.device,
        "model": {
            **asdict(plan.parameters),
            **asdict(plan.counts),
            "sequence_length": plan.case.sequence_length,
            "num_masked": plan.case.num_masked,
            "flops_per_token": plan.flops_per_token,
            "num_recomputed": plan.num_recomputed,
        },
        "batch": {
            **asdict(plan.batch),
            "rounds": plan.batch.rounds,
            "num_idle": plan.batch.num_idle,
            "tokens_per_step": plan.tokens_per_step,
        },
        "tasks": None if plan.tasks is None else [asdict(use) for use in plan.tasks],
        "scarcest_task": None if plan.tasks is None else scarcest(plan.tasks).name,
        "zero_stage": plan.stage,
        "memory": [{**asdict(memory), "peak": memory.peak} for memory in plan.memory.values()],
        "communication": [
            {
                "stage": stage,
                "sent_bytes": _sent_bytes(traffic),
                "communication_s": network.seconds(traffic) if network else None,
                "traffic": [{**asdict(kind), "sent_bytes": kind.sent_bytes} for kind in traffic],
            }
            for stage, traffic in plan.traffic.items()
        ],
        "communication_left_out": plan.left_out,
        "refused_stages": plan.refusals,
        "checkpoint": {**asdict(plan.checkpoint), "total": plan.checkpoint.total},
        "steps": plan.config.steps,
        "step_s": plan.duration.step_s if plan.duration else None,
        "run_s": plan.duration.run_s if plan.duration else None,
    }


def _model_facts(plan: RunPlan) -> dict[str, str]:
    num_all, num_trained = plan.parameters.num_all, plan.parameters.num_trained
    per_micro = f"{plan.batch.micro_size} × {plan.case.sequence_length}"
    facts = {
        "parameters": f"{num_all:,}"
        + ("" if num_trained == num_all else f", {num_trained:,} of them trained"),
        "per token": f"{_amount(plan.flops_per_token)}FLOPs of the model, forward and backward; "
        f"micro-batches of {per_micro} tokens, {plan.case.num_masked:,} of them masked",
        "per step": f"{_amount(plan.counts.flops * plan.batch.num_micro_batches)}FLOPs of the model",
    }
    if plan.num_recomputed:
        ratio = plan.counts.hardware_flops / plan.counts.flops
        hardware_flops = plan.counts.hardware_flops * plan.batch.num_micro_batches
        facts["recomputation"] = (
            f"{plan.num_recomputed} layers run again: {_amount(hardware_flops)}FLOPs of the hardware "
            f"per step, {ratio:.2f} × those of the model"
        )
    return facts


def _batch_facts(plan: RunPlan) -> dict[str, str]:
    batch = plan.batch
    idle = f"{batch.num_idle} of {batch.world_size} ranks idle in the last round"
    use = f"; {idle}: {batch.busy_share:.0%} of their time is used" if batch.num_idle else ""
    extra = ""
    if batch.extra_forward:
        extra = ", a forward pass more for each"
        extra += f" from step {batch.start_step:,} on" if batch.start_step else ""
    if batch.needs_gradients:
        extra = f", with the gradients of {len(plan.case.tasks)} tasks"
    return {
        "a step": f"{batch.global_size:,} sequences = {batch.num_micro_batches} micro-batches of "
        f"{batch.micro_size}, {_amount(plan.tokens_per_step)} tokens",
        "a rank": f"{batch.rounds} micro-batch{'es' if batch.rounds > 1 else ''} a step{use}",
        "task weights": f"{plan.config.objective.name}, estimator {batch.estimator}{extra}",
    }


def _print_data(plan: RunPlan, console: Console) -> None:
    if plan.tasks is None:
        facts = {
            "shards": f"none in {plan.config.data.path} yet, so no epochs; sequences are taken to be full",
            "the run": f"{plan.config.steps:,} steps, "
            f"{_amount(plan.tokens_per_step * plan.config.steps)} tokens",
        }
        _print_facts(console, "Data", facts)
        return
    table = _table("Data", "task", "sequences", "per step", "tokens of run", "epochs")
    for use in plan.tasks:
        row = (f"{use.num_sequences:,}", f"{use.sequences_per_step:,.1f}", _amount(use.tokens))
        table.add_row(use.name, *row, _epochs(use.epochs))
    console.print(table)
    rarest = scarcest(plan.tasks)
    total = _amount(sum(use.tokens for use in plan.tasks))
    run = f"{plan.config.steps:,} steps, {total} tokens."
    console.print(Padding(f"{run} Scarcest: {rarest.name}, {_epochs(rarest.epochs)} epochs.", (0, 0, 1, 1)))


def _print_memory(plan: RunPlan, console: Console, gpu_memory_gib: float | None) -> None:
    columns = ("ZeRO", "parameters", "optimizer", "gradients", "buffers", "activations", "peak")
    largest = max(memory.peak for memory in plan.memory.values())
    unit, name = unit_of(largest)
    table = _table(f"Memory per rank in {name}", *columns)
    for stage, memory in plan.memory.items():
        parts = (memory.parameters, memory.optimizer, memory.gradients, memory.buffers, memory.activations)
        chosen = stage == plan.stage
        cells = [f"{part / unit:,.2f}" for part in (*parts, memory.peak)]
        table.add_row(f"{stage}{' *' if chosen else ''}", *cells, style="bold" if chosen else None)
    console.print(table)
    remarks = [f"* the stage of {plan.config.deepspeed or 'the default DeepSpeed JSON'}."]
    remarks += [f"Stage {stage}: {reason}." for stage, reason in plan.refusals.items()]
    remarks.append("Parts are not all there at once; peak is the larger of backward pass and update.")
    if plan.device == "gpu":
        remarks.append("CUDA, NCCL and fragmentation come on top.")
    if plan.offloads:
        remarks.append("Offloading is left out: what the JSON moves to the host is counted here.")
    if gpu_memory_gib is not None:
        remarks.append(_recommendation(plan, gpu_memory_gib))
    for remark in remarks:
        console.print(Padding(remark, (0, 0, 0, 1)))
    console.print()


def _recommendation(plan: RunPlan, gpu_memory_gib: float) -> str:
    stage = plan.smallest_stage(usable_bytes(gpu_memory_gib))
    within = f"{USABLE_MEMORY:.0%} of {gpu_memory_gib:g} GiB"
    if stage is None:
        return f"[bold]No stage fits {within}:[/] lower batch.micro_size, or take more ranks."
    return f"[bold]Smallest stage that fits {within}: {stage}[/] (deepspeed=ds_configs/zero{stage}.json)."


def _print_traffic(plan: RunPlan, console: Console, network: Network | None) -> None:
    if plan.batch.world_size == 1:
        return
    columns = (
        "gradients",
        "parameters",
        "optimizer",
        "in all",
        "messages",
        *(["seconds"] if network else []),
    )
    largest = max(_sent_bytes(traffic) for traffic in plan.traffic.values())
    unit, name = unit_of(largest)
    table = _table(f"Sent per rank and step in {name}", "ZeRO", *columns)
    for stage, traffic in plan.traffic.items():
        of_gradients = _sent_bytes([kind for kind in traffic if kind.what == "gradients"])
        of_parameters = _sent_bytes([kind for kind in traffic if "parameters" in kind.what])
        of_optimizer = _sent_bytes([kind for kind in traffic if "optimizer" in kind.what])
        sent = (of_gradients, of_parameters, of_optimizer, _sent_bytes(traffic))
        cells = [f"{part / unit:,.2f}" for part in sent]
        cells.append(f"{sum(kind.num_messages for kind in traffic):,}")
        if network:
            cells.append(f"{network.seconds(traffic):,.3f}")
        chosen = stage == plan.stage
        table.add_row(f"{stage}{' *' if chosen else ''}", *cells, style="bold" if chosen else None)
    console.print(table)
    remarks = [f"Stage 3 without {what}." for what in plan.left_out if 3 in plan.traffic]
    if plan.offloads:
        remarks.append("What moves between a device and its host comes on top.")
    if network:
        taken = f"{network.gb_per_s:g} GB/s and {network.latency_s * 1e6:g} µs a hop"
        remarks.append(f"Seconds are at {taken}, with nothing computed meanwhile.")
    for remark in remarks:
        console.print(Padding(remark, (0, 0, 0, 1)))
    console.print()


def _sent_bytes(traffic: list[Traffic]) -> float:
    return sum(kind.sent_bytes for kind in traffic)


def _checkpoint_facts(plan: RunPlan) -> dict[str, str]:
    of_one, num_checkpoints = plan.checkpoint, most_checkpoints(plan.config.checkpoint, plan.config.steps)
    return {
        "a checkpoint": f"{size(of_one.total)}: fp32 model {size(of_one.model)}, "
        f"optimizer {size(of_one.state)} in {plan.batch.world_size:,} file"
        + ("s" if plan.batch.world_size > 1 else ""),
        "on disk": f"{size(num_checkpoints * of_one.total)} at most, in {num_checkpoints} checkpoint"
        + ("s" if num_checkpoints > 1 else ""),
    }


def _time_facts(plan: RunPlan) -> dict[str, str]:
    total_flops = plan.counts.flops * plan.batch.num_micro_batches * plan.config.steps
    facts = {"the run": f"{_amount(total_flops)}FLOPs of the model in {plan.config.steps:,} steps"}
    if plan.duration is None:
        facts["duration"] = "give --throughput, or --mfu and --peak-tflops"
        return facts
    step_s, run_s = plan.duration.step_s, plan.duration.run_s
    rank_hours = run_s / 3600 * plan.batch.world_size
    facts["a step"] = f"{step_s:.3g} s, {_amount(plan.tokens_per_step / step_s)} tokens/s in all"
    facts["duration"] = f"{_duration(run_s)}, {rank_hours:,.{0 if rank_hours > 10 else 1}f} rank hours"
    return facts


def _print_facts(console: Console, title: str, facts: dict[str, str]) -> None:
    console.print(facts_table(facts, title, name_width=15))
    console.print()


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(
        first,
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in others:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _epochs(number: float) -> str:
    return f"{number:.3g}" if number < 100 else f"{number:,.0f}"


def _amount(number: float) -> str:
    """Three digits and a prefix of a thousand: 1.23 G."""
    power = max(0, math.floor(math.log10(max(number, 1) * 1.0005) / 3))
    return f"{number / 1000**power:.3g} {' kMGTPEZ'[power]}".rstrip()


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
