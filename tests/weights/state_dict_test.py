"""Weight files, whole and damaged."""

import io
import os
import random
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.networks import create
from optnet_jax.weights import state_dict

SUFFIXES = (".npz", ".safetensors", ".pth")
STATE = {
    "conv1.weight": np.linspace(-1, 1, 300, dtype=np.float32).reshape(10, 30),
    "bn1.running_var": np.linspace(1, 2, 10, dtype=np.float32),
    "num_batches_tracked": np.zeros((), np.int64),
}


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    """Where a weight file of each kind may be."""
    if request.param == ".pth":
        pytest.importorskip("torch")
    return tmp_path / f"w{request.param}"


def one_line(path):
    """Read a file: its content, or None where that ends in one line."""
    try:
        return state_dict.read_state_dict(path)
    except InputError as error:
        text = str(error)
        assert "\n" not in text
        assert len(text) < 400
        assert path.name in text
        return None


def damaged(content, draw):
    """A content with bits flipped, a part cut off, overwritten, doubled or left out."""
    kind = draw.choice(("flip", "cut", "zero", "insert", "remove", "text"))
    at = draw.randrange(len(content))
    to = min(len(content), at + draw.choice((1, 4, 64)))
    if kind == "flip":
        flipped = bytearray(content)
        for _ in range(draw.choice((1, 1, 8))):
            flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        return bytes(flipped)
    middle = {
        "cut": None,
        "zero": bytes(to - at),
        "insert": draw.randbytes(4) + content[at:to],
        "remove": b"",
        "text": b"9" * (to - at),
    }[kind]
    return content[:at] if middle is None else content[:at] + middle + content[to:]


def same(found, expected):
    return found.keys() == expected.keys() and all(
        np.array_equal(found[name], expected[name]) for name in expected
    )


def test_a_damaged_file_is_one_line_or_what_was_written(path):
    state_dict.write_state_dict(path, STATE)
    content, draw = path.read_bytes(), random.Random(0)
    assert same(one_line(path), STATE)
    refused = 0
    for _ in range(150):
        path.write_bytes(damaged(content, draw))
        found = one_line(path)
        refused += found is None
        # A flipped bit inside .safetensors, which has no checksum, is not seen.
        assert found is None or path.suffix == ".safetensors" or same(found, STATE)
    assert refused > 50


def test_a_damaged_file_of_torchs_old_format_is_one_line_or_read(tmp_path):
    torch = pytest.importorskip("torch")
    path, draw = tmp_path / "w.pth", random.Random(0)
    tensors = {name: torch.from_numpy(array) for name, array in STATE.items()}
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert same(one_line(path), STATE)
    changed = 0
    for _ in range(150):
        path.write_bytes(damaged(content, draw))
        found = one_line(path)
        changed += found is not None and not same(found, STATE)
    assert changed > 0  # it has no checksum either: docs/howto/weights.md says so


def test_every_cut_is_one_line(path):
    state_dict.write_state_dict(path, STATE)
    content = path.read_bytes()
    for at in range(0, len(content), len(content) // 40):
        path.write_bytes(content[:at])
        assert one_line(path) is None


def test_a_shorter_type_in_the_header_is_seen(tmp_path):
    # NumPy reads the half of the bytes that it then wants, and checks no checksum.
    path = tmp_path / "w.npz"
    state_dict.write_state_dict(path, STATE)
    content = path.read_bytes()
    assert b"'<f4'" in content
    path.write_bytes(content.replace(b"'<f4'", b"'<f2'"))
    assert one_line(path) is None


def test_an_npz_has_the_weights_alone(tmp_path, monkeypatch):
    """NumPy 2.0 and 2.1 store whatever savez is given by name."""
    stored = {}
    monkeypatch.setattr(np, "savez", lambda file, **arrays: stored.update(arrays))
    state_dict.write_state_dict(tmp_path / "w.npz", STATE)
    assert same(stored, STATE)


def _npy():
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def _objects():
    file = io.BytesIO()
    np.savez(file, a=np.array([{}], dtype=object))
    return file.getvalue()


def _zip(name, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


HUGE = (
    b"\x93NUMPY\x01\x00\x76\x00"
    + (
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999, 9), }"
    ).ljust(0x75)
    + b"\n"
)
CONTENTS = {
    "empty": b"",
    "text": b"these are no weights\n",
    "page": b"<!DOCTYPE html><html></html>",
    "lfs": b"version https://git-lfs.github.com/spec/v1\n",
    "npy": _npy(),
    "objects": _objects(),
    "pickle": b"\x80\x04cos\nsystem\n(S'false'\ntR.",
    "zeros": bytes(4096),
    "huge array": _zip("a.npy", HUGE),
    "huge header": b"\xff" * 8 + b"{}",
    "large header": (1 << 40).to_bytes(8, "little") + b"{}",
    "no zip": b"PK\x03\x04 and no more",
    "nested": (20000).to_bytes(8, "little") + b"[" * 20000,
}


@pytest.mark.parametrize("content", CONTENTS)
def test_what_only_has_the_name_of_a_weight_file(path, content):
    path.write_bytes(CONTENTS[content])
    assert one_line(path) is None


