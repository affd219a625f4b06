"""The methods of §2 as recurrences over an operator T; needs nothing but JAX.

===================  ====================  ===========================
recurrence           method, structure     relaxed form
===================  ====================  ===========================
``GradientDescent``  (1), (7)
``HeavyBall``        (2), (11)             (16): ResNet, HB-Net
``Nesterov``         (3), (12)             (17)
``NesterovSum``      (4)-(5), (13)
``HistorySum``                             (18): DenseNet, AGD-Net (21)
``ADMM``             (6), (14)             (20): ``TwoPath``, DMRNet
===================  ====================  ===========================

Since the paper: ``TripleMomentum``, which contains (7), (11) and (12),
``LinearMultistep`` (LM-ResNet), ``Coupled`` (RevNet) and, from before, ``Anderson``.
"""

from optnet_jax.recurrences.admm import ADMM
from optnet_jax.recurrences.anderson import Anderson
from optnet_jax.recurrences.base import (
    Coefficients,
    Recurrence,
    State,
    Transform,
    number_of_paths,
    pair,
    takes_history,
)
from optnet_jax.recurrences.coefficients import h_matrix, momentum, theta
from optnet_jax.recurrences.coupled import Coupled
from optnet_jax.recurrences.gradient_descent import GradientDescent
from optnet_jax.recurrences.heavy_ball import HeavyBall, heavy_ball, momentum_residual
from optnet_jax.recurrences.history_sum import HistorySum
from optnet_jax.recurrences.iterate import iterate
from optnet_jax.recurrences.linear_multistep import LinearMultistep
from optnet_jax.recurrences.nesterov import Nesterov
from optnet_jax.recurrences.nesterov_sum import NesterovSum
from optnet_jax.recurrences.triple_momentum import TripleMomentum, triple_momentum
from optnet_jax.recurrences.two_path import TwoPath

__all__ = [
    "ADMM",
    "Anderson",
    "Coefficients",
    "Coupled",
    "GradientDescent",
    "HeavyBall",
    "HistorySum",
    "LinearMultistep",
    "Nesterov",
    "NesterovSum",
    "Recurrence",
    "State",
    "Transform",
    "TripleMomentum",
    "TwoPath",
    "h_matrix",
    "heavy_ball",
    "iterate",
    "momentum",
    "momentum_residual",
    "number_of_paths",
    "pair",
    "takes_history",
    "theta",
    "triple_momentum",
]
