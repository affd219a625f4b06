"""Networks whose structure comes from an optimisation algorithm, in JAX and Flax.

Li, Yang, Chen, Lin (2018), "Optimization Algorithm Inspired Deep Neural Network
Structure Design". The rooms follow the paper's chain:

``recurrences`` (the methods) → ``structures`` (a method over linen transforms) →
``networks`` → ``training`` → ``studies``.
"""

__version__ = "0.1.0"
