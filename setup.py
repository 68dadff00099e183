"""Builds the CPU's loss operator where a C++ compiler and torch are there; else torch operations serve."""

from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup


def operators() -> list[Extension]:
    """The compiled operators, against torch's stable ABI (2.10 on); none where torch is not installed yet."""
    torch = find_spec("torch")
    if torch is None or torch.origin is None:
        print("torch is not installed: building without the compiled loss operator")
        return []
    root = Path(torch.origin).parent
    return [
        Extension(
            "task_kernels._softmax_rows",
            ["kernels/csrc/softmax_rows.cpp"],
            language="c++",
            include_dirs=[str(root / "include")],
            library_dirs=[str(root / "lib")],
            libraries=["torch_cpu"],
            define_macros=[("TORCH_TARGET_VERSION", "0x020a000000000000")],
            extra_compile_args=["-O3", "-std=c++20", "-Wno-psabi"],
            optional=True,
        )
    ]


setup(ext_modules=operators())
