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


def step_s(speed: Speed, batch: BatchPlan, counts: PassCounts, tokens: float) -> float:
    """Seconds of a step: its rounds, one after the other. `tokens` is those of a micro-batch."""
    return batch.rounds * speed.micro_batch_s(counts, tokens, extra_forward=batch.extra_forward)


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
