import json

import numpy as np
import pytest

from optnet_jax.errors import InputError
from optnet_jax.studies.report import __main__ as report
from optnet_jax.studies.report import html_page, html_runs

TRIANGLE = np.array([1.0, 0.75, -1.25])


def test_the_browser_check_can_fail(look_at, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        '<img src="http://127.0.0.1:9/x.png"><script>console.error("oops")</script>'
    )
    seen = look_at(page)
    assert seen.requests == ["http://127.0.0.1:9/x.png"]
    assert '"oops"' in seen.console[0]


def test_a_finished_run_in_a_browser(look_at, make_run, tmp_path, capsys):
    run = make_run(tmp_path, "small", coefficients={"stage_0.alpha": TRIANGLE})
    assert report.main([str(run), "--html"]) == 0
    page = run / "report.html"
    assert capsys.readouterr().err == f"written: {page}\n"
    seen = look_at(page)
    assert not seen.requests
    assert not seen.console
    assert "<title>small</title>" in seen.dom
    assert "small 0 10.00 10.00 12,345 3 50 2,000" in seen.text
    for word in ("cross-entropy", "top-1 error (%)", "learning rate"):
        assert f'aria-label="{word} over epoch"' in seen.dom
    assert "stage_0.alpha at epoch 3" in seen.text
    assert "1.00 stage_0.alpha at epoch 3, target k+1 2" in seen.text
    assert "optimizer.learning_rate 0.1" in seen.text
    assert "jax 0.10.2" in seen.text
    assert "1 x cpu (1 process(es))" in seen.text


def test_a_comparison_in_a_browser(look_at, make_run, tmp_path):
    for seed in (0, 1):
        make_run(tmp_path, "slow", seed=seed)
        make_run(tmp_path, "fast", seed=seed, optimizer={"learning_rate": 0.5})
    page = tmp_path / "both.html"
    assert report.main([str(tmp_path), f"--html={page}"]) == 0
    seen = look_at(page)
    assert not seen.requests
    assert not seen.console
    assert "2 runs compared" in seen.text
    assert "fast 0, 1 10.50 ± 0.71 10.50 ± 0.71 12,345" in seen.text
    differs = seen.dom.split('<tr class="differs">')[1:]
    assert len(differs) == 2  # among what differs, and among all fields
    assert "optimizer.learning_rate" in differs[0]
    assert "<td>0.5</td><td>0.1</td>" in differs[0]
    assert "mean of 2 seeds: test/top1_error" in seen.text


def test_an_unfinished_run(make_run, tmp_path):
    run = make_run(tmp_path, "long", epochs=2, finished=False)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "tra')  # the line that is being written
    page = html_page.render(html_runs.find([run]))
    assert "unfinished: 2 of 3" in page
    assert "<td>15.00</td><td>15.00</td><td>not yet</td>" in page


def test_a_run_that_has_written_nothing_but_its_config(make_run, tmp_path):
    run = make_run(tmp_path, "new", epochs=0, finished=False)
    page = html_page.render(html_runs.find([run]))
    assert page.count("no values yet") == 3
    assert "unfinished: 0 of 3" in page


def test_a_rate_that_was_not_measured_is_left_open(make_run, tmp_path):
    run = make_run(tmp_path, "small")
    file = run / "result.json"
    file.write_text(file.read_text("utf-8").replace("2000.0", "null"))
    assert report.main([str(run), "--html"]) == 0
    page = (run / "report.html").read_text("utf-8")
    assert f"<td>50</td><td>{html_page.NOT_YET}</td>" in page.replace(
        ' class="number"', ""
    )


def test_vectors_of_coefficients_have_one_row(make_run, tmp_path):
    model = {"name": "hb_net"}
    learned = {"stage_0.propagation.beta1": np.array([0.5, 1.5])}
    run = make_run(tmp_path, "hb", coefficients=learned, model=model)
    page = html_page.render(html_runs.find([run]))
    assert "beta1 at epoch 3, value 1, layer 1: 1.5<" in page


SCRIPT = "<script>alert(1)</script>"


def test_whatever_comes_from_a_file_is_escaped(make_run, tmp_path):
    """Every text, name and value of a workdir, and of its directory's name."""
    others = {SCRIPT: SCRIPT, "list": [SCRIPT], "inner": {SCRIPT: SCRIPT}}
    learned = {f"{SCRIPT}.alpha": np.ones(3)}
    for seed in (0, 1):
        run = make_run(
            tmp_path / "<script>", "a", seed=seed, coefficients=learned, **others
        )
        config = json.loads((run / "config.json").read_text())
        config |= {"name": SCRIPT, "model": {"name": SCRIPT, SCRIPT: seed}}
        (run / "config.json").write_text(json.dumps(config))
        result = json.loads((run / "result.json").read_text())
        result |= dict.fromkeys(("network", "dataset", "split", "device"), SCRIPT)
        result |= {"date": SCRIPT, "versions": {SCRIPT: SCRIPT}, SCRIPT: SCRIPT}
        (run / "result.json").write_text(json.dumps(result))
    page = html_page.render(html_runs.find([tmp_path]))
    assert page.count("&lt;script&gt;") > 20
    assert "<script" not in page


@pytest.mark.parametrize(
    ("file", "field"),
    [
        *[("config.json", field) for field in ("seed", "schedule", "model", "name")],
        *[("result.json", field) for field in ("seed", "epochs", "config", "final")],
    ],
)
@pytest.mark.parametrize("value", [SCRIPT, [SCRIPT], None])
def test_a_field_of_another_kind_is_named(make_run, tmp_path, file, field, value):
    run = make_run(tmp_path, "a")
    content = json.loads((run / file).read_text())
    (run / file).write_text(json.dumps({**content, field: value}))
    if field == "name" and value == SCRIPT:
        assert "<script" not in html_page.render(html_runs.find([run]))
        return
    with pytest.raises(InputError, match=rf"{file} is damaged \({field}=") as error:
        html_runs.find([run])
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("case", ["nowhere", "empty", "unwritable"])
def test_bad_input_is_one_line_and_status_2(case, make_run, tmp_path, capsys):
    make_run(tmp_path, "run")
    arguments = {
        "nowhere": ([tmp_path / "nowhere", "--html"], "there is no directory"),
        "empty": ([tmp_path / "empty", "--html"], "holds no run"),
        "unwritable": (
            [tmp_path / "run", f"--html={tmp_path}"],
            "is not a regular file",
        ),
    }
    (tmp_path / "empty").mkdir()
    given, message = arguments[case]
    assert report.main([str(argument) for argument in given]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
