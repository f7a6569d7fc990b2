"""Workloads: line scripts of allocations and frees, played on a machine and held against recordings of kernels."""
