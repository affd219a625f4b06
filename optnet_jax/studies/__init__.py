"""Studies: what is run to learn something, tables of results, and plots.

``table2`` is the simulation of §5.3, ``convergence`` measures the methods on F of
Lemma 1, ``hypothesis`` trains them on argmin F, ``equilibrium`` trains argmin F and
reads it out by them, ``stability`` asks what they do to gradients, ``line`` what those
of (s, -1) do at depth, ``sparse_coding`` runs and trains methods where the problem is
given, ``tables`` trains the networks of Tables 4 and 5 and their like; ``study`` is the
form of these eight. ``report`` is a page about runs, ``figures`` draws one. Import what
you need from its file: most need matplotlib.
"""
