import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from optnet_jax.errors import InputError
from optnet_jax.ops.convolution import _gradients_derived, convolution, same_convolution
from optnet_jax.ops.cpu import DIMENSION_NUMBERS


def _operands(size, dtype=jnp.float64):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (3, 6, 7, 4), dtype)
    w = jax.random.normal(keys[1], (size, size, 4, 5), dtype)
    return x, w, jax.random.normal(keys[2], (3, 6, 7, 5), dtype)


def _reference(x, w):
    pad = w.shape[0] // 2
    return lax.conv_general_dilated(
        x, w, (1, 1), [(pad, pad)] * 2, dimension_numbers=DIMENSION_NUMBERS
    )


def _ours(x, w):
    pad = w.shape[0] // 2
    return same_convolution(x, w, (1, 1), [(pad, pad)] * 2)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_values_and_gradients_equal_the_derived_ones(float64, size):
    x, w, dy = _operands(size)
    y, vjp = jax.vjp(_ours, x, w)
    y_reference, vjp_reference = jax.vjp(_reference, x, w)
    np.testing.assert_allclose(y, y_reference, atol=1e-12)
    for ours, reference in zip(vjp(dy), vjp_reference(dy), strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-12)


def test_the_form_for_other_platforms_is_the_derived_gradient(float64):
    x, w, dy = _operands(3)
    ours = _gradients_derived(None, x, w, dy)
    for a, b in zip(ours, jax.vjp(_reference, x, w)[1](dy), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_scanned_stack_equals_the_unrolled_one(float64):
    x, _, _ = _operands(3)
    kernels = jax.random.normal(jax.random.key(3), (4, 3, 3, 4, 4), jnp.float64) / 6

    def scanned(kernels):
        body = lambda x, w: (jnp.tanh(_ours(x, w)), None)  # noqa: E731
        return lax.scan(body, x, kernels)[0].sum()

    def unrolled(kernels):
        y = x
        for w in kernels:
            y = jnp.tanh(_reference(y, w))
        return y.sum()

    np.testing.assert_allclose(
        jax.grad(scanned)(kernels), jax.grad(unrolled)(kernels), atol=1e-11
    )


def test_it_is_linens_convolution_at_stride_one():
    assert convolution(5).conv_general_dilated is same_convolution
    assert convolution(5, strides=2).conv_general_dilated is None


@pytest.mark.parametrize("size", [1, 3, 7])
def test_stride_two_halves_the_size_rounding_up(size):
    x, _, _ = _operands(3, jnp.float32)
    y, _ = convolution(5, size, strides=2).init_with_output(jax.random.key(0), x)
    assert y.shape == (3, 3, 4, 5)


def test_kernels_are_drawn_with_he_variance_over_the_outputs():
    x = jnp.ones((1, 8, 8, 32))
    kernel = convolution(128).init(jax.random.key(0), x)["params"]["kernel"]
    np.testing.assert_allclose(kernel.std(), (2 / (9 * 128)) ** 0.5, rtol=0.02)


@pytest.mark.parametrize(
    "change",
    [
        {"window_strides": (2, 2)},
        {"padding": [(0, 0), (0, 0)]},
        {"rhs_dilation": (2, 2)},
        {"feature_group_count": 2},
    ],
)
def test_what_the_hand_written_gradient_does_not_cover_is_refused(change):
    x, w, _ = _operands(3, jnp.float32)
    arguments = {"window_strides": (1, 1), "padding": [(1, 1), (1, 1)], **change}
    with pytest.raises(InputError, match="stride 1"):
        same_convolution(x, w, **arguments)
