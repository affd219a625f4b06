import functools
from typing import Any

import jax
import pytest
from flax import linen as nn

from optnet_jax.errors import InputError
from optnet_jax.inspect.cost import cost
from optnet_jax.networks import NETWORKS, create

CIFAR = (32, 32, 3)
IMAGENET = (224, 224, 3)
# name: image shape, parameters at the default number of classes, multiply-adds.
# Published: LeNet-5 61,706; VGG-16 138.36 M and 15.5 G; ResNet-20, -56, -110 0.27 M,
# 0.85 M, 1.7 M; ResNet-34 21,797,672; DFN-MR1 1.7 M; DenseNet-121 7,978,856;
# ViT-Ti/16, S/16 and B/16 5,717,416, 22,050,664 and 86,567,656.
GOLDEN = {
    "lenet5": ((32, 32, 1), 61_706, 416_520),
    "vgg16": (IMAGENET, 138_357_544, 15_470_264_320),
    "plain": (CIFAR, 269_722, 40_551_040),
    "resnet20": (CIFAR, 269_722, 40_551_040),
    "resnet56": (CIFAR, 853_018, 125_485_696),
    "resnet110": (CIFAR, 1_727_962, 252_887_680),
    "resnet34": (IMAGENET, 21_797_672, 3_663_761_408),
    "hb_net20": (CIFAR, 269_722, 40_551_040),
    "hb_net56": (CIFAR, 853_018, 125_485_696),
    "hb_net110": (CIFAR, 1_727_962, 252_887_680),
    "hb_net34": (IMAGENET, 21_797_672, 3_663_761_408),
    "nesterov_net56": (CIFAR, 853_018, 125_485_696),
    "dmr_net56": (CIFAR, 1_710_426, 251_052_672),
    "admm_net": (CIFAR, 853_018, 250_528_384),
    "densenet40": (CIFAR, 1_019_722, 264_812_928),
    "densenet52": (CIFAR, 1_785_466, 459_290_400),
    "densenet121": (IMAGENET, 7_978_856, 2_834_161_664),
    "densenet_bc100": (CIFAR, 769_162, 287_929_692),
    "agd_net40": (CIFAR, 1_019_956, 264_812_928),
    "agd_net52": (CIFAR, 1_785_874, 459_290_400),
    "agd_net121": (IMAGENET, 7_979_391, 2_834_161_664),
    "vit": (IMAGENET, 5_717_416, 1_253_683_200),
    "vit_tiny16": (IMAGENET, 5_717_416, 1_253_683_200),
    "vit_small16": (IMAGENET, 22_050_664, 4_598_882_304),
    "vit_base16": (IMAGENET, 86_567_656, 17_563_828_224),
    "yurii_vit": (IMAGENET, 5_717_416 + 72, 1_253_683_200),
}
ALIASES = {
    "resnet": "resnet56",
    "hb_net": "hb_net56",
    "nesterov_net": "nesterov_net56",
    "dmr_net": "dmr_net56",
    "densenet": "densenet40",
    "agd_net": "agd_net40",
}
# With 100 classes; an AGD-Net adds its α to its DenseNet.
HUNDRED_CLASSES = {
    "resnet20": 275_572,
    "hb_net56": 858_868,
    "hb_net110": 1_733_812,
    "densenet40": 1_060_132,
    "densenet52": 1_838_836,
    "agd_net40": 1_060_132 + 234,
    "agd_net52": 1_838_836 + 408,
}


def test_no_network_escapes_the_table():
    assert set(NETWORKS) == GOLDEN.keys() | ALIASES.keys()


@pytest.mark.parametrize("name", ALIASES)
def test_a_family_without_a_number_is_its_first_network(name):
    assert create(name) == create(ALIASES[name])


