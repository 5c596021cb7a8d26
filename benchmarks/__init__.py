"""Figures of cellcloud, printed with the conditions they were taken under."""
