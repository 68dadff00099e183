"""Ranks that do not find one another, and a DeepSpeed that does not work."""

import pytest

from pipeline.doctor.finding import Check, State
from pipeline.doctor.isolation import examine_apart

GLOO = Check("gloo", "pipeline.doctor.collectives:examine_gloo")
DEEPSPEED = Check("DeepSpeed", "pipeline.doctor.deepspeed_engine:examine", mend="make setup")


def test_an_interface_that_does_not_exist_is_named_with_those_that_do(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nope0")
    finding = examine_apart(GLOO, "spawn")
    assert finding.state is State.BROKEN
    assert "GLOO_SOCKET_IFNAME=nope0" in finding.found
    assert finding.mend.startswith("export GLOO_SOCKET_IFNAME=NAME, one of ")


def test_the_interface_of_the_machine_itself_serves(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    assert examine_apart(GLOO, "spawn").state is State.WORKS


def test_deepspeed_takes_a_step_alone_also_as_one_of_many_tasks(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    finding = examine_apart(DEEPSPEED, "spawn")
    assert finding.state is State.WORKS, finding
    assert "took a step at ZeRO 1" in finding.found


def test_deepspeed_without_a_working_gloo_points_there(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nope0")
    finding = examine_apart(DEEPSPEED, "spawn")
    assert finding.state is State.BROKEN
    assert finding.mend == "mend gloo first"


@pytest.mark.parametrize("fault", ["raise ImportError('undefined symbol: _ZN3c10')", "import os; os.abort()"])
def test_a_deepspeed_that_cannot_be_imported_is_broken_with_advice(package, fault):
    package("deepspeed", fault)
    finding = examine_apart(DEEPSPEED, "spawn")
    assert finding.state is State.BROKEN
    assert "_ZN3c10" in finding.found or "SIGABRT" in finding.found
    assert finding.mend == "make setup"
