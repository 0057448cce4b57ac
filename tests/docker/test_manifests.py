"""What runs in containers and on clusters agrees with itself, with the pins, and with the commands that there are."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from curate.cli import app
from curate.config import parse_config

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "docker" / "kuberay"
SLURM = ROOT / "docker" / "slurm" / "curate.sbatch"
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()


def objects():
    """Every Kubernetes object by its kind."""
    found = {}
    for file in sorted(KUBERAY.glob("*.yaml")):
        for each in yaml.safe_load_all(file.read_text()):
            found[each["kind"]] = each
    return found


OBJECTS = objects()
CLUSTER = OBJECTS["RayCluster"]["spec"]
JOB = OBJECTS["RayJob"]["spec"]
GROUPS = {"head": CLUSTER["headGroupSpec"], **{group["groupName"]: group for group in CLUSTER["workerGroupSpecs"]}}


def pod(group):
    return group["template"]["spec"]


def container(group):
    (only,) = pod(group)["containers"]
    return only


def pinned(package):
    """The version that constraints.txt names."""
    return re.search(rf"^{package}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]


def in_bytes(quantity):
    units = {"": 1, "Mi": 2**20, "Gi": 2**30}
    number, unit = re.fullmatch(r"(\d+)(\w*)", quantity).groups()
    return int(number) * units[unit]


def check_command(words):
    """Fail unless `curate` knows the command and takes these options."""
    program, name, *arguments = words
    assert program == "curate"
    typer.main.get_command(app).commands[name].make_context(name, arguments).close()


def test_the_job_runs_on_the_cluster_that_is_shown():
    assert JOB["rayClusterSpec"] == CLUSTER


def test_pods_run_the_ray_that_the_image_has():
    assert CLUSTER["rayVersion"] == pinned("ray")


def test_every_pod_has_the_one_image_that_the_dockerfile_says_how_to_build():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert {container(group)["image"] for group in GROUPS.values()} == {f"curate:{version}-cuda"}
    for target in ("cuda", "cpu"):
        assert f"--target {target} -t curate:{version}-{target} ." in DOCKERFILE
        assert re.search(rf"^FROM \S+ AS {target}$", DOCKERFILE, re.MULTILINE)


def test_the_job_starts_a_command_that_there_is():
    check_command(shlex.split(JOB["entrypoint"]))


def test_a_command_that_there_is_not_would_be_noticed():
    with pytest.raises(Exception, match="--runer"):
        check_command(["curate", "run", "pipeline.yaml", "--runer", "ray"])


def test_the_job_s_pipeline_is_one_and_lies_where_every_pod_sees_it():
    (name, text), *others = OBJECTS["ConfigMap"]["data"].items()
    config = parse_config(text, name, [])
    assert not others
    # The head that plans has no GPU: `auto` would choose the CPU.
    assert config.encoder.device == "cuda"
    path = shlex.split(JOB["entrypoint"])[2]
    for group in GROUPS.values():
        mounted = {mount["name"]: mount["mountPath"] for mount in container(group)["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod(group)["volumes"]}
        assert path == f"{mounted['pipeline']}/{name}"
        assert volumes["pipeline"]["configMap"]["name"] == OBJECTS["ConfigMap"]["metadata"]["name"]
        assert (
            volumes["data"]["persistentVolumeClaim"]["claimName"]
            == OBJECTS["PersistentVolumeClaim"]["metadata"]["name"]
        )
        for place in (config.output, *config.input.paths):
            assert place.startswith(f"{mounted['data']}/")
    assert OBJECTS["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]


@pytest.mark.parametrize("name", GROUPS)
def test_ray_s_object_store_fits_into_the_shared_memory_and_both_into_the_pod(name):
    group = GROUPS[name]
    mounted = {mount["mountPath"]: mount["name"] for mount in container(group)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(group)["volumes"]}
    shared = volumes[mounted["/dev/shm"]]["emptyDir"]
    assert shared["medium"] == "Memory"
    assert int(group["rayStartParams"]["object-store-memory"]) < in_bytes(shared["sizeLimit"])
    assert in_bytes(shared["sizeLimit"]) < in_bytes(container(group)["resources"]["limits"]["memory"]) / 2


@pytest.mark.parametrize("name", GROUPS)
def test_pods_ask_for_what_they_may_use(name):
    resources = container(GROUPS[name])["resources"]
    assert resources["requests"] == resources["limits"]
    assert {"cpu", "memory"} <= set(resources["limits"])
    assert ("nvidia.com/gpu" in resources["limits"]) == (name == "gpu")


def test_every_node_is_there_before_the_run_begins():
    # A step is shared out among the CPUs and GPUs that the cluster has when it starts.
    for group in CLUSTER["workerGroupSpecs"]:
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]
    assert GROUPS["head"]["rayStartParams"]["num-cpus"] == "0"


def test_nothing_runs_as_root():
    user = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert user == [("1000", "1000")] * 2
    for group in GROUPS.values():
        assert pod(group)["securityContext"]["runAsNonRoot"] is True
        assert pod(group)["securityContext"]["runAsUser"] == 1000
        assert container(group)["securityContext"]["allowPrivilegeEscalation"] is False


def test_the_image_s_extras_and_files_are_there():
    project = (ROOT / "pyproject.toml").read_text()
    wheels = set(re.findall(r"'\.\[([\w,]+)\]'", DOCKERFILE))
    assert wheels == {"cluster,offline,s3"}
    for extra in ["cluster", "offline", "s3"]:
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE)
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert {name for line in copied for name in line.split()} == sent
    assert all((ROOT / name).exists() for name in sent)


def test_no_address_of_a_package_index_stands_in_a_file():
    files = [*KUBERAY.glob("*"), SLURM, ROOT / "docker" / "Dockerfile", ROOT / ".dockerignore"]
    assert not [file.name for file in files if "://" in file.read_text().replace("s3://", "")]


def test_the_slurm_script_is_bash_and_runs_a_command_that_there_is():
    subprocess.run(["bash", "-n", SLURM], check=True)
    (command,) = re.findall(r"curate run .*--runner ray", SLURM.read_text())
    check_command([word.replace("$@", "pipeline.yaml") for word in shlex.split(command)])


def test_the_page_names_commands_and_files_that_there_are():
    page = (ROOT / "docs" / "cluster.md").read_text()
    commands = re.findall(r"^    .*?\b(curate (?:run|plan) [^#\n]*)", page, re.MULTILINE)
    assert len(commands) >= 6
    for command in commands:
        check_command(shlex.split(command))
    for path in re.findall(r"docker/[\w./]+\w", page):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"^\| `(\w+\.yaml)` \|", page, re.MULTILINE):
        assert (KUBERAY / name).is_file(), name
