import json
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from optnet_jax import networks
from optnet_jax.configuration import TrainConfig, as_json
from optnet_jax.errors import InputError
from optnet_jax.training.checkpoint import Checkpoints
from optnet_jax.training.leaves import flatten
from optnet_jax.training.origin import Origin
from optnet_jax.training.steps import create_state
from optnet_jax.training.warm_start import read_source, read_variables, take_over
from optnet_jax.weights import state_dict, torchvision

SHARDING = jax.sharding.SingleDeviceSharding(jax.devices()[0])


def make_state(small, seed, momentum=0.9, average=False, **fields):
    optimizer = optax.sgd(0.1, momentum=momentum)
    key = jax.random.key(seed)
    module = small.SmallNet(**fields)
    return create_state(module, optimizer, key, (8, 8, 1), average=average)


def warm_start(state, module, source, learned=()):
    leaves = read_source(source, module, state, learned, SHARDING)
    return take_over(state, leaves, SHARDING)


@pytest.fixture
def saved(small, tmp_path):
    """Steps 1, 2, 3 of a run whose best step is 2; other seeds, other variables."""
    with Checkpoints(tmp_path / "checkpoints", sharding=SHARDING, keep=3) as store:
        for step in (1, 2, 3):
            state = make_state(small, step).replace(step=np.int32(step))
            store.save(state, {"best": {"step": 2}}, best_step=2)
        store.wait()
    return tmp_path


@pytest.mark.parametrize(("suffix", "seed"), [("", 3), ("@best", 2), ("@1", 1)])
def test_variables_of_the_named_step(small, saved, suffix, seed):
    fresh = make_state(small, 9, momentum=None, average=True)
    state = warm_start(fresh, small.SmallNet(), f"{saved}{suffix}")
    expected = make_state(small, seed).variables
    for found in (state.variables, state.average):
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert int(state.step) == 0
    assert jax.tree.structure(state) == jax.tree.structure(fresh)


def test_another_network_is_refused(small, saved):
    with pytest.raises(InputError, match=r"\(4,\) there and \(6,\) here"):
        warm_start(make_state(small, 0, features=6), small.SmallNet(), str(saved))


def test_missing_checkpoints_and_steps_are_named(small, saved, tmp_path):
    state = make_state(small, 0)
    with pytest.raises(InputError, match=r"use last, best, or a step of \[1, 2, 3\]"):
        warm_start(state, small.SmallNet(), f"{saved}@7")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="there is no checkpoint in"):
        warm_start(state, small.SmallNet(), str(tmp_path / "empty"))
    for missing in ("nowhere", "nowhere@best", "nowhere.npz"):
        with pytest.raises(InputError, match="there is no workdir"):
            warm_start(state, small.SmallNet(), str(tmp_path / missing))


def test_the_average_is_what_is_read(small, tmp_path):
    state = make_state(small, 0, average=True)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, state.average)
    place = save_run(tmp_path, state.replace(average=doubled))
    _, leaves, _ = read_variables(Path(place), "last", SHARDING)
    kernel = state.params["Conv_0"]["kernel"]
    np.testing.assert_array_equal(leaves["params.Conv_0.kernel"], 2 * kernel)
    assert all(name.startswith(("params.", "batch_stats.")) for name in leaves)


def test_weights_of_torchvision_are_taken_over(tmp_path):
    module = networks.create(
        "resnet34", stage_sizes=(1, 1), widths=(4, 8), num_classes=3
    )
    optimizer = optax.sgd(0.1)
    states = [
        create_state(module, optimizer, jax.random.key(seed), (32, 32, 3))
        for seed in (1, 2)
    ]
    file = tmp_path / "weights.npz"
    torchvision.save(module, states[0].eval_variables, file)
    warm = warm_start(states[1], module, str(file))
    jax.tree.map(np.testing.assert_array_equal, warm.params, states[0].params)
    assert jax.tree.structure(warm) == jax.tree.structure(states[1])
    with pytest.raises(InputError, match="missing.npz"):
        warm_start(states[1], module, str(tmp_path / "missing.npz"))


def drawn(name, seed, shape=(8, 8, 3), **fields):
    """A network and a state of it with random numbers, which need no compilation."""
    module = networks.create(name, **fields)
    shapes = jax.eval_shape(
        lambda key: create_state(module, optax.sgd(0.1), key, shape), jax.random.key(0)
    )
    rng = np.random.default_rng(seed)
    return module, jax.tree.map(
        lambda leaf: rng.random(leaf.shape).astype(leaf.dtype), shapes
    )


