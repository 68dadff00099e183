"""How both programs meet a user's mistake: one line that says what, where and what to do; exit code 2."""

import difflib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable

from typer.exceptions import Exit, TyperException

_INTERRUPTED = 128 + signal.SIGINT


class UserError(Exception):
    """A mistake that the user can mend. The message is one line: what is wrong, where, what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(line.strip() for line in message.splitlines()))


class CorpusError(UserError):
    """The input cannot be prepared as it is: trying again would end alike, so nothing of it is kept."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` for the known name closest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def one_line(error: BaseException) -> str:
    """The message of an error folded onto one line."""
    if isinstance(error, TyperException):
        return (" ".join(error.format_message().split()) or "no command given") + " (see --help)"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(line.strip() for line in str(error).splitlines())


def is_first_of_node() -> bool:
    """Whether this process is the one of its node that speaks for all, under torchrun, deepspeed or srun."""
    return os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0"


def run_program(name: str, program: Callable[..., object]) -> None:
    """Run a Typer program to its exit code: 0, 1 for a failed check, 2 for a user's mistake, 130 for Ctrl-C.

    `--debug`, anywhere on the command line, shows the traceback of a mistake. Under a launcher the line
    is printed once per node, by local rank 0.
    """
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    # A job that is told to stop cleans up what is half-written, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        code = program(arguments, standalone_mode=False, prog_name=name)
        code = code if isinstance(code, int) else 0
    except Exit as stop:
        code = stop.exit_code
    except (UserError, TyperException, OSError) as error:
        if debug:
            traceback.print_exc()
        if is_first_of_node():
            print(f"{name}: error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    if code == _INTERRUPTED:  # Typer answers Ctrl-C so, too
        print(f"{name}: stopped", file=sys.stderr)
    sys.exit(code)
