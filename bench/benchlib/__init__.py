# SPDX-License-Identifier: MIT
"""The parts of bench/run and bench/plot; docs/bench.md has the method."""