def save_run(workdir, state, config=None):
    origin = config and Origin(config, "")
    with Checkpoints(
        workdir / "checkpoints", sharding=SHARDING, origin=origin
    ) as store:
        store.save(state.replace(step=np.int32(4)), {"best": {}})
    return str(workdir)


DENSE = {"stage_sizes": (2, 1), "growth_rate": 4}


def test_agd_net_starts_from_a_run_and_from_a_file_of_densenet(tmp_path, capsys):
    _, source = drawn("densenet", 1, **DENSE)
    agd, fresh = drawn("agd_net", 2, **DENSE)
    state_dict.save_variables(tmp_path / "w.npz", source.eval_variables)
    for place in (save_run(tmp_path, source), str(tmp_path / "w.npz")):
        warm = flatten(warm_start(fresh, agd, place).params)
        expected = flatten(fresh.params) | flatten(source.params)
        coefficients = warm.keys() - flatten(source.params).keys()
        assert coefficients == {"stage_0.alpha", "stage_1.alpha"}
        jax.tree.map(np.testing.assert_array_equal, warm, expected)
        said = capsys.readouterr().out
        assert "has no coefficients params.stage_0.alpha, params.stage_1.alpha" in said
    densenet, other = drawn("densenet", 1, **DENSE)
    state_dict.save_variables(tmp_path / "agd.npz", fresh.eval_variables)
    with pytest.raises(InputError, match="it has params.stage_0.alpha, which"):
        warm_start(other, densenet, str(tmp_path / "agd.npz"))


def test_a_coefficient_that_has_a_weights_name_is_one_all_the_same(tmp_path, capsys):
    shape = (32, 32, 3)
    fields = {"depth": 2, "width": 4, "heads": 2, "mlp_width": 8, "num_classes": 3}
    momentum = {"recurrence": "momentum_resnet", "learned": ("scale",)}
    vit, source = drawn("vit", 1, shape, **fields)
    module, fresh = drawn("vit", 2, shape, **fields, **momentum)
    state_dict.save_variables(tmp_path / "own.npz", source.eval_variables)
    torchvision.save(vit, source.eval_variables, tmp_path / "torchvision.npz")
    for name in ("own", "torchvision"):
        warm = warm_start(
            fresh, module, str(tmp_path / f"{name}.npz"), learned={"encoder.scale"}
        )
        expected = flatten(fresh.params) | flatten(source.params)
        assert expected.keys() - flatten(source.params).keys() == {"encoder.scale"}
        jax.tree.map(np.testing.assert_array_equal, flatten(warm.params), expected)
        said = capsys.readouterr().out
        assert "has no coefficients params.encoder.scale: they start" in said


@pytest.mark.parametrize(
    "fields", [{"learned": ("beta1", "beta2"), "unroll": False}, {"tied": True}]
)
def test_a_file_of_any_network_is_a_start(tmp_path, fields):
    fields = {"stage_sizes": (3,), "widths": (4,), **fields}
    module, source = drawn("hb_net", 1, **fields)
    _, fresh = drawn("hb_net", 2, **fields)
    state_dict.save_variables(tmp_path / "w.npz", source.eval_variables)
    warm = warm_start(fresh, module, str(tmp_path / "w.npz"))
    jax.tree.map(np.testing.assert_array_equal, warm.variables, source.variables)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("hb_net34", {"stage_sizes": (1, 1), "widths": (4, 8)}),
        ("agd_net121", {"stage_sizes": (1, 1), "growth_rate": 4}),
        ("vit", {"depth": 1, "width": 4, "heads": 2, "mlp_width": 8}),
    ],
)
def test_the_layer_of_logits_of_other_classes_is_drawn_anew(
    tmp_path, capsys, name, fields
):
    shape = (32, 32, 3)
    module, source = drawn(name, 1, shape, num_classes=7, **fields)
    network, fresh = drawn(name, 2, shape, num_classes=3, **fields)
    state_dict.save_variables(tmp_path / "own.npz", source.eval_variables)
    torchvision.save(module, source.eval_variables, tmp_path / "torchvision.npz")
    head = {n for n in flatten(fresh.variables) if n.startswith("params.head.")}
    assert len(head) == 2
    files = (str(tmp_path / f"{kind}.npz") for kind in ("own", "torchvision"))
    for place in (save_run(tmp_path, source), *files):
        warm = flatten(warm_start(fresh, network, place).variables)
        weights = {n for n in warm if not n.endswith(".alpha")}
        for leaf in weights:
            other = fresh if leaf in head else source
            np.testing.assert_array_equal(warm[leaf], flatten(other.variables)[leaf])
        assert (
            f"{place} is of another number of classes, params.head.bias has shape "
            "(7,) there and (3,) here: the layer of logits is drawn anew\n"
        ) in capsys.readouterr().out


