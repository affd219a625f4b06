"""A vision transformer as a recurrence over attention and MLP.

With the branches A(x) = attention(norm(x)) and M(x) = MLP(norm(x)) a pre-norm layer is
x ← x + A(x), x ← x + M(x): gradient descent (7) over x + A and x + M in turn, or (16)
with (1, 0) over the branches. Any other recurrence takes the same branches.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.core import Tracer

from optnet_jax.errors import InputError
from optnet_jax.networks import fields
from optnet_jax.networks.activation import GELU, each
from optnet_jax.networks.branches import EPSILON, MLP, Attention, PatchStem, Skip
from optnet_jax.networks.images import check_images
from optnet_jax.networks.layers import check_layers, propagation
from optnet_jax.ops.initializers import xavier_normal
from optnet_jax.recurrences import HeavyBall, Recurrence, TripleMomentum, takes_history
from optnet_jax.recurrences.iterate import first_state, prepared, step_in_dtype
from optnet_jax.structures import Propagation
from optnet_jax.structures.fields import AtLeastOne, Learned, Rate, check
from optnet_jax.structures.layer import part_of

Splitting = Literal["together", "in_turn"]

UNROLLED_DEPTH = 12
"""Up to this many layers with weights of their own are written out."""


class VisionTransformer(nn.Module):
    """Patch stem, a recurrence over attention and MLP, layer norm, linear classifier.

    >>> import jax, jax.numpy as jnp
    >>> from optnet_jax.recurrences import Nesterov
    >>> net = VisionTransformer(Nesterov(), depth=2, width=8, heads=2, patch_size=4)
    >>> net.init_with_output(jax.random.key(0), jnp.ones((1, 8, 8, 3)))[0].shape
    (1, 1000)

    Iterates are float32, whatever ``dtype`` the branches compute in. Its parameters
    are ``stem``, ``encoder``, ``norm`` and ``head``; those of the encoder's layers do
    not depend on the recurrence or on ``skip``.

    Attributes:
        recurrence: the method: one of one iterate, or its key in
            :data:`~optnet_jax.recurrences.methods.METHODS`. The default, (16) with
            (1, 0), is today's transformer.
        depth: the number of layers, each an attention and an MLP.
        width: channels of a token.
        heads: of the attention.
        activation: Φ of the MLP, a name of :mod:`~optnet_jax.networks.activation`, or
            one for each layer.
        mlp_width: channels inside the MLP; None: 4 ``width``.
        patch_size: height and width of a patch.
        num_classes: the size of the output.
        pool: what is classified: "token", a class token, or the "mean" of the tokens.
        splitting: "together", T is the layer and a layer one step, or "in_turn",
            attention and MLP are a step each (Lie-Trotter splitting).
        skip: T(x) is x + G(x), the z - ∇f(z) of a method of optimisation, instead of
            the branch G(x); None: whichever keeps x where G is 0. So HeavyBall(1, 0)
            and (1 + β, -β) take G, heavy_ball(β) and Nesterov's method x + G. Both
            forms of HB-Net's (1, -1) are to be told by name.
        dropout_rate: share of what a branch returns, and of the MLP's inside, that
            training drops.
        drop_path: probability that training leaves an image without a branch.
        learned: as in :class:`~optnet_jax.structures.Propagation`.
        shared: likewise.
        tied: likewise.
        unroll: likewise; None: up to 12 layers with weights of their own are.
        remat: likewise.
        reversible: run as a :class:`~optnet_jax.structures.ReversiblePropagation`.
        dtype: of the branches; parameters, iterates and logits stay in float32.

    Raises:
        InputError: fields that do not fit together, when the module is made.
    """

    recurrence: fields.Recurrences = HeavyBall(1.0, 0.0)
    depth: AtLeastOne = 12
    width: fields.Channels = 192
    heads: fields.Channels = 3
    activation: fields.Activations = GELU
    mlp_width: fields.Channels | None = None
    patch_size: fields.Channels = 16
    num_classes: fields.Classes = 1000
    pool: Literal["token", "mean"] = "token"
    splitting: Splitting = "together"
    skip: bool | None = None
    dropout_rate: Rate = 0.0
    drop_path: Rate = 0.0
    learned: Learned = ()
    shared: bool = False
    tied: bool = False
    unroll: bool | None = None
    remat: bool = False
    reversible: bool = False
    dtype: fields.Dtype | None = None

    def __post_init__(self):
        check(VisionTransformer, vars(self))
        object.__setattr__(self, "recurrence", fields.method(self.recurrence))
        if self.width % self.heads:
            raise InputError(
                f"width={self.width} must be a multiple of heads={self.heads}"
            )
        method = self.recurrence
        if fields.are_several(method) or takes_history(method):
            raise InputError(
                "a vision transformer runs one recurrence, over one iterate: give one "
                "such as HeavyBall, Nesterov or TripleMomentum"
            )
        names = each(self.activation, self.depth, "layers")
        check_layers(self, method, names, self.splitting == "in_turn")
        self._takes_sum()
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Return the logits.

        Args:
            images: [B, H, W, C], H and W multiples of ``patch_size``.
            train: use dropout.

        Returns:
            [B, num_classes] float32.

        Raises:
            InputError: images that are no [B, H, W, C], that patches do not tile, or of
                another size than the positions are for.
        """
        check_images(images, self.patch_size)
        if images.shape[1] % self.patch_size or images.shape[2] % self.patch_size:
            raise InputError(
                f"images of {images.shape[1]}x{images.shape[2]} are not tiled by "
                f"patches of {self.patch_size}: give another patch_size"
            )
        token = self.pool == "token"
        stem = PatchStem(self.width, self.patch_size, token, self.dtype, name="stem")
        x = self._encoder()(stem(images), train=train)
        x = nn.LayerNorm(epsilon=EPSILON, name="norm")(x)
        x = x[:, 0] if token else x.mean(1)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return nn.Dense(self.num_classes, kernel_init=xavier_normal, name="head")(x)

    @nn.nowrap
    def propagations(self) -> dict[tuple[str, ...], tuple[Recurrence, int]]:
        """Return the recurrence and its number of steps, under its parameters' path."""
        steps = self.depth * (2 if self.splitting == "in_turn" else 1)
        return {("encoder",): (self.recurrence, steps)}

    @nn.nowrap
    def _takes_sum(self) -> bool:
        ((method, steps),) = self.propagations().values()
        return _takes_sum(method, steps) if self.skip is None else self.skip

    def _encoder(self) -> Propagation:
        skip = self._takes_sum()
        common: Any = {
            "width": self.width,
            "dropout_rate": self.dropout_rate,
            "drop_path": self.drop_path,
            "dtype": self.dtype,
            "parent": None,
        }

        def make(phi: str) -> Any:
            attention = Attention(heads=self.heads, **common)
            hidden = self.mlp_width or 4 * self.width
            mlp = MLP(hidden=hidden, activation=phi, **common)
            if self.splitting == "together":
                return Skip((attention, mlp), skip, parent=None)
            return tuple(Skip((b,), skip, parent=None) for b in (attention, mlp))

        return propagation(
            self,
            self.recurrence,
            make,
            each(self.activation, self.depth, "layers"),
            self.depth,
            UNROLLED_DEPTH,
            name="encoder",
        )


