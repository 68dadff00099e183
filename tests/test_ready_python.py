"""A program in a Python that has imported everything is a process like any other."""

import signal
import subprocess
import sys

import pytest

TELL = """
import os, sys
print(sys.argv, sys.path[0], __name__, os.getcwd(), os.environ.get("TOLD"), os.environ.get("DS_ACCELERATOR"))
print(sys.stdin.read(), file=sys.stderr)
sys.exit(3)
"""


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / "script.py"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("how", ["file", "module"])
def test_it_finds_what_a_fresh_one_finds_and_ends_like_it(ready_python, script, tmp_path, monkeypatch, how):
    path = script(TELL)
    program = [str(path), "a", "b"] if how == "file" else ["-m", "script", "a"]
    monkeypatch.setenv("TOLD", "this")
    ready = ready_python.run(*program, cwd=tmp_path)
    fresh = subprocess.run(
        [sys.executable, *program], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert (ready.returncode, ready.stdout, ready.stderr) == (3, fresh.stdout, fresh.stderr)


def test_it_has_imported_what_takes_long(ready_python, script):
    said = ready_python.run(script("import sys; print('torch' in sys.modules, 'deepspeed' in sys.modules)"))
    assert said.stdout == "True True\n"


def test_it_can_be_waited_for_and_killed(ready_python, script):
    process = ready_python.start(script("import time; print('here', flush=True); time.sleep(600)"))
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.1)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    process.kill()  # does nothing any more


def test_more_than_a_pipe_holds_is_read_while_it_runs(ready_python, script):
    process = ready_python.start(script("import sys; print('x' * 2**20); sys.exit('y' * 2**20)"))
    assert process.wait(timeout=60) == 1
    assert [len(said) for said in process.communicate()] == [2**20 + 1] * 2
