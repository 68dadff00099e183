"""The figures of a step as plain numbers: losses, weights, how evenly the weights are spread, memory."""

import math
from collections.abc import Iterable
from typing import Any

import psutil
import torch
from torch.optim import Optimizer

from pipeline.data.interface import LossTerms
from pipeline.engine.estimator import CoefficientRule
from pipeline.engine.step import StepResult


def training_record(result: StepResult, terms: LossTerms) -> dict[str, Any]:
    """The losses, weights and counts of a step, for a line of metrics.

    An absent task has no loss, not loss 0. What is not a finite number is None, and the worst task is the
    first without a finite loss then.
    """
    counts = result.counts
    gradient_norms = {}
    if result.gradient_norms is not None:
        norms = zip(terms.tasks, result.gradient_norms.tolist(), strict=True)
        gradient_norms["task_gradient_norm"] = {name: _number(norm) for name, norm in norms if norm != 0}
    losses = result.sums / counts.clamp(min=1)
    weights = result.coefficients
    on_host = torch.stack([losses, weights, counts.to(losses.dtype)]).cpu()
    loss, weight, count = (dict(zip(terms.names, row.tolist(), strict=True)) for row in on_host)
    present = {name: loss[name] for name in terms.names if count[name] > 0}
    tasks = {name: present[name] for name in terms.tasks if name in present}
    worst = max(tasks, key=lambda name: _infinite_unless_finite(tasks[name]), default=None)
    entropy = weight_entropy(weight[name] for name in tasks)
    return {
        "loss": _number(sum(weight[name] * present[name] for name in present)),
        "average_loss": _number(sum(tasks.values()) / len(tasks)) if tasks else None,
        "worst_task": worst,
        "worst_loss": _number(tasks[worst]) if worst is not None else None,
        "weight_entropy": entropy,
        "num_effective_tasks": None if entropy is None else math.exp(entropy),
        "grad_norm": _number(float(result.grad_norm)),
        "task_loss": {name: _number(value) for name, value in present.items()},
        "task_weight": {name: _number(value) for name, value in weight.items()},
        "task_count": {name: int(value) for name, value in count.items()},
        **gradient_norms,
    }


def estimator_record(rule: CoefficientRule, terms: LossTerms) -> dict[str, dict[str, float]]:
    """How many labels the losses behind the next weights rest on, for a line of metrics; ema only."""
    counts = rule.effective_counts
    return (
        {}
        if counts is None
        else {"task_effective_count": dict(zip(terms.tasks, counts.tolist(), strict=True))}
    )


def weight_entropy(weights: Iterable[float]) -> float | None:
    """H = −Σ w ln w in nats of the weights brought to sum 1; exp(H) is the effective number of tasks.

    None where there is no weight, or one is not a finite number.
    """
    weights = list(weights)
    total = sum(weights)
    if not (math.isfinite(total) and total > 0):
        return None
    return -sum(weight / total * math.log(weight / total) for weight in weights if weight > 0) + 0.0


def learning_rates(optimizer: Optimizer) -> dict[str, float]:
    """Those of the next update, for a line of metrics: `lr`, and `muon_lr` where muon takes matrices."""
    return {"muon_lr" if group.get("is_hidden") else "lr": group["lr"] for group in optimizer.param_groups}


def memory_record(device: torch.device) -> dict[str, int]:
    """Memory of this rank, for a line of metrics.

    `host_memory_bytes` is the resident set now; on a GPU `device_memory_bytes` is the most that tensors took
    since the last call.
    """
    record = {"host_memory_bytes": psutil.Process().memory_info().rss}
    if device.type == "cuda":
        record["device_memory_bytes"] = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
    return record


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _infinite_unless_finite(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf
