import pytest
from ml_collections import ConfigDict, FieldReference

from optnet_jax.configuration import overrides
from optnet_jax.errors import InputError

KINDS = {
    "agd_net": {"tied": bool, "batch_norm_group": int | None, "beta": float},
    "other": {"tied": bool},
}


@pytest.fixture
def config():
    config = ConfigDict(
        {
            "experiment": "a study",
            "seed": 0,
            "deterministic": False,
            "optimizer": {"learning_rate": 0.1, "exclude": ()},
            "model": {"name": "agd_net", "stage_sizes": (3, 3)},
        }
    )
    return config.lock()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.optimzer.learning_rate=1", "mean --config.optimizer.learning_rate"),
        ("--config.sede=1", r"did you mean --config.seed\?"),
        ("--config.xyzzy=1", "there are deterministic, experiment, model, optimizer, "),
        ("-config.noseed", "no such config field"),
        ("--config..seed=1", r"--config..seed: .*did you mean --config.seed\?"),
        ("--config.optimizer.lr=1", "mean --config.optimizer.learning_rate"),
        ("--config.lr=1", "mean --config.optimizer.learning_rate"),
        ("--config.learning_rate=1", "mean --config.optimizer.learning_rate"),
        ("--config.optimizer={}", "a block: .*--config.optimizer.exclude"),
        ("--config.model.name.x=1", r"--config.model.name.x: there is no such config"),
        ("--config.model.=1", "--config.model.: there is no such config field"),
        ("--config.seed", "--config.seed has no value: write --config.seed=VALUE"),
        ("--noconfig.seed", "--noconfig.seed has no value"),
        ("--config.model.name", "--config.model.name has no value"),
        ("--config.seed=a", "--config.seed='a' must be a whole number or a finite"),
        ("--config.deterministic=maybe", "='maybe' must be True or False"),
        ("--config.model.tied=best", "tied='best' must be True or False"),
        ("--config.model.tied=2", "tied='2' must be True or False"),
        ("--config.model.batch_norm_group=5.5", "=5.5 must be a whole number or None"),
        ("--config.model.beta=nan", "beta='nan' must be a finite number"),
    ],
)
def test_what_cannot_be_set_is_one_line(config, argument, message):
    with pytest.raises(InputError, match=message) as caught:
        overrides.override(config, ["main", argument], KINDS.get)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--config.seed=1"], "seed", 1),
        (["--config.seed", "-1"], "seed", -1),
        # A file may say 1 where 0.5 can be meant; the Block knows.
        (["--config.seed=0.5"], "seed", 0.5),
        (["--config.optimizer.learning_rate=1"], "optimizer.learning_rate", 1.0),
        (["--config.optimizer.exclude=bias"], "optimizer.exclude", ("bias",)),
        (["--config.optimizer.exclude=a, b"], "optimizer.exclude", ("a", "b")),
        (["--config.optimizer.exclude=0.5"], "optimizer.exclude", (0.5,)),
        (["--config.optimizer.exclude=[1,2]"], "optimizer.exclude", (1, 2)),
        (["--config.deterministic"], "deterministic", True),
        (["--noconfig.deterministic"], "deterministic", False),
        (["-config.deterministic=on"], "deterministic", True),
        (["--config.deterministic", "TRUE"], "deterministic", True),
        (["--config.model.tied"], "model.tied", True),
        (["--noconfig.model.tied"], "model.tied", False),
        (["--config.model.tied=FALSE"], "model.tied", False),
        (["--config.model.tied=no"], "model.tied", False),
        (["--config.model.tied=off"], "model.tied", False),
        (["--config.model.tied=f"], "model.tied", False),
        (["--config.model.tied=Yes"], "model.tied", True),
        (["--config.model.tied=1"], "model.tied", True),
        (["--config.model.batch_norm_group=none"], "model.batch_norm_group", None),
        (["--config.model.batch_norm_group=4"], "model.batch_norm_group", 4),
        (["--config.model.beta=1"], "model.beta", 1.0),
        (["--config.model.beta", "0.5"], "model.beta", 0.5),
        # The network is named after its field, and has none of another's kinds.
        (
            ["--config.model.tied=off", "--config.model.name=other"],
            "model",
            {"name": "other", "stage_sizes": (3, 3), "tied": False},
        ),
        # What no network knows is said where the network is made.
        (["--config.model.name=new", "--config.model.x=[1]"], "model.x", [1]),
        (["--config.model.stage_sizes=(1,)"], "model.stage_sizes", (1,)),
    ],
)
def test_a_text_is_read_as_the_kind_of_its_field(config, arguments, field, value):
    argv = ["main", *arguments, "--mode=x"]
    assert overrides.override(config, argv, KINDS.get) == ["main", "--mode=x"]
    found = config.get(field)
    if isinstance(found, ConfigDict):
        found = found.to_dict()
    assert found == value
    assert type(found) is type(value)
    assert config.is_locked


def test_a_field_that_others_refer_to_is_set_for_all():
    rate = FieldReference(1)
    config = ConfigDict({"experiment": "a study", "rate": rate, "twice": 2 * rate})
    overrides.override(config, ["--config.rate=3"], KINDS.get)
    assert (config.rate, config.twice) == (3, 6)


def test_a_training_config_of_few_fields_can_be_overridden_in_all():
    config = ConfigDict({"name": "mine", "optimizer": {"momentum": 0.5}})
    argv = ["--config.model.name=agd_net", "--config.data.erase=1"]
    overrides.override(config.lock(), argv, KINDS.get)
    assert config.optimizer.momentum == 0.5
    assert config.optimizer.learning_rate == 0.1
    assert config.eval.checkpoint == "last"
    assert (config.model.name, config.data.erase) == ("agd_net", 1)
    study = ConfigDict({"experiment": "table2"})
    overrides.add_defaults(study)
    assert study.to_dict() == {"experiment": "table2"}
    with pytest.raises(InputError, match="config.model.x: there is no such config f"):
        overrides.override(study, ["--config.model.x=1"], KINDS.get)


def test_a_network_is_a_block_of_its_name_and_fields():
    config = ConfigDict({"name": "mine"})
    match = "--config.model is a block: set its fields, such as --config.model.name$"
    with pytest.raises(InputError, match=match):
        overrides.override(config, ["--config.model=agd_net"], KINDS.get)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config.model.name=other"], "holds for other, too: model.tied"),
        (["--config.model.name=other", "--config.model.tied=off"], ""),
        (["--config.model.tied=off"], ""),
        (["--config.model.name=mine"], ""),
        (["--config.model.name=unknown"], ""),
    ],
)
def test_what_another_network_takes_over_is_said(config, caplog, arguments, said):
    with config.unlocked():
        config.model.tied = True
    overrides.override(config, arguments, KINDS.get)
    assert said in caplog.text
    assert bool(caplog.text) == bool(said)


@pytest.mark.parametrize("block", [3, "x", None, (1,)])
def test_a_block_of_the_file_that_is_none(block):
    config = ConfigDict({"name": "mine", "model": block, "data": block})
    for argument in ("--config.model.name=x", "--config.data.erase=1"):
        with pytest.raises(InputError) as caught:
            overrides.override(config, [argument], KINDS.get)
        assert "\n" not in str(caught.value)
