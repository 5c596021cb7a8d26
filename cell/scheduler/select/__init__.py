"""Selecting hosts for servers: one after the other over columns, or by the index of the kernel."""
