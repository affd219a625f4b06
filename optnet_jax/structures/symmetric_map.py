"""W with 0 ⪯ W ⪯ (1 - μ) I: the linear map of Lemma 1, its condition number known."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.structures import fields


class SymmetricMap(nn.Module):
    """W = (1 - μ) AᵀA / ‖A‖², symmetric with 0 ⪯ W ⪯ (1 - μ) I, the bound attained.

    ‖A‖ is exact: of a matrix by its eigenvalues, of a convolution, which is circular,
    by those of its matrix of channels at each frequency of the image (Sedghi, Gupta and
    Long, ICLR 2019). A as it is trained may have any scale.

    Attributes:
        mu: μ, in (0, 1): κ = 1/μ.
        kernel_size: of A as a convolution of [..., H, W, C], such as (3, 3); empty for
            a matrix over [..., n].
        kernel_init: how A is drawn.
    """

    mu: fields.Fraction
    kernel_size: tuple[fields.AtLeastOne, ...] = ()
    kernel_init: nn.initializers.Initializer = nn.initializers.xavier_normal()

    def __post_init__(self):
        fields.check(SymmetricMap, vars(self))
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array) -> Callable:
        """Return x ↦ W x for arrays shaped like x.

        It is a pytree that holds A: give it to an :class:`Equilibrium` among the
        inputs, and its norm is computed once and not in each step.

        Raises:
            InputError: an image smaller than the kernel, whose frequencies would fold.
        """
        taps, channels = tuple(self.kernel_size), x.shape[-1]
        sizes = x.shape[x.ndim - 1 - len(taps) : -1]
        if len(taps) != len(sizes) or any(map(int.__gt__, taps, sizes)):
            raise InputError(
                f"kernel_size={taps} does not fit into an array of shape {x.shape}"
            )
        shape = (*taps, channels, channels)
        dtype = jnp.promote_types(x.dtype, jnp.float32)
        kernel = self.param("kernel", self.kernel_init, shape, dtype)
        kernel = spectrum = kernel.astype(dtype)  # no spectrum is computed in bfloat16
        if taps:
            spectrum = jnp.fft.fftn(kernel, sizes, tuple(range(len(taps))))
        gram = jnp.swapaxes(spectrum.conj(), -1, -2) @ spectrum
        largest = jnp.linalg.eigvalsh(gram).max()
        scaled = kernel * jnp.sqrt((1 - self.mu) / largest)
        return jax.tree_util.Partial(_gram_product, scaled.astype(x.dtype))


def _gram_product(kernel: jax.Array, x: jax.Array) -> jax.Array:
    """Return Aᵀ(A x)."""
    taps, channels = kernel.shape[:-2], kernel.shape[-1]
    layer = nn.Dense(channels, use_bias=False)
    if taps:
        layer = nn.Conv(channels, taps, padding="CIRCULAR", use_bias=False)
    a = functools.partial(layer.apply, {"params": {"kernel": kernel}})
    y, transposed = jax.vjp(a, x)
    return transposed(y)[0]
