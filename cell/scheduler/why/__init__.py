"""What operators ask: why a server went where it went, the decision made again, and what would be if."""
