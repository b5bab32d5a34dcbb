"""Saving and loading parts."""
