import jax
import jax.numpy as jnp
import pytest

from optnet_jax import networks
from optnet_jax.networks.dense_zoo import DENSE_NETWORKS

PARAMETERS = {
    ("densenet", 10): 1_019_722,
    ("densenet40", 10): 1_019_722,
    ("densenet40", 100): 1_060_132,
    ("densenet52", 10): 1_785_466,
    ("densenet52", 100): 1_838_836,
    ("densenet_bc100", 10): 769_162,
    ("densenet121", 1000): 7_978_856,
    ("agd_net", 10): 1_019_722 + 234,
    ("agd_net40", 10): 1_019_722 + 234,
    ("agd_net40", 100): 1_060_132 + 234,
    ("agd_net52", 10): 1_785_466 + 408,
    ("agd_net52", 100): 1_838_836 + 408,
    ("agd_net121", 1000): 7_979_391,
}


def test_every_network_has_a_count():
    assert {name for name, _ in PARAMETERS} == set(DENSE_NETWORKS)


@pytest.mark.parametrize(("name", "num_classes"), PARAMETERS)
def test_parameters_and_logits(name, num_classes):
    module = networks.create(name, num_classes=num_classes)
    size = 224 if module.stem == "imagenet" else 32
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    logits, variables = jax.eval_shape(
        module.init_with_output, jax.random.key(0), images
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert count == PARAMETERS[name, num_classes]
    assert (logits.shape, logits.dtype) == ((2, num_classes), jnp.float32)


def test_default_classes():
    assert networks.create("agd_net121").num_classes == 1000
    assert networks.create("agd_net40").num_classes == 10


@pytest.mark.parametrize("size", ["40", "52", "121"])
def test_agd_net_is_its_densenet_with_other_coefficients(size):
    agd = networks.create(f"agd_net{size}")
    densenet = networks.create(f"densenet{size}")
    assert densenet.clone(learned=("alpha",), beta=0.1) == agd
