"""Text formats of traces: those that are read, and those that are written for other tools."""
