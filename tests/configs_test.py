"""Every packaged config: that it can be built, and that its numbers are the paper's."""

import ast
import inspect

import jax
import jax.numpy as jnp
import pytest
from optnet_jax.configs import recipes

from optnet_jax import configuration, data
from optnet_jax.configuration import TrainConfig
from optnet_jax.errors import InputError
from optnet_jax.inspect.cost import cost
from optnet_jax.networks import NETWORKS
from optnet_jax.training.experiment import create_network
from optnet_jax.training.schedule import steps_in_run

FAMILIES = ("agd", "densenet", "hb", "resnet")
NAMES = [
    f"{stem}_{family}"
    for stem in ("digits", "fashion", "cifar", "imagenet")
    for family in FAMILIES
] + ["digits_vit", "fashion_vit"]


def load(name, arguments=""):
    return configuration.load(f"configs/{name}.py:{arguments}".rstrip(":"))


@pytest.mark.parametrize("name", NAMES)
def test_every_config_describes_a_network_that_fits_its_images(name):
    config = load(name)
    assert config.name == name
    assert config.model.name in NETWORKS
    spec = data.get_spec(config.data.dataset)
    module = create_network(TrainConfig.of(config), spec.num_classes)
    # A unit a stage: what all of them cost is held elsewhere.
    sizes = getattr(module, "stage_sizes", ())
    if sizes:
        module = module.clone(stage_sizes=(1,) * len(sizes))
    images = jax.ShapeDtypeStruct((64, *spec.image_shape), jnp.float32)
    logits = jax.eval_shape(
        lambda x: module.init_with_output(jax.random.key(0), x, train=False)[0], images
    )
    assert logits.shape == (64, spec.num_classes)


@pytest.mark.parametrize("stem", ["digits", "fashion", "folder", "cifar", "imagenet"])
def test_the_families_differ_in_the_model_alone(stem):
    rests = []
    for family in FAMILIES:
        config = load(f"{stem}_{family}").to_dict()
        rests.append({k: v for k, v in config.items() if k not in ("model", "name")})
    assert all(rest == rests[0] for rest in rests)


def test_cifar_is_trained_as_in_7_1():
    config = load("cifar_agd")
    assert config.optimizer.to_dict() == {
        "name": "sgd",
        "options": "",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 1e-4,
        "decay_exclude": (),
        "clip_norm": 0.0,
        "accumulate": 1,
    }
    assert config.schedule.epochs == 300
    assert config.schedule.decay == "steps"
    assert config.schedule.drop_at == (0.5, 0.75)
    assert config.schedule.drop_factor == 0.1
    assert config.data.batch_size == 64
    assert steps_in_run(TrainConfig.of(config).schedule, 50_000 // 64) == 234_300
    extras = (config.loss.label_smoothing, config.average.decay)
    assert extras == (0.0, 0.0)
    assert config.schedule.warmup_epochs == 0
    assert config.precision == "float32"


def test_fashion_mnist_is_trained_as_cifar_for_fewer_epochs():
    ours, theirs = (load(f"{stem}_agd").to_dict() for stem in ("fashion", "cifar"))
    assert ours["optimizer"] == theirs["optimizer"]
    assert ours["schedule"] | {"epochs": 300.0} == theirs["schedule"]
    assert ours["data"] | {"dataset": "", "augment": False} == theirs["data"] | {
        "dataset": ""
    }


@pytest.mark.parametrize(
    ("stem", "shape"), [("fashion", (28, 28, 1)), ("folder", (64, 64, 3))]
)
def test_the_networks_of_a_set_are_of_one_size(stem, shape):
    """Parameters and multiply-adds of the four families agree to one per cent."""
    found = []
    for family in FAMILIES:
        module = create_network(TrainConfig.of(load(f"{stem}_{family}")), 10)
        of_one = cost(module, shape)
        found.append((of_one.parameters, of_one.multiply_adds))
    for sizes in zip(*found, strict=True):
        assert max(sizes) < 1.01 * min(sizes)


def test_imagenet_is_trained_as_in_7_1():
    config = load("imagenet_agd")
    assert config.optimizer.to_dict() == load("cifar_agd").optimizer.to_dict()
    assert config.schedule.epochs == 100
    assert config.schedule.drop_at == (0.3, 0.6, 0.9)
    assert config.data.batch_size == 256
    assert config.data.augment
    assert config.model.batch_norm_group == 64


def test_runs_of_different_arguments_have_different_names():
    arguments = ["", "seed=1", "depth=52", "augment=True", "dataset=cifar100"]
    names = {load("cifar_agd", text).name for text in arguments}
    assert len(names) == len(arguments)
    assert "cifar_agd-dataset=cifar100" in names


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ("dept=52", r"'dept=52' is unknown \(did you mean 'depth'\?\)"),
        ("depth=deep", "depth='deep' must be a whole number"),
        ("depth=41", "depth=41 is unknown: choose 40, 52"),
        ("augment=perhaps", "augment='perhaps' must be True or False"),
        ("dataset=mnist", "choose cifar10, cifar100"),
        ("depth=400", r"depth=400 is unknown \(did you mean '40'\?\): choose 40, 52"),
        ("depth", "argument depth has no value: write depth=VALUE, such as depth=40"),
        ("dept", r"'dept' is unknown \(did you mean 'depth'\?\)"),
        ("depth=40,depth=52", "argument depth comes twice"),
    ],
)
def test_bad_arguments_are_named(arguments, match):
    with pytest.raises(InputError, match=match):
        load("cifar_agd", arguments)


def test_defaults_are_parsed_from_nothing():
    assert recipes.parse("", {"seed": 0}) == {"seed": 0}
    assert recipes.parse(" seed = 3 ,", {"seed": 0}) == {"seed": 3}


@pytest.mark.parametrize("name", NAMES)
def test_a_config_says_how_to_run_it(name):
    file = configuration.find_file(f"configs/{name}.py")
    text = ast.get_docstring(ast.parse(file.read_text("utf-8")))
    assert f"python -m optnet_jax.main --config=configs/{name}.py" in text
    assert "Arguments:" in text


def test_every_field_is_read_somewhere():
    """An option that nothing reads is a promise that nobody keeps."""
    from optnet_jax import main
    from optnet_jax.data import stream
    from optnet_jax.training import (
        evaluate,
        experiment,
        loop,
        optimizer,
        result,
        run,
        schedule,
    )

    rooms = (main, data, stream)
    parts = (evaluate, experiment, loop, optimizer, result, run, schedule)
    text = "".join(map(inspect.getsource, rooms + parts))
    leaves = {
        field.split(".")[-1]
        for name in ("cifar_hb", "imagenet_hb")
        for field in configuration.fields({**load(name), "model": {}})
    }
    assert {leaf for leaf in leaves if leaf not in text} == set()
