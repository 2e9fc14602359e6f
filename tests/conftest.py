"""Shared by all tests: the plain modules beside this file can be imported by name."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

from digits_models import digits_models, low_bit_model  # noqa: F401  # a session's trained and exported networks

SLOW_FOLDERS = ("cli", "hostile", "runtimes")  # whole commands; files and processes that come to grief; interpreters one by one
TRAINED = {"digits_models", "low_bit_model"}  # fixtures that train networks, with TensorFlow

settings.register_profile("fixed", derandomize=True)  # the same examples every time; HYPOTHESIS_PROFILE=default looks for others
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What `make quick` leaves out without being marked one by one."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in SLOW_FOLDERS or TRAINED.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
