import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax import networks
from optnet_jax.errors import InputError
from optnet_jax.networks.images import check_images


def of_shape(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (of_shape(2, 8, 8, 3).tolist(), r"an array \[B, H, W, C\], got \[\[\[\[1.0"),
        (None, "an array .*, got None: numpy.asarray"),
        ("photograph.png", "an array .*, got 'photograph.png'"),
        (jax.ShapeDtypeStruct((2, 8, 8, 3), np.float32), "an array .*ShapeDtypeStruct"),
        (of_shape(2, 8, 8, 3, dtype=object), "real numbers, got an array of object"),
        (of_shape(2, 8, 8, 3, dtype="U1"), "real numbers, got an array of <U1"),
        (of_shape(2, 8, 8, 3, dtype=np.complex64), "real numbers, .* of complex64"),
        (jax.random.split(jax.random.key(0)), "real numbers, got an array of key"),
        (of_shape(2, 8, 8, 3, dtype=">f4"), "byte order, >f4: .*newbyteorder"),
        (of_shape(8, 8, 3), r"\[B, H, W, C\], got shape \(8, 8, 3\)"),
        (of_shape(1, 2, 8, 8, 3), r"\[B, H, W, C\], got shape \(1, 2, 8, 8, 3\)"),
        (of_shape(0, 8, 8, 3), r"must be images .*, got shape \(0, 8, 8, 3\)"),
        (of_shape(2, 8, 8, 0), r"with channels, got shape \(2, 8, 8, 0\)"),
        (of_shape(2, 0, 8, 3), r"with channels, got shape \(2, 0, 8, 3\)"),
        (of_shape(2, 8, 3, 3), "images of 8x3 are .*give at least 4x4"),
    ],
)
def test_what_are_no_images_is_said_in_one_line(images, message):
    with pytest.raises(InputError, match=message) as error:
        check_images(images, 4)
    assert len(str(error.value)) < 200
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool", "float16", "bfloat16"])
def test_real_numbers_of_any_kind_pass(dtype):
    check_images(jnp.ones((2, 4, 4, 1), dtype), 4)


@pytest.mark.parametrize("name", ["lenet5", "vgg16", "plain", "agd_net"])
def test_every_family_asks(name):
    network = networks.create(name)
    for use in (network.init, network.apply):
        with pytest.raises(InputError, match="images must be an array"):
            use(jax.random.key(0) if use == network.init else {}, [[1.0]])
