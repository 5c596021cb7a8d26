"""Who may do what, by oslo.policy: a table of defaults for each service, and what operators override of them.

Rules have the names, the default roles and the scope types that Nova, Keystone, Glance and Neutron give them, so that
an operator's policy file means here what it means there; what only this cloud has is called ``cellcloud:...``.
"""

from top_api.policy.defaults import list_rules
from top_api.policy.enforcement import Policy, Subject, Target

__all__ = ["Policy", "Subject", "Target", "list_rules"]
