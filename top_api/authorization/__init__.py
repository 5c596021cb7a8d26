"""Who may do what, by oslo.policy: a table of defaults for each service, and what operators override of them.

Rules have the names, the default roles and the scope types that Nova, Keystone, Glance and Neutron give them, so that
an operator's policy file means here what it means there; what only this cloud has is called ``cellcloud:...``.
"""

from top_api.authorization.all_rules import list_rules
from top_api.authorization.enforcement import Enforcer, Subject, Target

__all__ = ["Enforcer", "Subject", "Target", "list_rules"]
