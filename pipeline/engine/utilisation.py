"""How much of a device training uses: model FLOPs per second, and their part of the device's peak."""

import torch

from pipeline.config import RunConfig
from pipeline.engine.launch import Place

_TERA = 1e12


def _peaks(fp32: float, bf16: float) -> dict[str, float]:
    """By precision, where both 16-bit types are as fast."""
    return {"fp32": fp32, "bf16": bf16, "fp16": bf16}


_PEAK_TFLOPS: dict[str, dict[str, float]] = {
    "GB200": _peaks(80.0, 2500.0),
    "B200": _peaks(80.0, 2250.0),
    "GH200": _peaks(67.0, 989.0),
    "H200 NVL": _peaks(60.0, 835.0),
    "H200": _peaks(67.0, 989.0),
    "H100 PCIe": _peaks(51.0, 756.0),
    "H100 NVL": _peaks(60.0, 835.0),
    "H100": _peaks(67.0, 989.0),
    "A100": _peaks(19.5, 312.0),
    "L40S": _peaks(91.6, 362.0),
    "MI300X": _peaks(163.4, 1307.4),
    "MI250X": _peaks(23.95, 191.5),  # one of its two dies, which is what torch calls a device
    "V100-PCIE": {"fp32": 14.0, "fp16": 112.0},
    "V100": {"fp32": 15.7, "fp16": 125.0},
}
"""Part of the device's name, of which the first that fits counts → dense peak by precision, from the makers'
data sheets. fp32 is without TF32, which torch leaves off by default."""


def known_peak_tflops(device_name: str, precision: str) -> float | None:
    """The peak of a GPU by torch's name of it, in `precision`; None if it is not known."""
    peaks = next((peaks for part, peaks in _PEAK_TFLOPS.items() if part in device_name), {})
    return peaks.get(precision)


class Utilisation:
    """Turns tokens per second into model FLOPs per second and rank.

    Model FLOPs are those that the mathematics of a step asks for (Chowdhery et al. 2022, appendix B):
    padding, activations that are computed again and the forward pass of estimator two_pass do not count.

    Args:
        flops_per_token: of a forward and backward pass.
        world_size: ranks that share the tokens.
        peak_tflops: of a rank's device; None where it is not known.
    """

    def __init__(self, flops_per_token: float, world_size: int, peak_tflops: float | None) -> None:
        self._tflops_per_token = flops_per_token / world_size / _TERA
        self._peak_tflops = peak_tflops

    @classmethod
    def of(cls, config: RunConfig, flops_per_token: float | None, place: Place) -> "Utilisation | None":
        """That of a run, with the peak of its run file or of the GPU; None where FLOPs are not counted."""
        if flops_per_token is None:
            return None
        peak_tflops = config.log.peak_tflops
        if peak_tflops is None and place.device.type == "cuda":
            peak_tflops = known_peak_tflops(torch.cuda.get_device_name(place.device), config.precision)
        return cls(flops_per_token, place.world_size, peak_tflops)

    def record(self, tokens_per_s: float) -> dict[str, float]:
        """`tflops_per_s` of a rank and, where the peak is known, `mfu`, for a line of metrics."""
        tflops_per_s = tokens_per_s * self._tflops_per_token
        figures = {"tflops_per_s": tflops_per_s}
        if self._peak_tflops is not None:
            figures["mfu"] = tflops_per_s / self._peak_tflops
        return figures
