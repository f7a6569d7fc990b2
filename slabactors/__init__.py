"""Actor-based concurrent emulator of how Linux took down per-memcg slab caches."""

__version__ = "0.1.0"
