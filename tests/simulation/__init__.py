"""Whole jobs on a fake broker, with crashes at every point: what is committed must not depend on them."""
