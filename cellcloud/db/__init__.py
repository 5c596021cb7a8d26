"""The only SQL. One module per subject; each function takes the open transaction it works in."""
