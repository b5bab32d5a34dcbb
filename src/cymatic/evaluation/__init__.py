"""Measures of what was generated: judges, intervals, neighbours."""
