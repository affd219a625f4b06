import pytest


def test_installs_with_a_new_enough_python_and_mounts_the_share(launch):
    done = launch.call("tpu_worker.sh", "--dry-run", "10.0.0.2:/s", HOME="/home/me")
    assert done.returncode == 0, done.stderr
    uv = "/home/me/.local/bin/uv"
    assert done.stdout.splitlines() == [
        "pip3 install --user uv",
        f"{uv} venv --allow-existing --python 3.12 .venv",
        f"{uv} pip install --python .venv/bin/python --editable .[tpu]",
        "sudo mkdir -p /mnt/share",
        "sudo apt-get install -y nfs-common",
        "sudo mount 10.0.0.2:/s /mnt/share",
    ]


def test_a_mounted_share_is_left_alone(launch, tmp_path):
    launch.stand_in(tmp_path, "mountpoint", "exit 0")
    done = launch.call("tpu_worker.sh", "--dry-run", "10.0.0.2:/s", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mount" not in done.stdout


def test_a_bucket_is_mounted(launch, tmp_path):
    def lines():
        done = launch.call("tpu_worker.sh", "--dry-run", "gs://b", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[3:]

    launch.stand_in(tmp_path, "lsb_release", "echo jammy")
    mkdir, _, source, *_, install, chown, mount = lines()
    assert mkdir == "sudo mkdir -p /mnt/share"
    assert "gcsfuse-jammy main" in source
    assert install == "sudo apt-get install -y gcsfuse"
    assert mount.startswith("gcsfuse ")
    assert mount.endswith(" b /mnt/share")
    launch.stand_in(tmp_path, "gcsfuse", "exit 1")
    assert lines() == [mkdir, chown, mount]


@pytest.mark.parametrize("share", ["gs://", "gs://b/folder", "/here", "host"])
def test_what_is_no_share_is_refused(launch, share):
    done = launch.call("tpu_worker.sh", "--dry-run", share)
    assert done.returncode == 2
    assert f"{share} is neither HOST:/PATH nor gs://BUCKET" in done.stderr
    assert not done.stdout
