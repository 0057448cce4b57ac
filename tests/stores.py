"""Object stores on loopback for tests of this process."""

import s3fs


def reach(environment, monkeypatch):
    """Let this process find an object store by its environment, whatever it has reached before."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # A client is kept for the next that asks for one with the same options; it knows the address it began with.
    s3fs.S3FileSystem.clear_instance_cache()
