"""Messages between services: one declaration per service makes its client and its server."""
