"""Programs in a Python that need not import torch, transformers and DeepSpeed first, which takes seconds.

They are processes like others: environment, working folder, signals and exit codes are their own. What is
settled as Python starts or a library is imported is not: the module path, a compiler in CXX, a hash seed.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

SERVER = Path(__file__).with_name("ready_server.py")


class Reader(threading.Thread):
    """Takes what comes through a pipe, before it is full."""

    def __init__(self, file):
        super().__init__(daemon=True)
        self._file = file
        self._text = ""
        self.start()

    def run(self):
        with os.fdopen(self._file) as stream:
            self._text = stream.read()

    def result(self, timeout):
        self.join(timeout)
        if self.is_alive():
            raise subprocess.TimeoutExpired("a process that holds the pipe", timeout)
        return self._text


class ReadyProcess:
    """A program under way, with what tests use of `subprocess.Popen`."""

    def __init__(self, news, out, errors):
        self._news = news
        self._said = [Reader(file) for file in (out, errors)]
        self.pid = int(news.recv(64))
        self.returncode = None

    def wait(self, timeout=None):
        if self.returncode is None:
            self._news.settimeout(timeout)
            try:
                status = self._news.recv(64)
            except TimeoutError:
                raise subprocess.TimeoutExpired(str(self.pid), timeout) from None
            self.returncode = os.waitstatus_to_exitcode(int(status))
            self._news.close()
        return self.returncode

    def poll(self):
        try:
            return self.wait(timeout=0)
        except (subprocess.TimeoutExpired, BlockingIOError):
            return None

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout=None):
        """Standard output and standard error, once the program has ended."""
        self.wait(timeout)
        return tuple(said.result(timeout) for said in self._said)


class ReadyPython:
    """Starts programs, given as the arguments of `python`, in forks of one server."""

    def __init__(self):
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, str(SERVER), str(theirs.fileno())]
            environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
            self._server = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)

    def start(self, *arguments, cwd=None, environment=None):
        """`environment` is added to this process's own, with a thread for each operation."""
        request = {
            "arguments": list(map(str, arguments)),
            "cwd": str(cwd or Path.cwd()),
            "environment": {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        }
        news, their_news = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        out, their_out = os.pipe()
        errors, their_errors = os.pipe()
        theirs = [their_news.detach(), their_out, their_errors]
        socket.send_fds(self._requests, [json.dumps(request).encode()], theirs)
        for file in theirs:
            os.close(file)
        return ReadyProcess(news, out, errors)

    def run(self, *arguments, **place):
        """What `subprocess.run` returns with `capture_output` and `text`."""
        process = self.start(*arguments, **place)
        said = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, *said)

    def close(self):
        self._requests.close()
        self._server.wait()
