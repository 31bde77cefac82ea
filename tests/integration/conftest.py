from tests.end_to_end.conftest import small_run  # noqa: F401  (a fixture)
