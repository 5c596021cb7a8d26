"""OpenStack's own test suite against a running cloud. See ``__main__``."""
