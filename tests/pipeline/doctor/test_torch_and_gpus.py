"""torch on too few cores; GPUs that torch cannot use; the kernels on their small input."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from pipeline.doctor import gpu
from pipeline.doctor.finding import Check, State
from pipeline.doctor.isolation import examine_apart

ROOT = Path(__file__).parents[3]
ON_CPU = pytest.mark.skipif(torch.version.cuda is not None, reason="torch was built for GPUs")


@pytest.mark.skipif(os.cpu_count() == 1, reason="torch takes one thread on a machine of one core")
def test_more_threads_than_cores_is_a_warning_with_the_number_to_set(one_core, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    finding = examine_apart(Check("torch", "pipeline.doctor.torch_build:examine"), "spawn")
    assert finding.state is State.WARNING
    assert finding.found.endswith("computes with 2 threads on 1 core, where they wait for one another")
    assert finding.mend == "export OMP_NUM_THREADS=1"


@ON_CPU
def test_gpus_that_torch_was_not_built_for_are_told_with_where_to_get_another(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    finding = gpu.why_no_gpu(num_gpus=2)
    assert finding.state is State.BROKEN
    assert finding.found == "2 GPUs in this machine, but torch is a CPU build, for which they do not exist"
    assert "https://pytorch.org" in finding.mend


def test_gpus_that_the_user_hides_are_not_missed(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    finding = gpu.why_no_gpu(num_gpus=1)
    assert finding.state is State.UNUSED
    assert 'hidden by CUDA_VISIBLE_DEVICES=""' in finding.found


def test_a_machine_without_a_gpu_is_one_that_computes_on_its_cpu():
    assert gpu.why_no_gpu(num_gpus=0).state is State.UNUSED


def test_without_its_operator_the_loss_kernel_still_agrees_and_says_what_would_be_faster(site):
    kernels = ROOT / "kernels" / "task_kernels"
    shutil.copytree(kernels, site / "task_kernels", ignore=shutil.ignore_patterns("*.so"))
    finding = examine_apart(Check("loss kernel", "pipeline.doctor.loss_kernel:examine"), "spawn")
    assert finding.state is State.WARNING
    assert finding.found.startswith("torch operations on CPUs, within ")
    assert "make operator" in finding.mend


def test_a_loss_kernel_that_computes_something_else_is_broken(site):
    copy = shutil.copytree(
        ROOT / "kernels" / "task_kernels", site / "task_kernels", ignore=shutil.ignore_patterns("*.so")
    )
    rows = copy / "cpu_rows.py"
    rows.write_text(rows.read_text().replace("(label.shape, -1.0)", "(label.shape, -0.9)"))
    check = Check("loss kernel", "pipeline.doctor.loss_kernel:examine", mend="make operator")
    finding = examine_apart(check, "spawn")
    assert finding.state is State.BROKEN
    assert "from the reference" in finding.found


def test_the_kernel_that_shows_whether_triton_compiles_doubles(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    from pipeline.doctor.triton_kernel import double

    x, result = torch.arange(8), torch.zeros(8, dtype=torch.int64)
    double[(1,)](x, result, SIZE=8)
    assert result.tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
