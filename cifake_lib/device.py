"""What this machine trains on: its processor or GPU, the precision that suits it, its memory."""

import subprocess
import sys
from pathlib import Path

from cifake_lib.framework import HAS_GPU


def choose_precision() -> str:
    """Choose the fastest precision policy that trains well on this device.

    Returns:
        `mixed_bfloat16` on GPUs from compute capability 8 and on CPUs with AMX or AVX512-BF16
        (twice as fast there), `mixed_float16` on older GPUs, else `float32`: emulated bfloat16 is
        slower.
    """
    if capability := _gpu_capability():
        return "mixed_bfloat16" if capability >= 8 else "mixed_float16"
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.is_file() else ""
    return "mixed_bfloat16" if "amx_bf16" in flags or "avx512_bf16" in flags else "float32"


def device_name() -> str:
    """Return the name of the device that trains: a GPU's, or `CPU`."""
    return _nvidia_smi("name") if _gpu_capability() else "CPU"


def _gpu_capability() -> float:
    """Return the compute capability of the first GPU the backend uses, 0 without one."""
    if not HAS_GPU:
        return 0.0
    try:
        return float(_nvidia_smi("compute_cap"))
    except ValueError:  # Not NVIDIA: float16 is the safer guess.
        return 7.0


def _nvidia_smi(field: str) -> str:
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "GPU"
    return result.stdout.splitlines()[0].strip()


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process in MB."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**20
    # Linux counts in KiB, macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
