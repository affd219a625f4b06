import dataclasses

import numpy as np
import pytest
from optnet_jax.configs import equilibrium as config_file

from optnet_jax import configuration, data
from optnet_jax.errors import InputError
from optnet_jax.studies import equilibrium, line, stability
from optnet_jax.studies.equilibrium import EquilibriumConfig
from optnet_jax.studies.images import load


def test_the_images_are_those_of_a_training_run():
    config = EquilibriumConfig.of(config_file.get_config("quick")).data
    found = load(config, 0, steps=2)
    assert found.batches[0].shape == (2, 128, 64)
    assert found.test[0].shape == (360, 64)
    assert found.classes == 10
    dataset = data.load(config, seed=0)
    assert found.fingerprint == dataset.fingerprint
    run = dataset.train_batches()
    for images, labels, batch in zip(*found.batches, run, strict=False):
        np.testing.assert_array_equal(images, np.reshape(batch["image"], (128, 64)))
        np.testing.assert_array_equal(labels, batch["label"])


@pytest.mark.parametrize("name", ["equilibrium", "line", "stability"])
def test_every_field_that_a_message_about_images_names_is_there(name):
    found = configuration.load(f"configs/{name}.py").data
    assert {*found} == {*data.Options.defaults()}
    # What it was before the command line could set the others.
    assert data.Options.of(found) == data.Options(batch_size=found.batch_size)


@pytest.mark.parametrize("study", [equilibrium, line, stability])
def test_cells_say_of_what_images_they_are(study, images, monkeypatch):
    of = dataclasses.replace(images, fingerprint="digest")
    monkeypatch.setattr(study, "load", lambda *_: of)
    config = configuration.load(f"configs/{study.STUDY.name}.py")
    assert study.measurement(study.STUDY.config.of(config)).fingerprint == "digest"


@pytest.mark.parametrize("field", ["trivial_augment", "erase", "mixup", "cutmix"])
def test_what_a_step_of_training_would_do_is_refused(field):
    config = EquilibriumConfig.of(config_file.get_config("quick")).data
    changed = dataclasses.replace(config, **{field: True if field[0] == "t" else 0.5})
    with pytest.raises(InputError, match=f"config.data.{field} is for training runs"):
        load(changed, 0, steps=1)
