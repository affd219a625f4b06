import jax
import jax.numpy as jnp
import numpy as np
import optax

from optnet_jax.training.state import create_state

OPTIMIZER = optax.sgd(0.1, momentum=0.9)


def test_parameters_are_those_of_init(small):
    module, key = small.SmallNet(), jax.random.key(3)
    state = create_state(module, OPTIMIZER, key, (8, 8, 1))
    variables = module.init(key, jnp.zeros((1, 8, 8, 1)), train=False)
    jax.tree.map(np.testing.assert_array_equal, state.params, variables["params"])
    jax.tree.map(
        np.testing.assert_array_equal, state.batch_stats, variables["batch_stats"]
    )
    assert int(state.step) == 0


def test_the_average_has_buffers_of_its_own(small):
    state = create_state(
        small.SmallNet(), OPTIMIZER, jax.random.key(0), (8, 8, 1), average=True
    )
    assert state.eval_variables is state.average
    # Donating a state that holds one buffer twice raises.
    donated = jax.jit(lambda s: s.replace(step=s.step + 1), donate_argnums=0)(state)
    assert int(donated.step) == 1
