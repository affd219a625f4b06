import json

import jax
import pytest

from optnet_jax.training.leaves import digest
from optnet_jax.training.origin import Meta, Origin

META = Meta(
    checksums={"params.kernel": "00ff", "step": "12ab"},
    history={"best": {"top1_error": 2.5, "step": 4}, "wall_seconds": 1.25},
    origin=Origin({"seed": 3, "model": {"name": "small"}}, "abc", {"pad": 4}),
)


def test_what_is_written_is_read_back():
    text = json.dumps(META.as_json())
    assert Meta.from_json(json.loads(text)) == META


def test_every_flipped_bit_is_found():
    """Or changes nothing: an e in a number may become an E."""
    written = json.dumps(META.as_json()).encode()
    found = 0
    for index in range(8 * len(written)):
        damaged = bytearray(written)
        damaged[index // 8] ^= 1 << index % 8
        try:
            read = Meta.from_json(json.loads(bytes(damaged)))
        except (ValueError, TypeError, AttributeError):
            found += 1
        else:
            assert read == META
    assert found > 7 * len(written)


def test_an_older_version_kept_no_digest():
    old = {"checksums": {"step": "12ab"}, "history": {"note": 1}}
    assert Meta.from_json(old) == Meta(**old, origin=None)


def test_an_older_version_kept_neither_settings_nor_what_the_spec_says():
    content = META.as_json()
    del content["digest"], content["origin"]["treatment"]
    del content["origin"]["settings"], content["origin"]["jax"]
    content["digest"] = digest(json.dumps(content, sort_keys=True).encode())
    read = Meta.from_json(content).origin
    assert (read.treatment, read.settings, read.jax) == ({}, {}, "")
    with jax.default_prng_impl("rbg"):
        assert read.differences(Origin(read.config, read.data, {"pad": 0})) == []


def test_a_digest_that_is_missing_is_damage():
    content = META.as_json()
    del content["digest"]
    with pytest.raises(ValueError, match="missing"):
        Meta.from_json(content)


def test_differences_are_named():
    with jax.default_prng_impl("rbg"):
        other = Origin({"seed": 4, "model": {"name": "small"}}, "abd", {"pad": 0})
    assert META.origin.differences(other) == [
        "seed was 3, now 4",
        "its data was abc, now abd",
        "its Spec's pad was 4, now 0",
        "jax_default_prng_impl was threefry2x32, now rbg",
    ]
    assert META.origin.differences(META.origin) == []
