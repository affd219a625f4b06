import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from optnet_jax.configuration import overrides
from optnet_jax.errors import InputError


@pytest.fixture
def config():
    config = ConfigDict(
        {
            "seed": 0,
            "optimizer": {"learning_rate": 0.1},
            "model": {"name": "agd_net", "stage_sizes": (3, 3)},
        }
    )
    return config.lock()


@pytest.mark.parametrize(
    ("argument", "match"),
    [
        ("--config.optimzer.learning_rate=1", "mean --config.optimizer.learning_rate"),
        ("--config.sede=1", r"did you mean --config.seed\?"),
        ("--config.xyzzy=1", "there are model, optimizer, seed"),
        ("-config.noseed", "no such config field"),
    ],
)
def test_unknown_fields_are_refused(config, argument, match):
    with pytest.raises(InputError, match=match):
        overrides.check_fields(config, ["main", argument])


def test_known_fields_and_all_fields_of_the_model_pass(config):
    overrides.check_fields(
        config, ["main", "--config.seed=1", "--config.model.growth_rate=4", "--mode=x"]
    )


def test_model_fields_that_the_file_leaves_out_are_added(config):
    argv = [
        "main",
        "--config.model.growth_rate=4",
        "--config.model.bottleneck=true",
        "--config.model.stem=imagenet",
        "--config.model.stage_sizes=(1,)",
        "--config.seed=1",
    ]
    kinds = {"stem": str, "stage_sizes": tuple[int, ...]}
    rest = overrides.add_model_fields(config, argv, {"agd_net": kinds}.get)
    assert rest == ["main", "--config.seed=1"]
    assert config.model.to_dict() == {
        "name": "agd_net",
        "stage_sizes": (1,),
        "growth_rate": 4,
        "bottleneck": True,
        "stem": "imagenet",
    }
    assert config.is_locked


KINDS = {"agd_net": {"tied": bool, "batch_norm_group": int | None, "beta": float}}


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--config.model.tied", True),
        ("--noconfig.model.tied", False),
        ("--config.model.tied=FALSE", False),
        ("--config.model.tied=no", False),
        ("--config.model.tied=off", False),
        ("--config.model.tied=Yes", True),
        ("--config.model.tied=1", True),
        ("--config.model.batch_norm_group=none", None),
        ("--config.model.batch_norm_group=4", 4),
        ("--config.model.beta=1", 1.0),
    ],
)
def test_a_model_field_is_converted_as_the_network_declares_it(config, argument, value):
    overrides.add_model_fields(config, ["main", argument], KINDS.get)
    name = argument.partition("=")[0].rpartition(".")[2]
    assert config.model[name] == value
    assert type(config.model[name]) is type(value)


@pytest.mark.parametrize(
    ("argument", "match"),
    [
        ("--config.model.tied=best", "tied='best' must be True or False"),
        ("--config.model.tied=2", "tied='2' must be True or False"),
        ("--config.model.batch_norm_group=5.5", "'5.5' must be a whole number or None"),
        ("--config.model.beta=nan", "beta='nan' must be a finite number"),
    ],
)
def test_a_text_that_is_none_of_its_kind_is_refused(config, argument, match):
    with pytest.raises(InputError, match=match):
        overrides.add_model_fields(config, ["main", argument], KINDS.get)


def test_the_kinds_are_those_of_the_network_that_is_named_with_them(config):
    argv = ["main", "--config.model.tied=off", "--config.model.name=other"]
    overrides.add_model_fields(
        config, argv, {"agd_net": {}, "other": {"tied": bool}}.get
    )
    assert config.model.tied is False
    assert config.model.name == "other"


def test_a_value_may_stand_behind_its_field(config):
    argv = ["main", "--config.model.beta", "0.5", "--config.seed=1"]
    rest = overrides.add_model_fields(config, argv, KINDS.get)
    assert rest == ["main", "--config.seed=1"]
    assert config.model.beta == 0.5


def test_a_block_is_not_set_as_a_whole(config):
    with pytest.raises(
        InputError, match=r"a block: .*--config.optimizer.learning_rate"
    ):
        overrides.check_fields(config, ["main", "--config.optimizer={}"])


@pytest.mark.parametrize("field", ["optimizer.lr", "lr", "learning_rate"])
def test_an_abbreviation_is_understood_by_the_hint(config, field):
    with pytest.raises(InputError, match="mean --config.optimizer.learning_rate"):
        overrides.check_fields(config, ["main", f"--config.{field}=1"])


def test_a_training_config_of_few_fields_can_be_overridden_in_all():
    config = ConfigDict({"name": "mine", "optimizer": {"momentum": 0.5}})
    overrides.add_defaults(config.lock())
    assert config.optimizer.momentum == 0.5
    assert config.optimizer.learning_rate == 0.1
    assert config.eval.checkpoint == "last"
    study = ConfigDict({"experiment": "table2"})
    overrides.add_defaults(study)
    assert study.to_dict() == {"experiment": "table2"}


@pytest.mark.parametrize(
    ("text", "value"),
    [("off", False), ("No", False), ("f", False), ("on", True), ("1", True)],
)
def test_every_switch_is_read_in_the_same_words(text, value):
    values = flags.FlagValues()
    flags.DEFINE_bool("alone", not value, "", flag_values=values)
    flags.DEFINE_string("text", "", "", flag_values=values)
    argv = ["main", f"--alone={text}", f"-config.a.b={text}", f"--text={text}"]
    config_flags.DEFINE_config_dict(
        "config",
        ConfigDict({"a": {"b": not value}}),
        flag_values=values,
        sys_argv=argv,
    )
    values(overrides.settle_switches(argv, values))
    assert (values.alone, values.config.a.b, values.text) == (value, value, text)
    with pytest.raises(InputError, match="--alone='offf' must be True or False"):
        overrides.settle_switches(["main", "--alone=offf"], values)
