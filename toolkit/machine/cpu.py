"""This machine's processor: its name, and the instruction sets that decide what runs fast."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from toolkit.processes import usable_cores

# more threads are a slip of the finger, which would take the whole machine down before any error
MOST_THREADS = 1024

CPUINFO = Path("/proc/cpuinfo")
# the kernel's flag of each instruction set that matters here, newest last
FLAGS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
    "asimddp": "NEON-DOT",
    "i8mm": "I8MM",
}
# those with which an 8-bit product of unsigned and signed numbers is summed in 32 bits at once;
# without them x86 sums pairs in 16 bits first, and full-range int8 weights overflow there
WIDE_INT8 = frozenset({"AVX-VNNI", "AVX512-VNNI", "AMX-INT8", "NEON-DOT", "I8MM"})
FAST_BF16 = frozenset({"AVX512-BF16", "AMX-BF16"})


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """A processor: its name, how many logical cores this process may use, its instruction sets."""

    name: str
    cores: int
    instruction_sets: tuple[str, ...]

    @property
    def lanes(self) -> int | None:
        """How many fp32 numbers a vector holds; None where the instruction sets are not known."""
        sizes = (("AVX-512", 16), ("AVX2", 8))
        return next((count for name, count in sizes if name in self.instruction_sets), None)

    @property
    def wide_int8(self) -> bool:
        """Whether int8 products are summed without saturating."""
        return bool(WIDE_INT8 & set(self.instruction_sets))

    @property
    def fast_bf16(self) -> bool:
        """Whether bf16 is computed by the processor itself."""
        return bool(FAST_BF16 & set(self.instruction_sets))

    @property
    def int8_instructions(self) -> str | None:
        """The newest instruction set that int8 models run on without saturating, if any."""
        wide = [name for name in self.instruction_sets if name in WIDE_INT8]
        return wide[-1] if wide else None


def cpu(cpuinfo: Path = CPUINFO) -> Cpu:
    """Look at this machine's processor; instruction sets are known on Linux only."""
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else []
    parts = (line.partition(":") for line in reversed(lines))  # so that the first core's stay
    told = {key.strip(): value.strip() for key, _, value in parts}
    name = told.get("model name") or platform.processor() or platform.machine()
    flags = told.get("flags", told.get("Features", "")).split()
    sets = tuple(label for flag, label in FLAGS.items() if flag in flags)
    return Cpu(name=name, cores=usable_cores(), instruction_sets=sets)


def usual_threads() -> int:
    """Return how many threads libraries compute with unless told: $OMP_NUM_THREADS, else the cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(asked) if asked.isdecimal() and 0 < int(asked) <= MOST_THREADS else cpu().cores


def saturates(instruction_set: str | None, here: Cpu) -> str | None:
    """Say why an int8 file made for `instruction_set` would be wrong on this processor; None if not."""
    if instruction_set in WIDE_INT8 and not here.wide_int8:
        return (
            f"this int8 file was made for processors with {instruction_set}, which this one "
            f"({here.name}) lacks: its sums can saturate and its answers can be wrong; "
            "export it again here, where its weights get a reduced range"
        )
    return None
