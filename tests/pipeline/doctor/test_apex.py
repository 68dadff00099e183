"""NVIDIA's Apex, another package of that name, or none: each is told, and a run starts with any of them."""

import json
from pathlib import Path

import pytest

from pipeline.doctor import apex
from pipeline.doctor.finding import Check, State
from pipeline.doctor.isolation import examine_apart

ROOT = Path(__file__).parents[3]
QUICK = ["data.num_workers=0", "model.hidden_size=32", "batch.global_size=12", "batch.micro_size=4"]
STRANGER = "Pyramid toolkit to add Velruse, Flash Messages, CSRF, ReCaptcha and Sessions"


@pytest.fixture
def stranger(package, tmp_path):
    """What `pip install apex` brings, or worse: it does something, and raises no ImportError."""
    note = tmp_path / "it-ran"
    code = f"open({str(note)!r}, 'w').close()\nraise RuntimeError('for Python 2')"
    return package("apex", code, STRANGER), note


def test_none_is_fine():
    finding = apex.examine()
    assert finding.state is State.UNUSED
    assert finding.found.startswith("not installed")


def test_another_package_of_that_name_is_told_by_its_own_words_without_importing_it(stranger):
    folder, note = stranger
    finding = apex.examine()
    assert finding.state is State.WARNING
    assert f'{folder}: not NVIDIA\'s but another package of that name, "{STRANGER}"' in finding.found
    assert finding.mend == "pip uninstall apex"
    assert not note.exists()


def test_a_mere_folder_of_that_name_is_another_package_too(site):
    (site / "apex").mkdir()
    finding = apex.examine()
    assert finding.state is State.WARNING
    assert finding.mend == "give it another name"


def nvidias(package):
    """The optimizers of a package shaped like NVIDIA's."""
    folder = package("apex") / "optimizers"
    folder.mkdir()
    (folder / "fused_adam.py").write_text("class FusedAdam: ...")
    return folder


def test_nvidia_s_without_its_kernels_is_told(package):
    nvidias(package)
    finding = apex.examine()
    assert finding.state is State.WARNING
    assert "built without CUDA kernels" in finding.found


def test_nvidia_s_that_was_built_for_another_torch_is_broken(package):
    nvidias(package)
    package("amp_C", "raise ImportError('undefined symbol: _ZN3c10')")
    finding = apex.examine()
    assert finding.state is State.BROKEN
    assert "NVIDIA's, but undefined symbol" in finding.found


def test_nvidia_s_with_its_kernels_works(package):
    folder = nvidias(package)
    (folder / "__init__.py").write_text("from .fused_adam import FusedAdam")
    package("amp_C")
    finding = examine_apart(Check("Apex", "pipeline.doctor.apex:examine"), "spawn")
    assert finding.state is State.WORKS, finding


def test_a_run_starts_beside_another_package_of_that_name_and_leaves_it_alone(
    stranger, pipeline, shards, tmp_path
):
    _, note = stranger
    keys = [f"data.path={shards}", f"out_dir={tmp_path}/runs", *QUICK, "steps=2"]
    for name, extra in (("plain", []), ("json", ["--deepspeed", ROOT / "ds_configs" / "zero2.json"])):
        tiny = ROOT / "configs" / "tiny.yaml"
        finished = pipeline("pretrain", tiny, *keys, f"name={name}", *extra, cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr
        assert (tmp_path / "runs" / name / "checkpoints" / "step-00000002").is_dir()
    assert not note.exists()


def test_doctor_says_which_it_is_and_that_training_works(stranger, pipeline, tmp_path):
    _, note = stranger
    finished = pipeline("doctor", "--json", "doctor.json", cwd=tmp_path)
    assert finished.returncode == 0, finished.stdout
    checks = {check["name"]: check for check in json.loads((tmp_path / "doctor.json").read_text())["checks"]}
    assert checks["Apex"]["state"] == "warning"
    assert STRANGER in checks["Apex"]["found"]
    assert checks["DeepSpeed"]["state"] == "works"
    assert not note.exists()
