"""Folders of recordings -> items -> batches."""
