"""What ``slabactors new`` copies, with a name for the placeholders ``new_name``, ``new-name`` and ``NewName``."""
