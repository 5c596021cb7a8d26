"""What a request asks for, read and checked once."""
