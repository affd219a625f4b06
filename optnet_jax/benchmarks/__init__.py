"""How fast the networks are, and how their cost grows: beside PyTorch where it is."""
