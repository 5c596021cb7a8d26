"""The launcher: brings a whole cloud up on one machine, in one process or in many.

``profile`` turns options into a plan of units; ``supervisor`` (services profile) and ``embedded`` (one process)
carry the plan out; ``brokers``, ``databases`` and ``nodes`` say how to run what is not ours.
"""
