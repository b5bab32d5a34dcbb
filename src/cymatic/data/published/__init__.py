"""The published data that the starters were made of: fetched, checked, and written as folders to train on.

`catalogue` says what there is, `get` makes one, `download` and `originals` bring the files as published, one module a
pack knows what becomes of them, and `tables/` holds the ids, captions and splits that were chosen for the starters.
"""