def test_what_is_no_file(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    os.mkfifo(tmp_path / "fifo.npz")
    (tmp_path / "link.npz").symlink_to(tmp_path / "gone")
    (tmp_path / "loop.npz").symlink_to(tmp_path / "loop.npz")
    names = ["folder.npz", "fifo.npz", "link.npz", "loop.npz", "absent.npz"]
    for name in names:
        assert one_line(tmp_path / name) is None
    with pytest.raises(InputError, match="there is no weight file .*absent"):
        state_dict.read_state_dict(tmp_path / "absent.npz")
    with pytest.raises(InputError, match="it links to .*gone"):
        state_dict.read_state_dict(tmp_path / "link.npz")
    # A link to a file is that file: caches of weights are full of them.
    state_dict.write_state_dict(tmp_path / "real.npz", STATE)
    (tmp_path / "good.npz").symlink_to("real.npz")
    assert same(state_dict.read_state_dict(tmp_path / "good.npz"), STATE)


def test_where_no_file_can_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written .File exists"):
        state_dict.write_state_dict(tmp_path / "file" / "w.npz", STATE)
    with pytest.raises(InputError, match="must end in"):
        state_dict.write_state_dict(tmp_path / "w.h5", STATE)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("fc.bias", np.array([1.0, np.nan]), "not finite"),
        ("fc.bias", np.array([1e300]), "not finite"),
        ("bn.running_var", np.array([-1.0]), "negative"),
        ("params.norm.var", np.array([-1.0]), "negative"),
        ("fc.bias", np.array([1, 2]), "int64"),
        ("params.head.bias", np.array([1, 2]), "int64"),
        ("batch_stats.norm.mean", np.array([1j]), "complex"),
        ("fc.bias", np.array(["1.0"]), "which no weight is"),
        ("fc.bias", np.array([1j]), "complex"),
    ],
)
def test_values_that_no_weight_has(name, array, message):
    with pytest.raises(InputError, match=message):
        state_dict.checked_weight(name, array)


def test_a_training_scripts_checkpoint_is_unwrapped(tmp_path):
    torch = pytest.importorskip("torch")
    weights = {name: torch.from_numpy(array) for name, array in STATE.items()}
    for name in ("state_dict", "model"):
        torch.save({name: weights, "epoch": 3}, tmp_path / "w.pth")
        assert same(state_dict.read_state_dict(tmp_path / "w.pth"), STATE)


SMALL = {"stage_sizes": (2, 1), "widths": (4, 8)}
DENSE = {"stage_sizes": (2, 1), "growth_rate": 4}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("hb_net", {**SMALL, "learned": ("beta2",), "unroll": False}),
        ("hb_net", {**SMALL, "tied": True}),
        ("agd_net", {**DENSE, "learned": ("alpha", "beta")}),
        ("lenet5", {}),
    ],
)
def test_any_network_is_written_and_read(path, name, fields):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    init = create(name, **fields).init
    shapes = jax.eval_shape(init, jax.random.key(0), images)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), shapes)
    state_dict.save_variables(path, variables)
    again = state_dict.load_variables(path)
    assert jax.tree.structure(again) == jax.tree.structure(dict(variables))
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_params_alone_are_not_written(path):
    for without in ({"head": {"kernel": np.zeros(2)}}, {"batch_stats": {}}, {}):
        with pytest.raises(InputError, match=r"have no params: .* not variables\['par"):
            state_dict.save_variables(path, without)
        assert not path.exists()


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.bool_])
def test_a_count_among_the_statistics_stays_what_it_is(path, kind):
    stats = {"count": np.ones((), kind), "mean": np.zeros(2, np.float32)}
    variables = {"params": {"a": np.ones(3, np.float32)}, "batch_stats": stats}
    state_dict.save_variables(path, variables)
    again = state_dict.load_variables(path)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    assert again["batch_stats"]["count"].dtype == kind


def test_half_precision_is_written_wide_and_what_is_no_number_not_at_all(path):
    for kind in (jnp.bfloat16, np.float16):
        state_dict.save_variables(path, {"params": {"a": np.full(3, 0.5, kind)}})
        found = state_dict.load_variables(path)["params"]["a"]
        assert (found.dtype, found.tolist()) == (np.float32, [0.5] * 3)
    with pytest.raises(InputError, match=r"params\.a is no array of numbers but None"):
        state_dict.save_variables(path, {"params": {"a": None}})


def test_double_precision_is_kept_in_the_file_and_narrowed_on_reading(path):
    third = np.full(2, 1 / 3)
    state_dict.save_variables(path, {"params": {"a": third}})
    assert same(state_dict.read_state_dict(path), {"params.a": third})
    found = state_dict.load_variables(path)["params"]["a"]
    assert (found.dtype, found[0]) == (np.float32, np.float32(1 / 3))


def test_a_scalar_stays_a_scalar(tmp_path):
    path = tmp_path / "w.npz"
    state_dict.save_variables(path, {"params": {"beta": np.float32(0.5)}})
    assert state_dict.load_variables(path)["params"]["beta"].shape == ()


@pytest.mark.parametrize(
    "names", [("params.a", "params.a.b"), ("params.a.b", "params.a")]
)
def test_a_name_inside_another_is_refused(tmp_path, names):
    np.savez(tmp_path / "w.npz", **dict.fromkeys(names, np.zeros(2)))
    with pytest.raises(InputError, match=r"holds both params\.a and params\.a\.b"):
        state_dict.load_variables(tmp_path / "w.npz")
