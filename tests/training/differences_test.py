from optnet_jax import networks
from optnet_jax.training.differences import config_differences, listed, settled


def test_added_and_removed_fields_are_differences():
    assert config_differences({"a": 1}, {"b": {"c": 2}}) == [
        "a was 1, now not set",
        "b.c was not set, now 2",
    ]


def base(**model):
    return {
        "name": "a",
        "experiment": "train",
        "seed": 0,
        "data": {"dataset": "optnet_digits"},
        "model": {"name": "hb_net", **model},
    }


def test_a_default_that_is_written_out_is_no_difference():
    old, new = base(), base(beta2=-1.0, tied=False, num_classes=10)
    new["optimizer"] = {"momentum": 0.9}
    new["average"] = {"decay": 0.0}
    new["data"]["crop"] = "random_resized"
    assert config_differences(old, new) == []


def test_the_networks_own_defaults_count():
    """A ResNet is an HB-Net with another β2, which neither config names."""
    old, new = base(), base()
    new["model"]["name"] = "resnet"
    assert config_differences(old, new) == [
        "model.beta2 was -1.0, now 0.0",
        "model.name was hb_net, now resnet",
        "model.post_activation was False, now True",
    ]


def test_only_what_is_asked_for_is_compared():
    old, new = base(), base(start="zero")
    new["seed"] = 3
    assert config_differences(old, new, only=("model",)) == [
        "model.start was same, now zero"
    ]
    assert config_differences(old, new, only=("model.start", "seed")) == [
        "model.start was same, now zero",
        "seed was 0, now 3",
    ]


def test_a_field_that_no_version_knows_stays_a_difference():
    old = base() | {"removed": {"option": 3}}
    assert config_differences(old, base()) == ["removed.option was 3, now not set"]


def test_blocks_that_are_none_are_differences_and_a_message_stays_short():
    found = config_differences(base() | {"data": 3, "model": "x" * 5000}, base())
    assert "data was 3, now not set" in found
    assert len(listed(found)) < 800
    assert listed(found).endswith(" more fields")


def test_the_classes_of_an_unset_network_are_the_datasets():
    old = base()
    old["data"]["dataset"] = "cifar100"
    assert settled(old)["model"]["num_classes"] == 100


def test_the_classes_of_a_folder_are_not_the_networks_own_default():
    unset, two, three = base(), base(num_classes=2), base(num_classes=3)
    for config in (unset, two, three):
        config["data"]["dataset"] = "optnet_folder"
    assert "num_classes" not in settled(unset)["model"]
    assert config_differences(unset, two) == config_differences(two, unset) == []
    assert config_differences(unset, two, only=("model",)) == []
    assert config_differences(two, three) == ["model.num_classes was 2, now 3"]


def test_the_classes_of_a_network_without_a_default_are_the_datasets(monkeypatch):
    def net(num_classes):
        raise AssertionError

    monkeypatch.setitem(networks.NETWORKS, "own", net)
    old, new = base(name="own"), base(name="own", num_classes=10)
    assert config_differences(old, new) == []
    new["model"]["num_classes"] = 11
    assert config_differences(old, new) == ["model.num_classes was 10, now 11"]
