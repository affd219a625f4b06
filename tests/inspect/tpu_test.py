import importlib.util
import os
import re
import threading

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from optnet_jax.errors import InputError
from optnet_jax.inspect import tpu

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu"
)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v9:2x2", "no TPU topology is called 'v9:2x2': use GENERATION:SHAPE, such as"),
        ("v5litepod-16", "a generation of v2, v3, v4, v5e, v5p, v6e, tpu7x$"),
        ("", "no TPU topology is called ''"),
        ("v5e", "use v5e:1x1, v5e:2x2, v5e:2x4, v5e:4x4, v5e:4x8, v5e:8x8, v5e:8x16"),
        ("v5e:0x0", "no TPU topology is called 'v5e:0x0'"),  # libtpu divides by it
        ("v5e:3x3", "no TPU topology is called 'v5e:3x3'"),
        ("v4:2x2", "use v4:1x1x1, v4:2x2x1, "),
        ("v5e:2x2 ", "no TPU topology is called 'v5e:2x2 '"),
    ],
)
def test_a_name_that_is_none_is_one_line(name, message):
    with pytest.raises(InputError, match=message) as error:
        tpu.topology(name)
    assert "\n" not in str(error.value)


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs libtpu: pip install -e '\.\[tpu\]'"):
        tpu.topology("v5e:2x2")


def test_the_facts_are_about_those_that_jax_has():
    """Both round; peaks and bandwidths are stated otherwise here and there."""
    info = pytest.importorskip("jax._src.tpu_info")
    for name, chip in tpu.CHIPS.items():
        version = info.ChipVersion(name.removeprefix("tpu"))
        cores = version.num_physical_tensor_cores_per_chip
        core = info._get_tpu_info_impl(version, 1)
        theirs = (
            core.hbm_capacity_bytes,
            core.mem_bw_bytes_per_second,
            core.bf16_ops_per_second,
        )
        ours = (chip.memory, chip.bandwidth, chip.flops)
        assert ours == pytest.approx([cores * fact for fact in theirs], rel=0.15)


CHIP = tpu.Chip(2 * 2**30, 1e9, 4e12, ())


@pytest.mark.parametrize(
    ("flops", "hbm", "found"),
    [
        (4e12, 0.5e9, (8.0, "arithmetic")),
        (1e12, 0.5e9, (16.0, "traffic with HBM")),
        (4e12, 0, (8.0, "arithmetic")),
    ],
)
def test_a_step_is_bound_by_arithmetic_or_by_hbm(flops, hbm, found):
    place = tpu.Topology("two", CHIP, (), chips=2)
    program = tpu.Program(1, True, 0, 0, flops=flops, traffic=2e9, hbm=hbm)
    assert tpu.images_per_second(place, program, images=8) == found


def test_what_fits_is_described(monkeypatch):
    monkeypatch.setattr(tpu, "version", lambda: "a compiler")
    place = tpu.Topology("two", CHIP, ("a", "b", "c", "d"), chips=2)
    collectives = {"all-reduce": 3, "all-gather": 1}
    program = tpu.Program(
        9, True, 2**30, CHIP.memory, 1e12, 2e9, 0.5e9, collectives, loops=1
    )
    text = tpu.describe(
        place, program, images=8, held={"parameters": 2**20}, total_images=57600
    )
    for line in (
        "two: 2 chips of 2 GiB, 1 GB/s and 4 TFLOP/s (bfloat16), 4 images a step on "
        "each",
        "compiled in 9 s by a compiler",
        "it fits: 1.00 GiB of 2.00 GiB a chip",
        "  parameters                           2.0 MiB",  # a chip is two devices
        "  activations, batch, program      1,022.0 MiB",
        "an image: 250 GFLOP, 125 MB from and to HBM (500 MB with what stays on chip)",
        "collectives a step: 1 all-gather, 3 all-reduce",
        "at most 8 images/s a chip, 16 in all, by its traffic with HBM",
        "the run's 57,600 images take 1:00:00 or more",
        "1 loop(s), of which one turn is counted: it costs more",
    ):
        assert line in text.splitlines()


def test_an_end_is_heard_while_the_compiler_works(monkeypatch, capsys):
    """A signal's handler runs in the main thread, which must not be in the compiler."""
    monkeypatch.setattr(tpu, "PATIENCE", 0.01)
    told = threading.Event()
    monkeypatch.setattr(tpu.program, "tell", lambda *_: told.set())

    def work():
        assert threading.current_thread() is not threading.main_thread()
        assert told.wait(60)
        return "program"

    assert tpu._patiently(work) == "program"
    with pytest.raises(InputError, match="its error"):
        tpu._patiently(lambda: (_ for _ in ()).throw(InputError("its error")))


def lowered(place, function, size):
    mesh = Mesh(list(place.devices), ("data",))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    step = jax.jit(function, in_shardings=(whole, rows), out_shardings=whole)
    weights, batch = (jax.ShapeDtypeStruct((n, 512), jnp.bfloat16) for n in size)
    return step.lower(weights, batch)


@needs_compiler
def test_a_product_is_counted_on_each_chip():
    before = dict(os.environ)
    counted = {}
    for name, chips in (("v5e:1x1", 1), ("v5e:2x2", 4), ("v4:2x2x1", 4)):
        place = tpu.topology(name)
        assert (place.chips, len(place.devices)) == (chips, chips)
        program = tpu.compile_for(
            place, lowered(place, lambda w, x: (x @ w).sum(0), (512, 4096))
        )
        assert program.fits
        assert program.flops * chips == pytest.approx(2 * 4096 * 512**2, rel=0.01)
        least = 2 * 512 * (512 + 4096 / chips)  # the weights and a chip's rows
        assert least < program.hbm <= program.traffic
        assert program.hbm < 1.1 * least
        assert program.loops == 0
        counted[name] = dict(program.collectives)
    assert counted == {
        "v5e:1x1": {},
        "v5e:2x2": {"all-reduce": 1},
        "v4:2x2x1": {"all-reduce": 1},
    }
    assert dict(os.environ) == before


@needs_compiler
def test_what_does_not_fit_is_told_with_its_size():
    place = tpu.topology("v3:1x1")
    assert (place.chips, len(place.devices)) == (1, 2)
    size = 2**24  # rows of 1 KiB: 16 GiB in all, and as much again
    step = lowered(place, lambda w, x: jnp.sort(x, 0) + jnp.sort(x, 1), (512, size))
    program = tpu.compile_for(place, step)
    assert not program.fits
    assert program.memory > program.capacity
    assert program.capacity == pytest.approx(place.chip.memory, rel=0.05)
    text = tpu.describe(place, program, images=2, held={})
    assert re.search(r"it does not fit: \d+\.\d\d GiB of 3\d\.\d\d GiB a chip", text)
