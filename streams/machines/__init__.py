"""The protocols as pure state machines, one folder each: the joint table, then one module a role."""
