"""A Python that has imported what `pipeline` imports, and is forked for every program that a test asks for.

`python ready_server.py FD`: requests come over that socket, each with three files: where to tell the process
id and in the end the wait status, standard output, and standard error. It ends when the socket is closed.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from pathlib import Path

IMPORTED = (
    "deepspeed",
    "torch.utils.tensorboard",
    "transformers.models.bert.modeling_bert",
    "transformers.models.modernbert.modeling_modernbert",
    "pipeline.compare",
    "pipeline.engine.pretrain",
    "pipeline.export",
    "pipeline.preparation",
)
LONGEST_REQUEST = 2**20
"""Bytes."""


def import_all():
    sys.path[0] = str(Path(__file__).parents[1])  # beside this file are folders of the names of the packages
    from pipeline.engine import workarounds

    workarounds.before_import()
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # or the collector of a child would write to, and so copy, all that it shares with this one
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    # Only pyarrow's allocator has a thread, which it starts anew.
    assert len(threads) - threads.count("jemalloc_bg_thd") == 1, f"a fork would lose one of {threads}"


def next_request(requests):
    """Returns in a process of its own for every request: the request, and its three files."""
    signal.signal(signal.SIGCHLD, lambda *_: reap())
    while True:
        message, files, *_ = socket.recv_fds(requests, LONGEST_REQUEST, 3)
        if not message:
            sys.exit()
        if os.fork() == 0:
            break
        for file in files:
            os.close(file)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    requests.close()
    return json.loads(message), files


def reap():
    """Forget children that have ended; their CPU time then counts as this process's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def watch_child(news, out, errors):
    """Returns in a child, whose parent tells its process id, waits for it, and tells how it ended."""
    child = os.fork()
    if child == 0:
        os.close(news)
        return
    for file in (out, errors):  # whose readers wait for all who could write to close them
        os.close(file)
    with contextlib.suppress(BrokenPipeError):
        os.write(news, str(child).encode())
        os.write(news, str(os.waitpid(child, 0)[1]).encode())
    os._exit(0)


def become(request, out, errors):
    """Take over working folder, environment and files, as a fresh process would have them."""
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    for file, number in ((out, 1), (errors, 2)):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])


def run_program(program, *arguments):
    """As `python program arguments` or `python -m arguments` would."""
    if program == "-m":
        module, *_ = sys.argv = list(arguments)
        sys.path[0] = str(Path.cwd())
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [program, *arguments]
        sys.path[0] = str(Path(program).parent)
        runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    import_all()
    request, (news, out, errors) = next_request(socket.socket(fileno=int(sys.argv[1])))
    watch_child(news, out, errors)
    become(request, out, errors)
    run_program(*request["arguments"])
