"""The outside services as ports: a Protocol each, and the real OpenStack adapter beside it.

The embedded adapters of the same Protocols are in ``cellcloud.embedded``; one contract suite runs on both.
"""
