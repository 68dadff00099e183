"""Compiles a launch for its GPU, on a machine without one, and reads off what the compiler made of it."""

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import triton
from recorded_launches import Launch, gpu_target
from triton.compiler import ASTSource

PROGRAMS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
SASS_LINE = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)
AMD_LINE = re.compile(r"^\t([vsdgb]\w*_\w+)", re.MULTILINE)
SPILL, WIDE_LOAD, MATRIX = (
    re.compile(r"LDL|STL|scratch_(load|store)"),
    re.compile(r"(LDG|LDGSTS)\.(\w+\.)*128|(global|buffer)_load_dwordx4"),
    re.compile(r"\w*MMA|v_mfma"),
)


@dataclass
class Compiled:
    """Facts of one compiled kernel; `instructions` are those of the machine code, each counted once."""

    registers: int
    spills: int
    shared_bytes: int
    wide_loads: int
    matrix: str
    instructions: int


def compile_launch(launch: Launch) -> Compiled:
    """Compile with what the launch was recorded with.

    Raises:
        Exception: whatever Triton raises where it cannot compile.
    """
    signature, attributes, constants = launch.source()
    source = ASTSource(fn=launch.kernel, signature=signature, constexprs=constants, attrs=attributes)
    compiled = triton.compile(source, target=gpu_target(launch.target), options=launch.options)
    if launch.target.backend == "hip":
        text = compiled.asm["amdgcn"]
        registers = int(re.search(r"\.vgpr_count:\s+(\d+)", text)[1])
        spills = int(re.search(r"\.vgpr_spill_count:\s+(\d+)", text)[1])
        opcodes = Counter(AMD_LINE.findall(text))
    else:
        registers, opcodes = disassemble(compiled.asm["cubin"])
        spills = 0
    return Compiled(
        registers,
        spills + matching(opcodes, SPILL),
        compiled.metadata.shared,
        matching(opcodes, WIDE_LOAD),
        next((opcode.partition(".")[0] for opcode in opcodes if MATRIX.match(opcode)), ""),
        opcodes.total() - opcodes["NOP"],
    )


def matching(opcodes: Counter[str], pattern: re.Pattern[str]) -> int:
    """Instructions whose opcode begins as the pattern says."""
    return sum(number for opcode, number in opcodes.items() if pattern.match(opcode))


def disassemble(cubin: bytes) -> tuple[int, Counter[str]]:
    """Registers per thread, and how often each opcode occurs."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = output_of("cuobjdump", "-res-usage", file.name)
        code = output_of("nvdisasm", file.name)
    return int(re.search(r"REG:(\d+)", usage)[1]), Counter(SASS_LINE.findall(code))


def output_of(program: str, *arguments: str) -> str:
    """What one of the programs that come with Triton prints."""
    return subprocess.run([PROGRAMS / program, *arguments], capture_output=True, text=True, check=True).stdout  # noqa: S603
