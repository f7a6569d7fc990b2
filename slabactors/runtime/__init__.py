"""Who drives the paths: `simulated` picks every step, `live` leaves it to an event loop.  Both emit `Step` records."""
