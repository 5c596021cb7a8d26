"""Fitting a guest's NUMA cells and PCI devices into a host's topology."""
