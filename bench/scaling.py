"""How a run scales to thousands of GPUs, computed: what a step sends at each ZeRO stage, how long runs take.

    python bench/scaling.py large --sequence-length 128
    python bench/scaling.py 1.3b optimizer.name=muon --sequence-length 512 --bandwidth 25 --mfu 0.35

The batch is the run file's, or a micro-batch per rank where that is more. What is assumed, the options,
stands above the tables. Nothing is measured here but the model's operations, which are counted.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table
from tables import CONSOLE, print_whole

from pipeline.config import RunConfig
from pipeline.engine import workarounds
from pipeline.plan.batch import plan_batch
from pipeline.plan.checkpoint import planned_optimizer
from pipeline.plan.communication import CommunicationCase, step_traffic
from pipeline.plan.duration import Utilisation
from pipeline.plan.layout import layout_of
from pipeline.plan.network import Network
from pipeline.plan.simulation import PassCounts, count_flops, without_data
from pipeline.run_file import load_config

app = typer.Typer(add_completion=False, help=__doc__, rich_markup_mode="rich")

_CONFIGS = Path(__file__).parents[1] / "configs"
_RANKS = (8, 64, 512, 4_096)
_RUNS = (10**9, 10**10, 10**11, 10**12)
_DAY_S = 86_400


@app.command()
def step(
    model: Annotated[str, typer.Argument(help="Of configs/bert-MODEL.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE")] = None,
    sequence_length: int = 128,
    bandwidth: Annotated[float, typer.Option(help="Bus bandwidth per rank in GB/s.")] = 50,
    latency: Annotated[float, typer.Option(help="Microseconds a hop.")] = 10,
    peak_tflops: float = 989,
    mfu: float = 0.4,
) -> None:
    """Print both tables for a shipped run file."""
    workarounds.before_import()
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    from pipeline.plan.text_case import planned_case

    config = load_config(_CONFIGS / f"bert-{model}.yaml", ["data.path=none", *(overrides or [])])
    planned = planned_case(config, sequence_length)
    forward_flops, flops = count_flops(planned.make, torch.bfloat16)
    counts = PassCounts(forward_flops, flops, flops, 0, 0)
    with without_data(torch.bfloat16):
        task_model, inputs = planned.make(False)
        optimizer = planned_optimizer(task_model, config.optimizer, task_model.hidden_matrices())
        layout = layout_of(task_model, inputs, optimizer)
    CONSOLE.print(
        f"bert-{model}, {config.optimizer.name}, {sum(layout.sizes):,} parameters, bf16, "
        f"sequences of {sequence_length}. Assumed: "
        f"{bandwidth:g} GB/s a rank, {latency:g} µs a hop, {mfu:.0%} of {peak_tflops:g} TFLOP/s."
    )
    network, speed = Network(bandwidth, latency / 1e6), Utilisation(mfu, peak_tflops)
    traffic = Table("GPUs", "sequences a step", "rounds", *_headings())
    for name in ("compute s", "task losses ms"):
        traffic.add_column(name, justify="right")
    speeds = Table("GPUs", "ZeRO", "tokens/s", *(f"days for 10^{len(str(run)) - 1}" for run in _RUNS))
    for ranks in _RANKS:
        batch = plan_batch(_with_ranks(config, ranks), ranks)
        cases = {
            stage: step_traffic(
                CommunicationCase(layout, batch, 2, 2, DeepSpeedZeroConfig(stage=stage)), stage
            )
            for stage in (1, 2, 3)
        }
        tokens = batch.global_size * sequence_length
        compute_s = batch.rounds * speed.micro_batch_s(counts, 0, extra_forward=batch.extra_forward)
        sent = [f"{sum(kind.sent_bytes for kind in kinds) / 1e9:.2f}" for kinds in cases.values()]
        taken_s = {stage: network.seconds(kinds) for stage, kinds in cases.items()}
        of_tasks = network.seconds([kind for kind in cases[1] if kind.what == "task losses"])
        traffic.add_row(
            f"{ranks:,}",
            f"{batch.global_size:,}",
            str(batch.rounds),
            *sent,
            *(f"{seconds:.3f}" for seconds in taken_s.values()),
            f"{compute_s:.3f}",
            f"{1e3 * of_tasks:.2f}",
        )
        for stage in (1, 3):
            # Stages 1 and 2 send after the backward pass; stage 3 at best all of it beside the computation.
            step_s = compute_s + taken_s[1] if stage == 1 else max(compute_s, taken_s[3])
            days = (f"{run / tokens * step_s / _DAY_S:.2g}" for run in _RUNS)
            speeds.add_row(f"{ranks:,}", str(stage), f"{tokens / step_s:,.0f}", *days)
    print_whole(traffic)
    print_whole(speeds)


def _headings() -> list[str]:
    return [f"{what}, stage {stage}" for what in ("GB sent", "seconds") for stage in (1, 2, 3)]


def _with_ranks(config: RunConfig, ranks: int) -> RunConfig:
    """The run file's batch, or a micro-batch a rank."""
    global_size = max(config.batch.global_size, ranks * config.batch.micro_size)
    batch = config.batch.model_copy(update={"global_size": global_size})
    return config.model_copy(update={"batch": batch})


if __name__ == "__main__":
    app()
