import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import FancyArrowPatch

from optnet_jax.errors import InputError
from optnet_jax.inspect.figure import draw, draw_network, network_structures
from optnet_jax.inspect.graph import recurrence_structure
from optnet_jax.networks import create
from optnet_jax.recurrences import ADMM, HistorySum, heavy_ball
from optnet_jax.runs import picture


@pytest.fixture
def figures(monkeypatch):
    """What is drawn, instead of its files."""
    saved = []
    monkeypatch.setattr(picture, "save", lambda figure, *rest: saved.append(figure))
    return saved


@pytest.mark.parametrize(
    "structure",
    [recurrence_structure(HistorySum(1.0, 0.1), 3), recurrence_structure(ADMM(), 2)],
    ids=["dense", "two-path"],
)
def test_everything_is_drawn_inside_the_axes(structure, figures):
    draw({"stage": structure}, "a.png")
    (axis,) = figures[0].subfigs[0].axes
    arrows = [p for p in axis.patches if isinstance(p, FancyArrowPatch)]
    assert len(arrows) == len(structure.edges)
    words = [text.get_text() for text in axis.texts]
    for node in structure.nodes:
        assert f"${node.label}$" in words
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    for text in axis.texts:
        x, y = text.get_position()
        assert left < x < right
        assert low < y < high


def test_trained_alpha_is_what_is_drawn():
    network = create("agd_net", stage_sizes=(2, 3))
    initial = network_structures(network)
    assert list(initial) == ["stage 0", "stage 1"]
    assert initial["stage 1"] == recurrence_structure(HistorySum(1.0, 0.1), 3)
    alphas = {"stage_0": jnp.arange(1.0, 4), "stage_1": jnp.ones(6)}
    params = {stage: {"alpha": alpha} for stage, alpha in alphas.items()}
    drawn = network_structures(network, params)
    trained = HistorySum([[1, 0], [2, 3]], 0.1)
    assert drawn == {**initial, "stage 0": recurrence_structure(trained, 2)}


@pytest.mark.parametrize(
    ("name", "fields", "inner"),
    [
        ("agd_net", {"stage_sizes": (2,)}, {"alpha": jnp.ones(3)}),
        (
            "hb_net",
            {"stage_sizes": (2,), "widths": (4,), "learned": ("beta1",)},
            {"propagation": {"beta1": jnp.ones(2)}},
        ),
    ],
)
def test_what_are_not_the_params_is_refused(name, fields, inner, tmp_path):
    network, params = create(name, **fields), {"stage_0": inner}
    densenet = {"stage_0": {"layer_0": {"kernel": jnp.ones(3)}}, "stem_conv": {}}
    # All variables, another network's parameters, and none.
    for wrong in ({"params": params, "batch_stats": {}}, densenet, {}):
        with pytest.raises(InputError, match=r"learned stage_0/.*: give variables\["):
            draw_network(network, tmp_path / "a.png", wrong)
    network_structures(network, params)


def test_stage_of_a_recurrence_starts_after_its_transition():
    structures = network_structures(
        create("hb_net", stage_sizes=(2, 3, 1), widths=(4, 8, 8), learned=("beta1",)),
        {
            f"stage_{i}": {"propagation": {"beta1": jnp.array([3.0, 4.0])}}
            for i in (0, 1)
        },
    )
    assert list(structures) == ["stage 0", "stage 1"]  # stage 2 is a transition alone
    labels = [node.label for node in structures["stage 1"].nodes]
    assert "x_{2}" in labels
    assert "x_{3}" not in labels
    assert 4.0 in {edge.weight for edge in structures["stage 1"].edges}


def test_file(tmp_path):
    network = create("agd_net", stage_sizes=(2,))
    file = draw_network(network, tmp_path / "a.png")
    assert np.ptp(imread(file)[..., :3]) > 0.5
    with pytest.raises(InputError, match=r"a\.doc is no picture: .* end in .*png"):
        draw_network(network, tmp_path / "a.doc")


def test_a_letter_that_the_font_lacks_is_no_warning(tmp_path):
    figure = Figure()
    figure.suptitle("猫")
    assert picture.save(figure, tmp_path / "a.png", 20).exists()


def test_figure_of_several_structures_has_one_scale(figures):
    depths = {"long": 8, "short": 2}
    made = {n: recurrence_structure(heavy_ball(0.3), d) for n, d in depths.items()}
    strong = recurrence_structure(heavy_ball(3.0), 2)
    draw({**made, "strong": strong}, "a.png")
    axes = [axis for part in figures[0].subfigs for axis in part.axes]
    assert len({axis.get_xlim() for axis in axes}) == 1
    short, strong = ({p.get_linewidth() for p in axis.patches} for axis in axes[1:])
    assert max(short) < max(strong)


def test_long_history_is_drawn_as_matrices(figures):
    alpha, beta = np.tril(np.random.default_rng(0).normal(size=(2, 12, 12)))
    recurrence = HistorySum(alpha.tolist(), beta.tolist())
    draw({"stage": recurrence_structure(recurrence, 12)}, "a.png")
    # One image for each matrix; a colour bar has none of its own.
    axes = [axis for axis in figures[0].subfigs[0].axes if axis.get_title()]
    for axis, matrix in zip(axes, (alpha, beta), strict=True):
        drawn = axis.images[0].get_array().filled(0)
        np.testing.assert_allclose(drawn, matrix, rtol=1e-6)
        assert axis.images[0].get_clim()[1] == pytest.approx(np.abs(matrix).max())


def test_network_without_stages():
    with pytest.raises(InputError, match="has no stages to draw"):
        network_structures(create("lenet5"))
    with pytest.raises(InputError, match="has no stages to draw"):
        network_structures(
            create("hb_net", stage_sizes=(1, 1), stem_features=4, widths=(8, 16))
        )


def test_recurrences_under_one_module_are_told_apart():
    class Encoder:
        def propagations(self):
            paths = ("encoder", "part_a"), ("encoder", "part_b"), ("head_0", "layers")
            return {path: (heavy_ball(0.3), i + 1) for i, path in enumerate(paths)}

    found = network_structures(Encoder())
    assert list(found) == ["encoder/part a", "encoder/part b", "head 0"]
