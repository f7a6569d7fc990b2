"""Which interleavings: strategies, findings, shrinking, campaigns.  Knows nothing of slabs."""
