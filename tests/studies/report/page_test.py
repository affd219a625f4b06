import json
import shutil
import sys

import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.studies.report import __main__ as report
from optnet_jax.studies.report import page, runs

TRIANGLE = np.array([1.0, 0.75, -1.25])


def rendered(*directories):
    return page.render(runs.find(directories))


def figures(text):
    """Data and layout of each figure, as Plotly is given them."""
    found, read = [], json.JSONDecoder().raw_decode
    for call in text.split("Plotly.newPlot(")[1:]:
        data, end = read(call, call.index("["))
        layout, _ = read(call, call.index("{", end))
        found.append((data, layout))
    return found


def test_the_browser_check_can_fail(look_at, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(
        '<img src="http://127.0.0.1:9/x.png"><script>console.error("oops")</script>'
    )
    seen = look_at(file)
    assert seen.requests == ["http://127.0.0.1:9/x.png"]
    assert '"oops"' in seen.console[0]


def test_a_finished_run_in_a_browser(look_at, make_run, tmp_path, capsys):
    run = make_run(tmp_path, "small", coefficients={"stage_0.alpha": TRIANGLE})
    report.main([str(run), "--html"])
    file = run / "report.html"
    assert capsys.readouterr().err == f"written: {file}\n"
    seen = look_at(file)
    assert not seen.requests
    assert not seen.console
    assert "<title>small</title>" in seen.dom
    assert "small 0 10.00 10.00 12,345 3 50 2,000" in seen.text
    # Drawn by Plotly: titles of axes, and numbers of the heat map.
    for word in ("cross-entropy", "top-1 error (%)", "learning rate", "target k+1"):
        assert f">{word}</text>" in seen.dom
    for number in ("1.00", "0.75", "1.25"):
        assert f"{number} " in seen.text
    assert "stage_0.alpha at epoch 3" in seen.text
    assert "optimizer.learning_rate 0.1" in seen.text
    assert "jax 0.10.2" in seen.text
    assert "1 x cpu (1 process(es))" in seen.text


def test_a_comparison_in_a_browser(look_at, make_run, tmp_path):
    for seed in (0, 1):
        make_run(tmp_path, "slow", seed=seed)
        make_run(tmp_path, "fast", seed=seed, optimizer={"learning_rate": 0.5})
    file = tmp_path / "both.html"
    report.main([str(tmp_path), f"--html={file}"])
    seen = look_at(file)
    assert not seen.requests
    assert not seen.console
    assert "2 runs compared" in seen.text
    assert "fast 0, 1 10.50 ± 0.71 10.50 ± 0.71 12,345" in seen.text
    differs = seen.dom.split('<tr class="differs">')[1:]
    assert len(differs) == 2  # among what differs, and among all fields
    assert "optimizer.learning_rate" in differs[0]
    assert "<td>0.5</td><td>0.1</td>" in differs[0]


def test_the_curves_are_the_metrics_with_the_mean_of_the_seeds(make_run, tmp_path):
    for seed, epochs in ((0, 3), (1, 2)):
        make_run(tmp_path, "a", seed=seed, epochs=epochs)
    _, (lines, layout), _ = figures(rendered(tmp_path))
    assert layout["yaxis"]["title"]["text"] == "top-1 error (%)"
    assert layout["yaxis"]["type"] == "log"
    shown = {line["name"]: (line["x"], line["y"]) for line in lines}
    assert shown["a, seed 0: test/top1_error"] == ([1, 2, 3], [30, 15, 10])
    assert shown["a, seed 1: train/top1_error"] == ([1, 2], [20, 10])
    # Over the epochs that both have reached.
    assert shown["a, mean of 2 seeds: test/top1_error"] == ([1, 2], [30.5, 15.5])


@pytest.mark.parametrize("value", ["NaN", "Infinity", "0.0"])
def test_what_has_no_place_on_the_axis_breaks_the_line(make_run, tmp_path, value):
    run = make_run(tmp_path, "a")
    file = run / "metrics.jsonl"
    file.write_text(file.read_text("utf-8").replace(": 15.0", f": {value}"), "utf-8")
    _, (lines, _), _ = figures(rendered(run))
    assert lines[0]["y"] == [30, None, 10]


def test_what_differs_in_the_environment_is_marked(make_run, tmp_path):
    make_run(tmp_path, "a")
    file = make_run(tmp_path, "b", model={"name": "hb_net"}) / "result.json"
    file.write_text(file.read_text("utf-8").replace("0.10.2", "0.11.0"), "utf-8")
    text = rendered(tmp_path).split("<h2>Environment</h2>")[1]
    marked = '<tr class="differs"><td>jax</td><td>0.10.2</td><td>0.11.0</td></tr>'
    assert marked in text
    assert text.count("differs") == 1
    assert "<tr><td>directory</td><td>a</td><td>b</td></tr>" in text


def test_a_seed_counts_once(make_run, tmp_path):
    shutil.copytree(make_run(tmp_path / "first", "a"), tmp_path / "other" / "a")
    make_run(tmp_path / "first", "a", seed=1)
    text = rendered(tmp_path)
    assert "<td>a</td><td>0, 1</td><td>10.50 ± 0.71</td>" in text
    assert "other/a has the config and the seed of first/a: it is left out" in text


def test_an_unfinished_run(make_run, tmp_path):
    run = make_run(tmp_path, "long", epochs=2, finished=False)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "tra')  # the line that is being written
    text = rendered(run)
    assert "unfinished: 2 of 3" in text
    assert "<td>15.00</td><td>15.00</td><td>not yet</td>" in text


def test_an_unfinished_run_of_so_many_steps_has_no_length_in_epochs(make_run, tmp_path):
    schedule = {"epochs": 3.0, "steps": 100}
    run = make_run(tmp_path, "a", epochs=2, finished=False, schedule=schedule)
    assert "<td>unfinished: 2</td>" in rendered(run)


def test_a_run_that_has_written_nothing_but_its_config(make_run, tmp_path):
    text = rendered(make_run(tmp_path, "new", epochs=0, finished=False))
    assert text.count("no values yet") == 3
    assert "unfinished: 0 of 3" in text


def test_a_rate_that_was_not_measured_is_left_open(make_run, tmp_path):
    run = make_run(tmp_path, "small")
    file = run / "result.json"
    file.write_text(file.read_text("utf-8").replace("2000.0", "null"))
    assert "<td>50</td><td>not yet</td>" in rendered(run)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"epochs": 3.0', '"epochs": "3"'),
        ('"name": "agd_net"', '"name": 3'),
        ('"agd_net"', '"\\ud800"'),
        ('"epoch": 2.0', '"epoch": "2"'),
    ],
)
def test_a_field_of_another_kind_is_shown_or_left_out(make_run, tmp_path, old, new):
    learned = {"stage_0.alpha": TRIANGLE}
    run = make_run(tmp_path, "a", finished=False, coefficients=learned)
    for name in ("config.json", "metrics.jsonl"):
        text = (run / name).read_text("utf-8")
        (run / name).write_text(text.replace(old, new), "utf-8")
    report.main([str(run), "--html"])
    text = (run / "report.html").read_text("utf-8")
    assert "unfinished: 3" in text
    assert len(figures(text)) == 5


