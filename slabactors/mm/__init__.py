"""Memory management as the story needs it: pages, SLUB, the common slab code, memcg, vmscan."""
