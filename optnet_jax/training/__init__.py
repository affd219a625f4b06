"""Training: state, step, schedule, checkpoints, and the loop that runs them.

``loop.train(config, workdir)`` trains, ``evaluate.evaluate_checkpoint`` measures any
saved checkpoint. Both are imported from their files, so that a notebook that wants
only ``schedule`` pays for nothing else.
"""
