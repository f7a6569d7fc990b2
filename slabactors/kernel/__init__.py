"""Kernel services the model stands on: CPUs, locks, timers, work items."""
