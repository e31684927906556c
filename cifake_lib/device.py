"""What this machine trains on: its processor or GPU, the precision that suits it, its memory."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cifake_lib.framework import HAS_GPU, keras


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


def mirror(devices: Sequence[str]) -> None:
    """Train on several devices at once from now on, each with its share of every batch.

    Each holds a copy of the model, and all take the same step: the result is that of one device
    within noise (`tf.distribute.MirroredStrategy`). A step takes as long as the slowest share, so
    enlarge the batch with the number of devices.

    Args:
        devices: Names as TensorFlow has them, `GPU:0`.

    Raises:
        ValueError: A device is not there, or the backend is not TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Expected the backend tensorflow to train on several devices, received "
            f"{keras.backend.backend()}: unset KERAS_BACKEND."
        )
    import tensorflow as tf

    there = [each.name.removeprefix("/device:") for each in tf.config.list_logical_devices()]
    if missing := sorted(set(devices) - set(there)):
        raise ValueError(f"Expected devices out of {there}, received {missing}.")
    tf.distribute.experimental_set_strategy(tf.distribute.MirroredStrategy(list(devices)))


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
