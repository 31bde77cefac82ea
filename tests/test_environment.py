"""Tests pass whatever the user's shell exports."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment import KEPT, OF_THE_TEST_RUN, SET, cleaned

ROOT = Path(__file__).parent.parent
HOSTILE = {
    "WANDB_SILENT": "false",
    "WANDB_MODE": "disabled",
    "WANDB_DIR": "/nowhere",
    "WANDB_CONFIG_DIR": "/nowhere",
    "WANDB_API_KEY": "0" * 40,
    "WANDB_PROJECT": "another",
    "QVD_STORE": "/nowhere",
    "HF_HOME": "/nowhere",
    "HF_HUB_OFFLINE": "0",
    "TRANSFORMERS_OFFLINE": "0",
    "HYDRA_FULL_ERROR": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONHASHSEED": "7",
    "PYTHONOPTIMIZE": "1",
    "OMP_NUM_THREADS": "3",
    "CUDA_VISIBLE_DEVICES": "7",
    "WORLD_SIZE": "2",
    "COLUMNS": "20",
    "NO_COLOR": "1",
    "FORCE_COLOR": "1",
    "MPLBACKEND": "nonsense",
    "LANG": "tr_TR.ISO-8859-9",
    "LC_ALL": "C",
    "TZ": "Pacific/Kiritimati",
}
SENSITIVE = (
    "tests/test_architecture.py",
    "tests/data/test_shapes.py",
    "tests/experiments/config",
    "tests/experiments/report",
    "tests/experiments/tracking",
    "tests/experiments/test_sweep.py",
    "tests/metrics/test_cli.py",
    "tests/models/test_shipped.py",
    "tests/store",
    "tests/end_to_end/test_golden.py",
    "tests/integration/test_run.py::test_bad_input_ends_with_one_line_and_no_traceback",
)


def test_what_a_shell_exports_is_gone():
    assert cleaned(HOSTILE) == SET | {"CUDA_VISIBLE_DEVICES": "7"}
    assert cleaned({"HOME": "/home", "COVERAGE_PROCESS_START": "x"}) == SET | {
        "HOME": "/home",
        "COVERAGE_PROCESS_START": "x",
    }
    assert not (HOSTILE.keys() - SET.keys() - KEPT) & os.environ.keys()


def test_nothing_that_our_code_reads_is_kept():
    files = [
        path for room in ("qvd", "baselines", "metrics", "experiments", "conf") for path in (ROOT / room).rglob("*")
    ]
    text = "\n".join(path.read_text() for path in files if path.suffix in {".py", ".yaml"})
    read = set(re.findall(r"""(?:environ(?:\.\w+\(|\[)|getenv\()["'](\w+)|oc\.env:(\w+)""", text))
    names = {name for pair in read for name in pair if name}
    assert {"QVD_STORE", "HYDRA_FULL_ERROR"} <= names
    assert not names & KEPT and not any(name.startswith(OF_THE_TEST_RUN) for name in names)


@pytest.mark.full
def test_sensitive_tests_pass_in_a_hostile_shell(tmp_path):
    words = ["-q", "-x", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/pytest", "-m", "not full"]
    command = [sys.executable, "-m", "pytest", *words, *SENSITIVE]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | HOSTILE, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
