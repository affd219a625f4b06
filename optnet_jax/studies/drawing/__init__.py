"""Structures as pictures."""
