"""What is told of a search: the shortest schedule of each bug, its table, its racing pair, in words and as JSON."""
