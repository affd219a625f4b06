"""The names that notebooks, other people's scripts and earlier runs rely on."""

import importlib
import inspect

import pytest

from optnet_jax import configuration, networks, objectives, recurrences, structures

NAMES = {
    "recurrences": (
        "GradientDescent HeavyBall Nesterov NesterovSum ADMM iterate theta momentum "
        "h_matrix heavy_ball"
    ),
    "objectives": "ACTIVATIONS objective",
    "structures": "Propagation",
    "networks": "NETWORKS create",
}
NETWORKS = (
    "plain lenet5 vgg16 resnet20 resnet56 resnet110 resnet34 hb_net20 hb_net56 "
    "hb_net110 hb_net34 densenet40 densenet52 densenet121 densenet_bc100 agd_net40 "
    "agd_net52 agd_net121 nesterov_net56 dmr_net56"
)
CONFIGS = [
    *(
        f"{stem}_{family}"
        for stem in ("digits", "fashion", "cifar", "imagenet")
        for family in ("resnet", "hb", "densenet", "agd")
    ),
    "table2",
    "convergence",
    "hypothesis",
    "stability",
]
FIELDS = (
    "seed data.data_dir data.batch_size model optimizer.learning_rate schedule.epochs"
)


@pytest.mark.parametrize("room", NAMES)
def test_a_room_has_its_names(room):
    module = importlib.import_module(f"optnet_jax.{room}")
    assert [n for n in NAMES[room].split() if not hasattr(module, n)] == []


def test_there_are_the_networks_and_the_activations():
    assert set(NETWORKS.split()) <= set(networks.NETWORKS)
    names = "sigmoid tanh softplus softsign relu leaky_relu elu swish"
    assert set(names.split()) <= set(objectives.ACTIVATIONS)


def test_signatures():
    (x0, depth) = list(inspect.signature(recurrences.iterate).parameters)[2:4]
    assert (x0, depth) == ("x0", "depth")
    assert "trajectory" in inspect.signature(recurrences.iterate).parameters
    fields = list(inspect.signature(structures.Propagation).parameters)
    assert fields[:4] == ["recurrence", "transform", "depth", "tied"]
    ball = recurrences.HeavyBall(1.0, -1.0)
    assert (ball.beta1, ball.beta2) == (1.0, -1.0)
    assert recurrences.heavy_ball(0.3) == recurrences.HeavyBall(0.3, -0.3)


@pytest.mark.parametrize("name", CONFIGS)
def test_there_is_the_config(name):
    config = configuration.load(f"configs/{name}.py")
    assert config.name == name
    if config.get("experiment", "train") == "train":
        assert set(FIELDS.split()) <= set(configuration.fields(config))
