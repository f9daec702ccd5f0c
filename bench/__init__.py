"""Benchmarks: each prints its figures beside a bare baseline taken in the same run, and the ratio between them."""
