"""Peak memory of a piece of work."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Highest memory use since construction, in bytes: the GPU allocator's if CUDA is in use, else resident memory.

    On Linux the kernel's high-water mark is reset first, after memory that earlier work has freed was handed back;
    elsewhere the peak of the whole process so far is given.
    """

    def __init__(self) -> None:
        cuda = _initialised_cuda()
        if cuda is not None:
            cuda.reset_peak_memory_stats()
        elif _CLEAR_REFS.exists():
            _hand_back_freed_memory()
            _CLEAR_REFS.write_text("5")  # resets VmHWM, see proc(5)

    def read(self) -> int:
        """Peak so far in bytes."""
        cuda = _initialised_cuda()
        if cuda is not None:
            return cuda.max_memory_allocated()
        if _STATUS.exists():
            line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
            return int(line.split()[1]) * 1024
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _hand_back_freed_memory() -> None:
    """glibc may keep it, and then it would count as the next piece of work's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _initialised_cuda():
    """torch.cuda when this process has used it; torch is not imported for the question."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
