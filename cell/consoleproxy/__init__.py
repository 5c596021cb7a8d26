"""The console proxy of a cell: noVNC for browsers, joined with guests by tokens."""
