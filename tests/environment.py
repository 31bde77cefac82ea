"""What the user's shell exports must not decide whether a test passes: imported first, before anything reads it.

Child processes inherit what is left, pytest's own workers included.
"""

import os
import signal
import time
from collections.abc import Mapping

KEPT = {
    *("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "HOME", "USER", "LOGNAME", "SHELL", "CC", "CXX"),
    *("TMPDIR", "TEMP", "TMP"),
    "CUDA_VISIBLE_DEVICES",  # which devices are there for us
    *("QVD_I3D", "QVD_ALEXNET"),  # weights that tests may be given
}
OF_THE_TEST_RUN = ("PYTEST", "COV_CORE_", "COVERAGE_")
SET = {"OMP_NUM_THREADS": "1"}


def cleaned(environment: Mapping[str, str]) -> dict[str, str]:
    """What tests see of an environment."""
    kept = {name: v for name, v in environment.items() if name in KEPT or name.startswith(OF_THE_TEST_RUN)}
    return kept | SET


def clean() -> None:
    """For this process and its children."""
    wanted = cleaned(os.environ)
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)
    time.tzset()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's background job; children would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)


clean()
