"""Workdirs with curves and coefficients, and a real browser to look at pages."""

import functools
import html
import json
import re
import shutil
import subprocess
import types

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
)


def make_workdir(
    finish, root, name, *, seed=0, epochs=3, finished=True, coefficients=None, **fields
):
    """A run whose test error in epoch e is 30 / e + seed."""
    directory = root / (f"{name}-seed={seed}" if seed else name)
    directory.mkdir(parents=True)
    config = {
        "name": directory.name,
        "experiment": "train",
        "seed": seed,
        "model": {"name": "agd_net", "growth_rate": 10},
        "data": {"dataset": "optnet_digits"},
        "optimizer": {"learning_rate": 0.1},
        "schedule": {"epochs": 3.0},
        **fields,
    }
    (directory / "config.json").write_text(json.dumps(config))
    with (directory / "metrics.jsonl").open("w") as file:
        for epoch in range(1, epochs + 1):
            train = {"train/loss": 1 / epoch, "train/top1_error": 20 / epoch}
            test = {"test/loss": 2 / epoch, "test/top1_error": 30 / epoch + seed}
            for part in ({**train, "learning_rate": 0.1 / epoch}, test):
                row = {"step": 10 * epoch, "epoch": float(epoch), **part}
                file.write(json.dumps(row) + "\n")
    if coefficients is not None:
        values = {name: v.tolist() for name, v in coefficients.items()}
        rows = [{"step": n, "epoch": n, **values} for n in range(1, epochs + 1)]
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        (directory / "coefficients.jsonl").write_text(text)
    if finished:
        last = 30 / epochs + seed
        finish(
            directory,
            config,
            last=last,
            best=last,
            parameters=12345,
            epochs=epochs,
            images_per_second=2000.0,
            versions={"python": "3.11.7", "jax": "0.10.2"},
        )
    return directory


@pytest.fixture
def make_run(finish):
    return functools.partial(make_workdir, finish)


@pytest.fixture(scope="session")
def look_at(tmp_path_factory):
    """Open a file in a browser: its DOM, what it asked for, what the console says."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")

    def open_page(page):
        scratch = tmp_path_factory.mktemp("browser")
        log = scratch / "net.json"
        place = [f"--user-data-dir={scratch / 'profile'}", f"--log-net-log={log}"]
        done = subprocess.run(
            [browser, *FLAGS, *place, "--dump-dom", page.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return types.SimpleNamespace(
            dom=done.stdout,
            text=text_of(done.stdout),
            requests=page_requests(json.loads(log.read_text())),
            console=re.findall(r"CONSOLE[^\]]*\] (.*)", done.stderr),
        )

    return open_page


def text_of(dom):
    """What a reader sees of a page, in one line."""
    seen = re.sub("(?s)<(script|style).*?</\\1>|<[^>]*>", " ", dom)
    return re.sub(r"\s+", " ", html.unescape(seen))


def page_requests(log):
    """URLs that the page asked for, besides itself.

    The browser's own requests (updates, accounts) have no origin as initiator.
    """
    start = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    events = [e.get("params", {}) for e in log["events"] if e["type"] == start]
    asked = [params for params in events if "url" in params]
    return [p["url"] for p in asked if p.get("initiator") != "not an origin"]
