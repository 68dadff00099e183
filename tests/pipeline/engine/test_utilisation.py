"""FLOPs per second: a rank's share of the tokens, as a part of its device's peak."""

import pytest

from pipeline.engine.utilisation import Utilisation, known_peak_tflops


def test_ranks_share_the_tokens():
    record = Utilisation(flops_per_token=6e9, world_size=4, peak_tflops=None).record(tokens_per_s=2_000)
    assert record == {"tflops_per_s": pytest.approx(3.0)}


def test_mfu_is_the_part_of_the_peak():
    record = Utilisation(flops_per_token=6e9, world_size=1, peak_tflops=300).record(tokens_per_s=20_000)
    assert record["mfu"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("name", "precision", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", "bf16", 312.0),
        ("NVIDIA H100 80GB HBM3", "bf16", 989.0),
        ("NVIDIA H100 PCIe", "fp16", 756.0),
        ("NVIDIA GH200 480GB", "bf16", 989.0),
        ("NVIDIA H200 NVL", "bf16", 835.0),
        ("NVIDIA GB200", "bf16", 2500.0),
        ("Tesla V100-PCIE-16GB", "fp16", 112.0),
        ("Tesla V100-SXM2-32GB", "fp16", 125.0),
        ("Tesla V100-SXM2-32GB", "bf16", None),
        ("NVIDIA GeForce RTX 4090", "bf16", None),
    ],
)
def test_peaks_go_by_the_name_that_torch_gives_a_gpu(name, precision, peak):
    assert known_peak_tflops(name, precision) == peak