def _takes_sum(recurrence: Recurrence, steps: int) -> bool:
    """Return whether a method is to be run over x + G(x), and not over the branch G(x).

    Raises:
        InputError: with neither does it keep x where G is 0.
    """
    operators = ((False, jnp.zeros_like), (True, lambda x: x))
    # In double precision, in which deep ones do not add up their rounding.
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        coefficients = prepared(recurrence, steps, np.float64)
        for skip, transform in operators:
            state = first_state(recurrence, jnp.ones(1))
            for k in range(steps):
                c = part_of(coefficients, k)
                state = step_in_dtype(recurrence, transform, state, c)
                x = recurrence.output(state)
                if isinstance(x, Tracer) or not np.allclose(x, 1, atol=1e-5):
                    break
            else:
                return skip
    raise InputError(
        f"{type(recurrence).__name__} keeps x neither over the branch, T(x) = G(x), "
        f"nor over T(x) = x + G(x), where G is 0: say skip=False or skip=True"
    )


@functools.partial(fields.with_fields_of, VisionTransformer)
def yurii_vit(
    *,
    alpha: fields.Coefficient = 1.0,
    beta: fields.Coefficient = 0.9,
    gamma: fields.Coefficient = 0.9,
    delta: fields.Coefficient = 0.0,
    learned: Learned = ("alpha", "beta", "gamma"),
    splitting: Splitting = "in_turn",
    **network: Any,
) -> VisionTransformer:
    """Return a transformer with YuriiFormer's update over the branches in turn.

    v ← β v + α G(x + γ v), x ← x + v: Nesterov's method for β = γ, triple momentum with
    a learned δ. Its authors' μ is γ here, their γ is α. They also normalise v, begin
    with an embedding of its own for v, and keep β and μ in (0, 1); here v_0 = 0, and
    nothing is between the coefficients and the sum. Source: Zimin, Polyanskiy and
    Rigollet, "YuriiFormer: A Suite of Nesterov-Accelerated Transformers" (2026).

    The coefficients are those of :class:`~optnet_jax.recurrences.TripleMomentum`.
    """
    method = TripleMomentum(alpha, beta, gamma, delta)
    return VisionTransformer(method, learned=learned, splitting=splitting, **network)


VISION_TRANSFORMERS: dict[str, Callable[..., VisionTransformer]] = {
    "vit": VisionTransformer,
    "vit_tiny16": functools.partial(VisionTransformer, width=192, heads=3),
    "vit_small16": functools.partial(VisionTransformer, width=384, heads=6),
    "vit_base16": functools.partial(VisionTransformer, width=768, heads=12),
    "yurii_vit": yurii_vit,
}
"""Name -> constructor: ViT-Ti/16, S/16 and B/16, and what takes any sizes."""
