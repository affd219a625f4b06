def test_installs_with_a_new_enough_python_and_mounts_the_share(launch):
    done = launch.call("tpu_worker.sh", "--dry-run", "10.0.0.2:/s", HOME="/home/me")
    assert done.returncode == 0, done.stderr
    uv = "/home/me/.local/bin/uv"
    assert done.stdout.splitlines() == [
        "pip3 install --user uv",
        f"{uv} venv --allow-existing --python 3.12 .venv",
        f"{uv} pip install --python .venv/bin/python --editable .[tpu]",
        "sudo apt-get install -y nfs-common",
        "sudo mkdir -p /mnt/share",
        "sudo mount 10.0.0.2:/s /mnt/share",
    ]


def test_a_mounted_share_is_left_alone(launch, tmp_path):
    launch.stand_in(tmp_path, "mountpoint", "exit 0")
    done = launch.call("tpu_worker.sh", "--dry-run", "10.0.0.2:/s", folder=tmp_path)
    assert "mount" not in done.stdout
