import os

import pytest
from filelock import FileLock

from tests.end_to_end.small_run import SmallRun


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """Computed once, also by pytest's parallel workers together."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "small_run"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        return SmallRun.finish(folder)
