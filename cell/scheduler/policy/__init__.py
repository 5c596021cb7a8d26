"""The rules of a policy: the filters that a host must pass, and the weighers that say which is best."""
