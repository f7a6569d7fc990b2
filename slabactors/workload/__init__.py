"""Workloads: line scripts of create, alloc, free, shrink and destroy, played on a machine or held against recordings."""
