"""How long a run takes, from a measured speed or from a share of the peak."""

from dataclasses import dataclass

from data_prep.errors import UserError
from pipeline.plan.batch import BatchPlan
from pipeline.plan.simulation import PassCounts

_TERA = 1e12


@dataclass(frozen=True)
class Throughput:
    """Tokens per second and rank, while the rank has a micro-batch."""

    tokens_per_s: float

    def micro_batch_s(self, counts: PassCounts, tokens: float, *, extra_forward: bool) -> float:
        """Seconds of a micro-batch; what was measured holds its extra forward pass already."""
        return tokens / self.tokens_per_s


@dataclass(frozen=True)
class Utilisation:
    """The part `mfu` of a device's `peak_tflops` that training reaches, in layers that run again too."""

    mfu: float
    peak_tflops: float

    def micro_batch_s(self, counts: PassCounts, tokens: float, *, extra_forward: bool) -> float:
        """Seconds of a micro-batch, padded to full length."""
        flops = counts.hardware_flops + (counts.forward_flops if extra_forward else 0)
        return flops / (self.mfu * self.peak_tflops * _TERA)


Speed = Throughput | Utilisation


@dataclass(frozen=True)
class Duration:
    """Seconds of a step after the warm start, and of all steps."""

    step_s: float
    run_s: float


def duration(speed: Speed, batch: BatchPlan, counts: PassCounts, tokens: float, num_steps: int) -> Duration:
    """How long steps take: the rounds of each, one after the other. `tokens` is those of a micro-batch."""
    usual_s, longer_s = (
        batch.rounds * speed.micro_batch_s(counts, tokens, extra_forward=extra) for extra in (False, True)
    )
    num_longer = batch.num_extra_forward(0, num_steps)
    return Duration(
        step_s=longer_s if batch.extra_forward else usual_s,
        run_s=(num_steps - num_longer) * usual_s + num_longer * longer_s,
    )


def speed_of(throughput: float | None, mfu: float | None, peak_tflops: float | None) -> Speed | None:
    """The speed that a command line gives; None if it gives none.

    Raises:
        UserError: half of what is needed, two speeds, or none that moves.
    """
    if (mfu is None) != (peak_tflops is None):
        raise UserError("--mfu and --peak-tflops belong together; give both, or --throughput")
    if throughput is not None and mfu is not None:
        raise UserError("--throughput and --mfu both give a speed; leave one out")
    if 0 in (throughput, mfu, peak_tflops):
        raise UserError("--throughput, --mfu, --peak-tflops: a speed is larger than 0")
    if throughput is not None:
        return Throughput(throughput)
    return Utilisation(mfu, peak_tflops) if mfu is not None and peak_tflops is not None else None
