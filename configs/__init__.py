"""Experiments as configs: ``get_config(args)`` returns an ml_collections.ConfigDict.

Each file holds one network; what it shares with the others is in ``recipes.py``, so
that two configs that are to be compared differ in their model block only.
"""
