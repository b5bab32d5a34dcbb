"""Readers of other projects' weights that only parity tests need; they are not shipped."""
