import functools
import math
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from optnet_jax.errors import InputError
from optnet_jax.kinds import is_plain
from optnet_jax.networks import NETWORKS, create, field_defaults, field_kinds
from optnet_jax.networks.fields import declared
from optnet_jax.networks.recurrence_net import RecurrenceNet
from optnet_jax.recurrences import HistorySum, TwoPath
from optnet_jax.structures import Propagation
from optnet_jax.structures.fields import check

# Values that no field of that kind holds.
REFUSED = [
    ("agd_net", "stage_sizes", (0, 1)),
    ("agd_net", "stage_sizes", 3),
    ("agd_net", "stage_sizes", ()),
    ("hb_net", "stage_sizes", (2, True)),
    ("hb_net", "widths", (8, 16.0)),
    ("lenet5", "hidden", (10, 0)),
    ("agd_net", "learned", "alpha"),
    ("agd_net", "learned", (1,)),
    ("agd_net", "growth_rate", -1),
    ("agd_net", "growth_rate", 10**6),
    ("densenet", "stem_features", None),
    ("densenet", "compression", 0),
    ("densenet", "compression", "half"),
    ("densenet", "dropout_rate", 1.0),
    ("densenet", "beta", None),
    ("densenet", "alpha", [[1], [2, 3]]),
    ("hb_net", "num_classes", "ten"),
    ("hb_net", "num_classes", 0),
    ("hb_net", "num_classes", 5.5),
    ("hb_net", "batch_norm_group", "none"),
    ("hb_net", "stem_features", 0),
    ("hb_net", "dtype", "float33"),
    ("hb_net", "dtype", 3),
    ("hb_net", "dtype", "int8"),
    ("hb_net", "tied", "best"),
    ("hb_net", "unroll", 1),
    ("hb_net", "beta1", float("nan")),
    ("hb_net", "beta2", "one"),
    ("hb_net", "beta2", 1e40),
    ("agd_net", "alpha", 1e40),
    ("agd_net", "alpha", ()),
    ("nesterov_net", "beta1", [float("inf")]),
    ("hb_net", "block", 3),
    ("hb_net", "block", "bottle"),
    ("hb_net", "block", nn.Dense(3)),
    ("hb_net", "stem", 3),
    ("agd_net", "stem", "mnist"),
    ("hb_net", "shortcut", "identity"),
    ("hb_net", "start", "shortcut"),
    ("hb_net", "boundary", "x"),
    ("dmr_net", "readout", None),
    ("dmr_net", "memory", None),
    ("vgg16", "batch_norm", "no"),
    ("lenet5", "activation", "selu"),
    ("vit", "activation", ("gelu", "selu")),
    ("hb_net", "activation", True),
]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_field_of_every_network_has_a_kind_that_its_default_is_of(name):
    assert all(map(is_plain, field_kinds(name).values()))
    check(NETWORKS[name], field_defaults(name))


