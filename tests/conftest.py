"""Shared by all tests: the plain modules beside this file can be imported by name."""

import os
import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

from digits_models import digits_models, low_bit_model  # noqa: F401  # a session's trained and exported networks

settings.register_profile("fixed", derandomize=True)  # the same examples every time; HYPOTHESIS_PROFILE=default looks for others
settings.register_profile("quick", derandomize=True, max_examples=25)  # make quick
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))
