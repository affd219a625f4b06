"""Weights of other libraries: their names and their files."""
