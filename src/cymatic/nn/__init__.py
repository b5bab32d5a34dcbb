"""Layers that parts of several families are built from."""
