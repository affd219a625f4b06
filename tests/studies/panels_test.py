from optnet_jax.studies.panels import legend, panels


def test_panels_have_their_size_and_each_label_once():
    figure, axes = panels(1, 2, 3, 2.5, sharey=True)
    assert axes.shape == (1, 2)
    assert figure.get_size_inches().tolist() == [6, 2.5]
    for axis, labels in zip(axes[0], (("GD", "HB"), ("GD", "AGD")), strict=True):
        for label in labels:
            axis.plot([0, 1], label=label)
    (shown,) = legend(figure).legends
    assert [text.get_text() for text in shown.get_texts()] == ["GD", "HB", "AGD"]
