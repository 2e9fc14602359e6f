"""Shared by all tests: the plain modules beside this file can be imported by name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from digits_models import digits_models, low_bit_model  # noqa: F401  # a session's trained and exported networks
