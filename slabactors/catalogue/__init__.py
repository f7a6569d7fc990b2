"""The catalogue of real bugs: each with the smallest story that shows it, held against every generation.

An entry is a file of ``scenarios/catalogue``: a scenario, and beside it what is known of the bug
(`slabactors.catalogue.entry`).  Whether a search of that story meets what history says is found out in
`slabactors.catalogue.verification`, with the checkers that every search has.
"""

from slabactors.catalogue.entry import Entry, Expected, KnownBug
from slabactors.catalogue.generations import generations

__all__ = ["Entry", "Expected", "KnownBug", "generations"]
