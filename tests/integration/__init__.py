"""Tests with real programs."""