def test_a_layer_of_logits_that_differs_in_more_is_refused(tmp_path):
    fields = {"stage_sizes": (1,), "widths": (4,)}
    module, fresh = drawn("hb_net", 1, num_classes=3, **fields)
    _, source = drawn("hb_net", 2, num_classes=7, **fields)
    leaves = flatten(source.variables)
    for name, shape in {"kernel": (5, 7), "bias": (6,)}.items():
        odd = leaves | {f"params.head.{name}": np.zeros(shape, np.float32)}
        state_dict.write_state_dict(tmp_path / "w.npz", odd)
        with pytest.raises(InputError, match=r"w\.npz is of another network: params"):
            warm_start(fresh, module, str(tmp_path / "w.npz"))


def test_other_channels_and_stages_are_short(tmp_path):
    fields = {"stage_sizes": (1, 1), "widths": (4, 8)}
    module, state = drawn("resnet34", 0, (32, 32, 3), num_classes=3, **fields)
    others = {
        r"\(7, 7, 1, 4\) there and \(7, 7, 3, 4\) here": (
            (32, 32, 1),
            {"num_classes": 3},
        ),
        r"and \d+ more: give the network": ((32, 32, 3), {"stage_sizes": (3, 2)}),
    }
    for message, (shape, changed) in others.items():
        network, other = drawn("resnet34", 0, shape, **{**fields, **changed})
        torchvision.save(network, other.eval_variables, tmp_path / "w.npz")
        with pytest.raises(InputError, match=message) as caught:
            warm_start(state, module, str(tmp_path / "w.npz"))
        assert len(str(caught.value)) < 500


def test_a_path_with_an_at_sign_is_that_path(small, saved):
    odd = saved.rename(saved.with_name("runs@home"))
    fresh = make_state(small, 9)
    for source, seed in ((f"{odd}", 3), (f"{odd}@best", 2)):
        warm = warm_start(fresh, small.SmallNet(), source)
        expected = make_state(small, seed).params
        jax.tree.map(np.testing.assert_array_equal, warm.params, expected)


def test_other_options_of_the_source_are_said(small, tmp_path, capsys):
    config = TrainConfig.of(small.small_config(**{"precision": "bfloat16"}))
    state = make_state(small, 1)
    place = save_run(tmp_path, state, as_json(config))
    ours = TrainConfig.of(small.small_config(**{"optimizer.learning_rate": 0.5}))
    state_dict.save_variables(tmp_path / "w.safetensors", state.eval_variables)
    card = json.dumps({"config": as_json(config)})
    (tmp_path / "w.json").write_text(card)
    for source in (place, str(tmp_path / "w.safetensors")):
        read_source(source, small.SmallNet(), state, (), SHARDING, ours)
        said = capsys.readouterr().out
        assert "other options: precision was bfloat16, now float32\n" in said


@pytest.mark.parametrize("which", ["last", "best"])
def test_a_step_that_is_deleted_while_it_is_read(saved, monkeypatch, which):
    """A run that goes on deletes its older steps; none of them is damaged."""
    read_meta = Checkpoints.read_meta

    def late(checkpoints, step):
        (checkpoints.directory / str(step)).rename(saved / "gone")
        return read_meta(checkpoints, step)

    monkeypatch.setattr(Checkpoints, "read_meta", late)
    with pytest.raises(InputError, match="step 3 in .* was deleted while it was read"):
        read_variables(saved, which, SHARDING)


def test_a_best_step_that_is_gone_is_named(small, tmp_path):
    with Checkpoints(tmp_path / "checkpoints", sharding=SHARDING) as store:
        state = make_state(small, 0).replace(step=np.int32(4))
        store.save(state, {"best": {"step": 2}})
    with pytest.raises(InputError, match=r"best step, 2, .* a step of \[4\]"):
        read_variables(tmp_path, "best", SHARDING)


def test_best_before_any_evaluation_is_last(small, tmp_path, capsys):
    place = save_run(tmp_path, make_state(small, 1))
    warm_start(make_state(small, 2), small.SmallNet(), f"{place}@best")
    assert "last for best" in capsys.readouterr().out
