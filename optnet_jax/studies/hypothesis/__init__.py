"""The hypothesis of §5, tested on targets that a network can learn and can fail to."""
