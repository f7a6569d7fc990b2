"""What happened: logs, causality, tables, and foreign formats."""
