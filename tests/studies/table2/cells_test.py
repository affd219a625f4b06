import jax
import pytest
from optnet_jax.configs import table2 as config_file

from optnet_jax.errors import InputError
from optnet_jax.recurrences import NesterovSum
from optnet_jax.studies.table2.cells import (
    Cell,
    learning_rate,
    make_network,
    plan,
    train_cell,
)


def small_config():
    config = config_file.get_config()
    config.task = {"samples": 40, "dim": 8}
    config.batch_size, config.steps = 10, 6
    config.seeds = (0, 1)
    return config


def test_the_plan_has_every_cell_once():
    cells = plan(config_file.get_config())
    assert len({cell.name for cell in cells}) == len(cells) == 7 * 4 + 2 * 2
    by_name = {cell.name: cell for cell in cells}
    assert by_name["gd_depth40"].checkpoints == (1000,)
    assert by_name["agd_readout_depth10"].checkpoints[-1] == 2000
    assert 1000 in by_name["hb_depth10"].checkpoints
    assert by_name["admm_separate_depth40"].work == 2 * by_name["gd_depth40"].work


def test_a_depth_for_the_timing_alone_is_added():
    config = config_file.get_config()
    config.depths, config.timing.depth = (20,), 5
    assert {c.depth for c in plan(config) if c.structure == "agd"} == {5, 20}


def test_full_is_a_thousand_full_batches():
    config = config_file.get_config("full")
    assert (config.steps, config.batch_size) == (1000, config.task.samples)
    assert config.name != config_file.get_config().name
    with pytest.raises(InputError, match="the only argument is full"):
        config_file.get_config("fulll")


def test_a_cells_network_is_the_structure_untied():
    config = small_config()
    config.network.use_bias = True
    network = make_network(Cell("admm_separate", 3, (6,)), config)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jax.numpy.zeros(8))
    layers = shapes["params"]["layers"]
    assert set(layers) == {"transform", "transform_prime"}
    assert layers["transform"]["linear"]["kernel"].shape == (3, 8, 8)
    assert layers["transform_prime"]["linear"]["bias"].shape == (3, 8)


def test_the_slow_contender_has_the_lower_rate():
    config = small_config()
    config.optimizer.learning_rate = 0.5
    rates = [learning_rate(Cell(s, 3, (6,)), config) for s in ("agd2", "agd2_slow")]
    assert rates == pytest.approx([0.5, 0.05])
    network = make_network(Cell("agd2_slow", 3, (6,)), config)
    assert network.recurrence == NesterovSum()


def test_divergence_is_said_and_not_tabulated():
    config = small_config()
    config.optimizer.learning_rate = float("inf")
    with pytest.raises(InputError, match=r"GD \(7\) with 2 layers diverged: lower"):
        train_cell(Cell("gd", 2, (6,)), config)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("structures", ("gd", "sgd"), "'sgd'"),
        ("structures", ("gd", "gd"), "structures=.* must name each once"),
        ("structures", (), "structures=.* must have at least 1"),
        ("depths", (10, 0), "depths has 0: each must be at least 1"),
        ("depths", (10, 10), "depths=.* must name each once"),
        ("seeds", (), "seeds=.* must have at least 1"),
        ("seeds", ("a",), "seeds has 'a': each must be a whole number"),
        ("steps", 0, "steps=0 must be at least 1"),
        ("batch_size", 7, "batch_size=7 must divide config.task.samples=40"),
        ("task.dim", 0, "task.dim=0 must be at least 1"),
        ("timing.checkpoints", (0, 5), "timing.checkpoints has 0: each must be at"),
        ("readout.depths", (-1,), "readout.depths has -1: each must be at"),
        ("parallel_cells", 0, "parallel_cells=0 must be at least 1"),
        ("network.activation", "sigmoyd", "'sigmoyd' is unknown: use sigmoid or"),
        ("network.init", "xavier", "xavier_normal"),
        ("optimizer.learning_rate", 0.0, "learning_rate=0.0 must be at least"),
        ("optimizer.momentum", 1.0, r"momentum=1\.0 must be at least 0 and below 1"),
        ("matmul_precision", "high-est", "matmul_precision"),
    ],
)
def test_what_cannot_be_run_is_one_line_before_anything_slow(field, value, message):
    config = small_config()
    with config.unlocked():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=message) as caught:
        plan(config)
    assert "\n" not in str(caught.value)