@pytest.mark.parametrize(("name", "field", "value"), REFUSED)
def test_a_value_of_another_kind_or_out_of_range_is_refused_in_one_line(
    name, field, value
):
    wrong = f"^{field}(=| has ).+ (must (be|have)|is unknown)"
    with pytest.raises(InputError, match=wrong) as caught:
        create(name, **{field: value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_module_that_is_made_without_the_registry_is_checked_as_well():
    with pytest.raises(InputError, match="^widths has 16.0: each must be a whole"):
        type(create("hb_net20"))(create("hb_net20").recurrence, widths=(8, 16.0, 4))  # pyright: ignore
    with pytest.raises(InputError, match="^compression=0 must be above 0"):
        type(create("densenet40"))(create("densenet40").recurrence, compression=0)  # pyright: ignore


class Own(RecurrenceNet):
    """A user's own: a new default, a field annotated anew, and fields of its own."""

    num_classes: int = 7
    activation: Any = "tanh"
    bound: float = math.inf
    scale: Annotated[float, "of the logits"] | None = None
    sizes: [int] = ()  # pyright: ignore


def test_a_subclass_s_fields_are_of_the_kinds_that_they_had_and_its_own_of_any(
    monkeypatch,
):
    monkeypatch.setitem(NETWORKS, "own", Own)
    own = create("own", recurrence="hb", scale=2.0, sizes=[1])
    assert (own.num_classes, own.bound, own.scale) == (7, math.inf, 2.0)  # pyright: ignore
    with pytest.raises(InputError, match="^num_classes=0 must be at least 1 and"):
        Own("hb", num_classes=0)
    with pytest.raises(InputError, match="^activation=5 must be a tuple or text"):
        Own("hb", activation=5)


def test_a_function_s_default_of_none_is_taken_as_well(monkeypatch):
    def own(*, num_classes: int = None, **network):  # noqa: RUF013
        return RecurrenceNet("hb", num_classes=num_classes or 3, **network)

    monkeypatch.setitem(NETWORKS, "own", own)
    assert create("own", num_classes=None).num_classes == 3  # pyright: ignore
    with pytest.raises(InputError, match="^num_classes='x' must be a whole number or"):
        create("own", num_classes="x")


def test_numpy_numbers_and_lists_are_taken():
    network = create(
        "hb_net",
        stage_sizes=[np.int64(1), 2],
        widths=(4, np.int32(8)),
        beta1=np.float32(0.5),
        tied=np.bool_(True),
        dtype="bfloat16",
    )
    assert network.widths == (4, 8)  # pyright: ignore
    assert network.stage_sizes == (1, 2)  # pyright: ignore


@pytest.mark.parametrize("rates", [np.array([0, 0.5]), np.float32(0.25)])
def test_probabilities_of_numpy_are_those_of_python(rates):
    networks = [
        create("hb_net", stage_sizes=(1, 2), widths=(4, 4), drop_path=drop_path)
        for drop_path in (rates, rates.tolist())
    ]
    assert networks[0] == networks[1]
    assert hash(networks[0]) == hash(networks[1])
    images, key = jnp.ones((2, 4, 4, 3)), jax.random.key(0)
    keys = {"params": key, "dropout": key}
    init = functools.partial(networks[0].init, train=True)
    assert jax.eval_shape(init, keys, images)


@pytest.mark.parametrize("name", ["hb_net", "agd_net", "vit", "yurii_vit"])
def test_a_coefficient_is_learned_once(name):
    with pytest.raises(InputError, match="^learned=.* each once: 'alpha' comes twice$"):
        create(name, learned=("alpha", "beta", "alpha"))


def test_a_traced_coefficient_is_taken():
    make = NETWORKS["hb_net"]
    assert jax.jit(lambda beta: check(make, {"beta1": beta}) or beta)(1.0) == 1


class Relaxed:
    """A user's recurrence, whose coefficient has a name of its own."""

    paths = 1

    def coefficients(self, depth):
        return {"memory": jnp.full(depth, 0.25)}

    def init(self, x0):
        return x0

    def step(self, transform, state, c):
        return (1 - c["memory"]) * transform(state) + c["memory"] * state

    def output(self, state):
        return state


class Sum(nn.Module):
    """A combination of a history."""

    @nn.compact
    def __call__(self, sources, alpha=None):
        return nn.Dense(3)(sum(sources) if alpha is None else sources[0] * alpha[0])


def declared_by(module, x):
    with declared() as paths:
        variables = jax.eval_shape(lambda: module.init(jax.random.key(0), x))
    return {n for n in flatten_dict(variables["params"], sep=".") if n in paths}


@pytest.mark.parametrize(
    "form", [{}, {"unroll": True}, {"tied": True}, {"remat": True}]
)
@pytest.mark.parametrize("recurrence", [Relaxed(), TwoPath()])
def test_coefficients_are_known_in_every_form(recurrence, form):
    """A user's own too, and those of two paths."""
    second = Propagation(recurrence, nn.Dense(3), 2, learned=("memory",), **form)
    network = nn.Sequential([nn.Dense(3), second])
    assert declared_by(network, jnp.ones((1, 2))) == {"layers_1.memory"}


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (Propagation(Relaxed(), nn.Dense(3), 2), set()),
        (Propagation(Relaxed(), jnp.tanh, 2, learned=("memory",)), {"memory"}),
        (
            Propagation(HistorySum(), Sum(), 2, learned=("alpha", "beta")),
            {"alpha", "beta"},
        ),
        (Propagation(HistorySum(), Sum(), 2, learned=("beta",), remat=True), {"beta"}),
    ],
)
def test_no_more_and_no_less_than_what_is_learned(module, expected):
    assert declared_by(module, jnp.ones((1, 3))) == expected
