"""A check in a process of its own, so that its crash, its hanging and its noise stay there."""

import os
import pkgutil
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

from pipeline.doctor.finding import Check, Finding, State

_GRACE_S = 2.0
_MAX_CHARACTERS = 240

Start = Literal["spawn", "forkserver"]
"""How a process comes to be: with nothing imported, or with what was preloaded."""


def preload(module: str) -> None:
    """Import a module once, in a server that the later checks with `forkserver` are forked from."""
    get_context("forkserver").set_forkserver_preload([module])


def examine_apart(check: Check, start: Start) -> Finding:
    """Run a check in a new process; broken where it raises, dies or outlasts its limit.

    Whatever is broken comes with advice. Processes that the check left behind are ended. What it prints is
    dropped, but for the last line if it dies.
    """
    finding = _examine_apart(check, start)
    if finding.state is State.BROKEN and not finding.mend:
        return replace(finding, mend=check.mend)
    return finding


def shortened(text: str) -> str:
    """A text on one line of bearable length."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_CHARACTERS else line[: _MAX_CHARACTERS - 1] + "…"


def _examine_apart(check: Check, start: Start) -> Finding:
    context = get_context("spawn") if start == "spawn" else get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    with receiver, tempfile.NamedTemporaryFile(mode="r", errors="replace") as output:
        process = context.Process(target=_examine, args=(check, sender, output.name))
        try:
            process.start()
            sender.close()
            # Its death too, since what it started may keep the other end of the pipe open.
            if not wait([receiver, process.sentinel], check.limit_s):
                return Finding(State.BROKEN, f"hangs: no answer within {check.limit_s:g} s")
            if receiver.poll():
                return receiver.recv()
            return _death(process, output.read())
        except EOFError:
            return _death(process, output.read())
        finally:
            _end(process)


def _examine(check: Check, sender: Connection, output: str) -> None:
    os.setsid()  # the processes that it starts end with it
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with Path(output).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        examine = pkgutil.resolve_name(check.examine)
        finding = examine(*check.arguments)
    except Exception as error:  # whatever a broken installation raises
        finding = Finding(State.BROKEN, shortened(f"{type(error).__name__}: {error}"))
    sender.send(finding)


def _death(process: BaseProcess, output: str) -> Finding:
    process.join(_GRACE_S)
    code = process.exitcode or 0
    cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    last_line = next((line for line in reversed(output.splitlines()) if line.strip()), "")
    return Finding(State.BROKEN, shortened(f"died ({cause}) {last_line}"))


def _end(process: BaseProcess) -> None:
    """End a process and all that it started, by force if need be; do not wait for one that cannot end."""
    if process.pid is None:
        return
    for number, end_alone in ((signal.SIGTERM, process.terminate), (signal.SIGKILL, process.kill)):
        with suppress(ProcessLookupError):  # its group begins to be a moment after itself
            os.killpg(process.pid, number)
        end_alone()
        process.join(_GRACE_S)
