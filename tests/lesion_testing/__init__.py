"""Builders, small studies and machinery that tests of several folders share.

Fixtures stand in conftests, and everything that is imported by name stands here.
"""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout."""
