"""Benchmarks: pgherd beside what one would use without it, in one run. See README.md."""
