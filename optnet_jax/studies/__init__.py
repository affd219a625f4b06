"""Studies: what is run to learn something, and the plots of a run.

``table2.run(config, workdir)`` is the simulation of §5.3; ``figures.draw(workdir)``
draws a training run. Import them from their files: both need matplotlib.
"""
