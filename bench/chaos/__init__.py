"""Faults on order under live calls: what callers hear of each, and whether a call or a record is lost."""
