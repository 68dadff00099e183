"""The Triton kernels in Triton's interpreter, on CPU tensors.

With TRITON_INTERPRET=0 in the environment the same tests run compiled, on the GPU that is there.
"""

import importlib
import os
import sys
from types import SimpleNamespace

import pytest
import torch

INTERPRET = os.environ.get("TRITON_INTERPRET", "1")
MODULES = ("targets", "rows", "logits", "tiles", "weights", "backend")


def import_kernels():
    """The modules as they are where the interpreter is on or off; nobody else gets them.

    Triton decides function by function as they are defined. tests/conftest.py has imported its own.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", INTERPRET)
        names = [f"task_kernels.triton_{module}" for module in MODULES]
        return {name: importlib.import_module(name) for name in names}


KERNELS = import_kernels()
for name in KERNELS:
    del sys.modules[name]


@pytest.fixture(scope="module")
def kernels():
    """The modules `triton_rows`, `triton_tiles`, `triton_weights`, …, and the `device` of their tensors."""
    if INTERPRET == "0" and not torch.cuda.is_available():
        pytest.skip("TRITON_INTERPRET=0 asks for a GPU, and there is none")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", INTERPRET)
        for name, module in KERNELS.items():
            patch.setitem(sys.modules, name, module)
        short = {name.removeprefix("task_kernels."): module for name, module in KERNELS.items()}
        yield SimpleNamespace(**short, device="cuda" if INTERPRET == "0" else "cpu")