def test_learned_coefficients_are_paths_and_a_heat_map(make_run, tmp_path):
    model = {"name": "hb_net"}
    learned = {"stage_0.propagation.beta1": np.array([0.5, 1.5])}
    run = make_run(tmp_path, "hb", coefficients=learned, model=model)
    (paths, _), ((heat,), layout) = figures(rendered(run))[-2:]
    assert [line["y"] for line in paths] == [[0.5] * 3, [1.5] * 3, [1.0] * 3]
    assert heat["z"] == [[0.5, 1.5]]
    assert (heat["zmin"], heat["zmax"]) == (-1.5, 1.5)
    assert layout["xaxis"]["title"]["text"] == "layer"


def test_alpha_is_a_triangle(make_run, tmp_path):
    run = make_run(tmp_path, "agd", coefficients={"stage_0.alpha": TRIANGLE})
    (heat,), layout = figures(rendered(run))[-1]
    assert heat["z"] == [[1.0, None], [0.75, -1.25]]
    assert layout["xaxis"]["title"]["text"] == "source j"


def test_coefficients_that_diverged_leave_the_scale_to_the_others(make_run, tmp_path):
    learned = {"stage_0.alpha": np.array([np.nan, np.inf, 2.0])}
    (heat,), _ = figures(rendered(make_run(tmp_path, "a", coefficients=learned)))[-1]
    assert (heat["z"], heat["zmax"]) == ([[None, None], [None, 2.0]], 2.0)


SCRIPT = "</script><script>console.error('ran')</script>"


def test_whatever_comes_from_a_file_is_escaped(look_at, make_run, tmp_path):
    """Every text, name and value of a workdir, and of its directory's name."""
    others = {SCRIPT: SCRIPT, "list": [SCRIPT], "inner": {SCRIPT: SCRIPT}}
    learned = {f"{SCRIPT.replace('/', '')}.alpha": np.ones(3)}
    for seed in (0, 1):
        run = make_run(
            tmp_path / "<script>", "a", seed=seed, coefficients=learned, **others
        )
        result = json.loads((run / "result.json").read_text())
        result |= dict.fromkeys(("network", "dataset", "split", "device"), SCRIPT)
        result |= {"date": SCRIPT, "versions": {SCRIPT: SCRIPT}, SCRIPT: SCRIPT}
        model = {"name": SCRIPT, SCRIPT: seed}
        result["config"] |= {"name": SCRIPT, "model": model}
        (run / "result.json").write_text(json.dumps(result))
    text = rendered(tmp_path)
    assert text.count("&lt;script&gt;") > 20
    # Plotly itself, and what makes each figure.
    assert text.count("<script") == text.count("</script") == 1 + len(figures(text))
    (tmp_path / "page.html").write_text(text, "utf-8")
    seen = look_at(tmp_path / "page.html")
    assert not seen.console
    assert "console.error('ran')" in seen.text


@pytest.mark.parametrize("case", ["empty", "unwritable"])
def test_bad_input_is_one_line(case, make_run, tmp_path):
    make_run(tmp_path, "run")
    arguments = {
        "empty": ([tmp_path / "empty", "--html"], "holds no run"),
        "unwritable": (
            [tmp_path / "run", f"--html={tmp_path}"],
            "is not a regular file",
        ),
    }
    (tmp_path / "empty").mkdir()
    given, message = arguments[case]
    refused([str(argument) for argument in given], message)


@pytest.mark.parametrize("package", ["plotly", "jinja2"])
def test_a_missing_package_is_one_line(package, make_run, tmp_path, monkeypatch):
    run = make_run(tmp_path, "run")
    monkeypatch.delitem(sys.modules, page.__name__)
    monkeypatch.delattr(sys.modules["optnet_jax.studies.report"], "page")
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    refused([str(run), "--html"], f"pip install {package}")


def refused(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        report.main(arguments)
    assert "\n" not in str(caught.value)
