"""What this API takes and answers, beside what Nova publishes of itself. For developers: ``make parity``."""
