import pytest
from ml_collections import ConfigDict

from optnet_jax import configuration
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


def test_a_file_of_the_current_directory_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert configuration.find_file("configs/digits_agd.py").is_absolute()
    (tmp_path / "configs").mkdir()
    mine = tmp_path / "configs" / "digits_agd.py"
    mine.write_text("def get_config():\n    return {'mine': True}\n")
    assert configuration.find_file("configs/digits_agd.py").resolve() == mine
    assert configuration.load("configs/digits_agd.py") == {"mine": True}


def test_arguments_reach_the_config():
    loaded = configuration.load("configs/digits_agd.py:seed=3")
    assert loaded.seed == 3
    assert loaded.name == "digits_agd-seed=3"


def test_a_missing_file_is_named_with_the_nearest():
    with pytest.raises(InputError, match="did you mean configs/digits_agd.py"):
        configuration.find_file("configs/digit_agd.py")
    with pytest.raises(InputError, match="there are configs/cifar_agd.py, "):
        configuration.find_file("elsewhere/zzz.py")


def test_a_file_without_get_config_is_refused(tmp_path):
    file = tmp_path / "empty.py"
    file.write_text("")
    with pytest.raises(InputError, match=r"empty.py defines no get_config\(\)"):
        configuration.load(str(file))


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
        configuration.check_fields(config, ["main", argument])


def test_known_fields_and_all_fields_of_the_model_pass(config):
    configuration.check_fields(
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
    rest = configuration.add_model_fields(config, argv, {"agd_net": kinds}.get)
    assert rest == ["main", "--config.seed=1"]
    assert config.model.to_dict() == {
        "name": "agd_net",
        "stage_sizes": (1,),
        "growth_rate": 4,
        "bottleneck": True,
        "stem": "imagenet",
    }
    assert config.is_locked