@pytest.mark.parametrize("name", GOLDEN)
def test_parameters_and_multiply_adds(name):
    image_shape, parameters, macs = GOLDEN[name]
    found = cost(create(name), image_shape)
    assert found.parameters == parameters
    assert found.multiply_adds == macs
    for leaf in jax.tree.leaves(found.variables):
        assert leaf.dtype == "float32"
    if name in HUNDRED_CLASSES:
        features, classes = found.variables["params"]["head"]["kernel"].shape
        more = (100 - classes) * (features + 1)
        assert found.parameters + more == HUNDRED_CLASSES[name]


def test_unknown_name_suggests_the_nearest_and_lists_all():
    with pytest.raises(InputError, match=r"did you mean 'hb_net56'.*resnet110"):
        create("hbnet56")


def test_unknown_field_suggests_the_nearest_and_lists_all():
    with pytest.raises(InputError, match=r"did you mean 'stage_sizes'.*boundary"):
        create("hb_net20", stagesizes=(1, 1, 1))
    with pytest.raises(InputError, match="has no field 'recurrence'"):
        create("hb_net20", recurrence=None)


class Own(nn.Module):
    """What a user registers: fields of his own, annotated or not."""

    features: int
    rate: float | None = 0.5
    labels: tuple[str, ...] = ()
    init: Any = None
    width: float = 1.0

    def __call__(self, images, train=False):
        return images


class NeverCalled(nn.Module):
    pass


class NeverTrained(nn.Module):
    def __call__(self, images):
        return images


@pytest.mark.parametrize(
    ("constructor", "fields", "message"),
    [
        (Own, {}, "network 'own' needs a value of its field 'features'"),
        (Own, {"features": "many"}, "features='many' must be a whole number"),
        (Own, {"features": 1, "rate": "a"}, "rate='a' must be a finite number or None"),
        (Own, {"features": 1, "width": "a"}, "width='a' must be a finite number"),
        (Own, {"features": 1, "labels": (1,)}, "labels has 1: each must be text"),
        (
            Own(3),
            {},
            r"NETWORKS\['own'\] must be the class of a network, .* made alread",
        ),
        (None, {}, r"NETWORKS\['own'\] must be the class of a network, .* got None"),
        (functools.partial(Own, feature=3), {}, "must be the class of a network"),
        (
            lambda: Own,
            {},
            "network 'own' is a .*Own.*: what NETWORKS holds must return",
        ),
        (lambda: None, {}, "network 'own' is a NoneType, None: what NETWORKS holds"),
        (
            NeverTrained,
            {},
            r"\(images, train\), which NeverTrained does not take: it takes .* got",
        ),
        (NeverCalled, {}, r"\(images, train\), which NeverCalled does not take"),
    ],
)
def test_what_a_user_registers_is_refused_in_one_line(
    monkeypatch, constructor, fields, message
):
    monkeypatch.setitem(NETWORKS, "own", constructor)
    with pytest.raises(InputError, match=message) as caught:
        create("own", **fields)
    assert "\n" not in str(caught.value)


def test_what_a_user_registers_has_fields_of_any_kind(monkeypatch):
    monkeypatch.setitem(NETWORKS, "own", Own)
    network = create("own", features=3, rate=None, labels=["a"], init=lambda: 0)
    assert network.rate is None  # pyright: ignore
    # One of ours is a whole number of that name.
    assert create("own", features=3, width=0.5).width == 0.5  # pyright: ignore


def test_a_constructor_of_any_keywords_is_given_all(monkeypatch):
    monkeypatch.setitem(NETWORKS, "own", lambda **fields: Own(fields["num_classes"]))
    assert create("own", num_classes=7).features == 7  # pyright: ignore


def test_overrides_reach_the_network():
    network = create("resnet56", num_classes=7, widths=(4, 8, 16), beta2=0.5)
    assert network.num_classes == 7  # pyright: ignore
    assert network.recurrence.beta2 == 0.5  # pyright: ignore
    assert network.stage_sizes == (9, 9, 9)  # pyright: ignore
