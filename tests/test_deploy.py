"""What deploy/ promises: valid manifests, a safe CronJob, a reproducible image, a runbook that is true.

Must not need a cluster or a container engine. Everything is checked of the manifests as they stand; that
kustomize changes them only where it should is checked where there is kubectl.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from contextlib import closing
from copy import deepcopy
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import kubernetes_validate
import psycopg
import pytest
import typer
import yaml
from packaging.requirements import Requirement

import exporter
from exporter import config, errors
from exporter.cli import app
from exporter.ledger.postgres import (
    PostgresLedgerOptions,
    PostgresStorage,
    create_postgres,
    migrate_postgres,
)
from exporter.ledger.requests import restored
from tests.contracts.ledger import Subject
from tests.kit.postgres import shared_postgres

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
FOLDERS = ("base", "follow", "job", "ledger-create", "ledger-migrate", "backfill")
NOT_FOR_KUBERNETES = {"kustomization.yaml", "audit-exporter.yaml"}
RENDERED = {"name", "namespace", "image", "args", "backoffLimit", "secretName", "optional"}
"""What the kustomizations say of a manifest beyond what its file says."""
OLDEST_KUBERNETES = "1.29"


def commands(group: Any, before: str = "") -> dict[str, set[str]]:  # noqa: ANN401 - a click group
    """Every command of the program, with its options."""
    found: dict[str, set[str]] = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= commands(command, f"{before}{name} ")
        else:
            found[before + name] = {option for parameter in command.params for option in parameter.opts}
    return found


COMMANDS = commands(typer.main.get_command(app))

Manifest: TypeAlias = dict[str, Any]


# --- Reading what is there ---------------------------------------------------------------------


def documents(text: str) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(text) if document]


@cache
def plain(folder: str) -> tuple[Manifest, ...]:
    """The manifests that a kustomization names, as they stand in their files."""
    kustomization = yaml.safe_load((DEPLOY / folder / "kustomization.yaml").read_text())
    paths = [DEPLOY / folder / resource for resource in kustomization["resources"]]
    return tuple(
        document
        for path in paths
        for document in (plain(path.resolve().name) if path.is_dir() else documents(path.read_text()))
    )


@cache
def rendered(folder: str, deploy: Path = DEPLOY) -> tuple[Manifest, ...]:
    """What `kubectl apply` would send; skips the test where there is no kubectl."""
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("deploy/ as kustomize renders it: install kubectl to add that")
    command = [program, "kustomize", str(deploy / folder)]
    return tuple(documents(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def only(folder: str, kind: str) -> Manifest:
    (found,) = (document for document in plain(folder) if document["kind"] == kind)
    return found


def differences(one: Any, two: Any, path: str = "") -> set[str]:  # noqa: ANN401 - whatever YAML holds
    """Where two documents are not the same."""
    if isinstance(one, dict) and isinstance(two, dict):
        keys = one.keys() | two.keys()
        return set().union(*(differences(one.get(key), two.get(key), f"{path}.{key}") for key in keys))
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        return set().union(*(differences(*pair, f"{path}[]") for pair in zip(one, two, strict=True)))
    return set() if one == two else {path.rpartition(".")[2]}


def operations(folder: str) -> list[dict[str, Any]]:
    """What a folder's patches change."""
    patches = yaml.safe_load((DEPLOY / folder / "kustomization.yaml").read_text()).get("patches", [])
    return [operation for patch in patches for operation in yaml.safe_load(patch["patch"])]


def arguments_of(folder: str) -> list[str]:
    """What a folder's container is told to do: its patch says it, else the manifest."""
    found: list[list[str]] = [one["value"] for one in operations(folder) if one["path"].endswith("/args")]
    return found[0] if found else container(folder)["args"]


def cronjob() -> Manifest:
    spec: Manifest = only("base", "CronJob")["spec"]
    return spec


def pod(folder: str = "base") -> Manifest:
    kind = {"base": "CronJob", "follow": "Deployment"}.get(folder, "Job")
    spec = only(folder, kind)["spec"]
    template: Manifest = (spec["jobTemplate"]["spec"] if folder == "base" else spec)["template"]
    return template


def container(folder: str = "base") -> Manifest:
    (found,) = pod(folder)["spec"]["containers"]
    single: Manifest = found
    return single


def volumes() -> dict[str, Manifest]:
    """Each volume of the pod by the path it is mounted at."""
    by_name = {volume["name"]: volume for volume in pod()["spec"]["volumes"]}
    return {mount["mountPath"]: by_name[mount["name"]] for mount in container()["volumeMounts"]}


def mount_of(path: str) -> Manifest:
    """The volume that holds a path."""
    return next(volumes()[str(folder)] for folder in PurePosixPath(path).parents if str(folder) in volumes())


def gibibytes(quantity: str) -> int:
    return int(quantity.removesuffix("Gi"))


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, argument), comments dropped and continued lines joined."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined if line]


def arguments(instruction: str) -> list[str]:
    return [argument for name, argument in instructions() if name == instruction]


def pinned(lock: Path) -> dict[str, str]:
    """The versions that a lock file pins."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", lock.read_text(), flags=re.MULTILINE))


def pyproject() -> Manifest:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def runbook() -> str:
    """What a person reads, and copies from."""
    return "\n".join(
        (DEPLOY / name).read_text() for name in ("RUNBOOK.md", "sqlite/README.md", "identity/README.md")
    )


def shell_blocks() -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", runbook(), flags=re.MULTILINE | re.DOTALL)


def runbook_commands() -> list[list[str]]:
    """Every `audit-exporter …` that the runbook tells somebody to type, without its first word."""
    typed = re.findall(r"^audit-exporter (.+)$", "\n".join(shell_blocks()), flags=re.MULTILINE)
    inline = re.findall(r"`audit-exporter ([^`]+)`", runbook())
    return [shlex.split(command) for command in typed + inline]


def unknown_words(command: list[str]) -> set[str]:
    """The command, if there is none of that name, else those of its options that it does not have."""
    name = " ".join(command[:2]) if command[0] == "ledger" else command[0]
    if name not in COMMANDS:
        return {name}
    return {word for word in command if word.startswith("-")} - COMMANDS[name]


# --- Manifests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_manifest_fits_the_schemas_of_kubernetes(folder: str, version: str) -> None:
    """The files have only known fields of the right types."""
    for manifest in plain(folder):
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_rendered_manifest_fits_the_schemas_of_kubernetes(folder: str, version: str) -> None:
    """What kustomize makes of the files has only known fields of the right types, too."""
    for manifest in rendered(folder):
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_rendering_changes_a_manifest_only_where_it_should(folder: str) -> None:
    """So what is checked of the files holds for what is applied; the configuration alone is added."""
    made = {manifest["kind"]: manifest for manifest in rendered(folder)}
    there = {manifest["kind"]: manifest for manifest in plain(folder)}
    assert made.keys() - there.keys() <= {"ConfigMap"}
    for kind, manifest in there.items():
        assert differences(manifest, made[kind]) <= RENDERED


def test_no_manifest_is_left_out() -> None:
    """Every manifest under deploy/ belongs to one of the folders that are validated."""
    there = [
        path
        for path in DEPLOY.rglob("*.yaml")
        if path.name not in NOT_FOR_KUBERNETES and path.parent.name != "siem"
    ]
    expected = [document for path in there for document in documents(path.read_text())]
    checked = [*(manifest for folder in FOLDERS for manifest in plain(folder)), claim()]
    assert expected
    assert all(manifest in checked for manifest in expected)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ((), "metdata"),
        (("spec",), "concurencyPolicy"),
        (("spec", "jobTemplate", "spec"), "activeDeadlineSecs"),
        (
            ("spec", "jobTemplate", "spec", "template", "spec", "containers", 0, "securityContext"),
            "readOnlyRootFileSystem",
        ),
    ],
)
def test_a_misspelt_field_is_caught(path: tuple[str | int, ...], field: str) -> None:
    """The validation would see a field that Kubernetes drops in silence."""
    manifest = deepcopy(only("base", "CronJob"))
    place: Any = manifest
    for step in path:
        place = place[step]
    place[field] = True
    with pytest.raises(kubernetes_validate.ValidationError, match=field):
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_image_tag_is_the_version() -> None:
    """The manifests run the release that they come with."""
    site = yaml.safe_load((DEPLOY / "site" / "kustomization.yaml").read_text())
    assert [image["newTag"] for image in site["images"]] == [exporter.__version__]


def test_what_follows_runs_in_the_pod_of_the_cronjob() -> None:
    """Its arguments differ, a label by which it is found, and that it starts again whenever it ends."""
    assert differences(pod()["spec"], pod("follow")["spec"]) == {"args", "restartPolicy"}
    assert container("follow")["args"] == ["run", "--follow", *container()["args"][1:]]


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if folder not in ("base", "follow")])
def test_a_job_runs_in_the_pod_of_the_cronjob(folder: str) -> None:
    """A job has the image, rights and volumes of the live runs; its arguments alone differ."""
    assert differences(pod(), pod(folder)) == {"args"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_manifest_runs_a_command_that_exists(folder: str) -> None:
    """The arguments of every container are a command of audit-exporter, with options that it has."""
    assert not unknown_words(arguments_of(folder))


def test_a_pod_refers_only_to_what_the_base_brings() -> None:
    """Configuration, claim and service account have the names under which the base makes them."""
    kustomization = yaml.safe_load((DEPLOY / "base" / "kustomization.yaml").read_text())
    assert [entry["name"] for entry in kustomization["configMapGenerator"]] == [
        volumes()["/etc/audit-exporter"]["configMap"]["name"]
    ]
    assert pod()["spec"]["serviceAccountName"] == only("base", "ServiceAccount")["metadata"]["name"]


# --- The CronJob -------------------------------------------------------------------------------


def test_runs_do_not_pile_up() -> None:
    """While a run lasts, the next wake-up is left out; one that hung for long does not end them all."""
    assert cronjob()["concurrencyPolicy"] == "Forbid"
    assert 10 <= cronjob()["startingDeadlineSeconds"] < 900


def test_the_deadlines_are_in_order() -> None:
    """A run has spent its budget and finished its last upload before Kubernetes ends it."""
    args = container()["args"]
    budget_s = 60 * int(args[args.index("--budget") + 1].removesuffix("m"))
    last_upload_s = pod()["spec"]["terminationGracePeriodSeconds"]
    assert budget_s + last_upload_s < cronjob()["jobTemplate"]["spec"]["activeDeadlineSeconds"]


def test_kubernetes_does_not_repeat_a_run() -> None:
    """A failed run waits for the next wake-up, because the back-off of each export is in the ledger."""
    assert cronjob()["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert pod()["spec"]["restartPolicy"] == "Never"


def test_the_pod_has_no_privilege() -> None:
    """It is not root, cannot become root, cannot write to its image and has no capability."""
    security = pod()["spec"]["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_pod_cannot_talk_to_kubernetes() -> None:
    """No token of the service account is mounted."""
    assert pod()["spec"]["automountServiceAccountToken"] is False
    assert only("base", "ServiceAccount")["automountServiceAccountToken"] is False


def test_secrets_are_files() -> None:
    """No secret reaches the environment; all are in read-only files that others cannot read."""
    assert not {"env", "envFrom"} & container().keys()
    assert not any(manifest["kind"] == "Secret" for folder in FOLDERS for manifest in plain(folder))
    assert volumes()["/secrets"]["secret"]["defaultMode"] == 0o440
    (mount,) = (mount for mount in container()["volumeMounts"] if mount["mountPath"] == "/secrets")
    assert mount["readOnly"] is True


def test_pods_may_run_at_once_and_anywhere() -> None:
    """The ledger is a database: no pod has a volume that another one would have to share."""
    assert not any("persistentVolumeClaim" in volume for volume in volumes().values())
    assert "affinity" not in pod()["spec"]
    assert not any(
        manifest["kind"] == "PersistentVolumeClaim" for folder in FOLDERS for manifest in plain(folder)
    )


@pytest.mark.parametrize("folder", ["ledger-create", "ledger-migrate"])
def test_tables_are_made_and_changed_by_their_owner(folder: str) -> None:
    """A job of the owner's takes the owner's Secret in place of the runs', which cannot change a table."""
    patch = {one["path"]: one["value"] for one in operations(folder)}
    place = "/spec/template/spec/volumes/1"
    assert pod(folder)["spec"]["volumes"][1]["name"] == "secrets"
    assert patch[f"{place}/secret/secretName"] == volumes()["/secrets"]["secret"]["secretName"] + "-owner"
    assert patch[f"{place}/secret/optional"] is True


def test_scratch_space_is_bounded() -> None:
    """The workspace is scratch with a limit, and the pod's own limit has room for all of them."""
    limits = [volume["emptyDir"]["sizeLimit"] for volume in volumes().values() if "emptyDir" in volume]
    assert "emptyDir" in volumes()["/workspace"]
    total = gibibytes(container()["resources"]["limits"]["ephemeral-storage"])
    assert sum(map(gibibytes, limits)) <= total


# --- The example configuration -----------------------------------------------------------------


def test_the_example_configuration_loads() -> None:
    """It passes the strict check without a problem."""
    example = config.load(DEPLOY / "base" / "audit-exporter.yaml", {})
    assert len(example.exports) == 1
    assert not example.problems


def test_the_example_configuration_fits_the_volumes() -> None:
    """Workspace and secrets, the ledger's address among them, are where the pod has a volume for them."""
    text = (DEPLOY / "base" / "audit-exporter.yaml").read_text()
    example = yaml.safe_load(text)
    assert "secret" in mount_of(example["ledger"]["url"]["file"])
    assert "emptyDir" in mount_of(example["workspace"] + "/archive")
    secrets = re.findall(r"\{file: (\S+)\}", text)
    assert secrets
    assert all("secret" in mount_of(secret) for secret in secrets)


# --- A ledger on a volume ----------------------------------------------------------------------


def claim() -> Manifest:
    (found,) = documents((DEPLOY / "sqlite" / "pvc.yaml").read_text())
    return found


@pytest.fixture(scope="module")
def with_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deploy/ as its README says to change it for that."""
    deploy = tmp_path_factory.mktemp("sqlite") / "deploy"
    shutil.copytree(DEPLOY, deploy)
    with (deploy / "site" / "kustomization.yaml").open("a") as site:
        site.write("components:\n  - ../sqlite\n")
    return deploy


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("folder", FOLDERS)
def test_with_a_ledger_on_a_volume_every_manifest_fits_the_schemas(
    with_sqlite: Path, folder: str, version: str
) -> None:
    """Also the claim itself."""
    for manifest in (*rendered(folder, with_sqlite), claim()):
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_ledger_on_a_volume_outlives_its_pods_and_brings_them_together(
    with_sqlite: Path, folder: str
) -> None:
    """It is on a claimed volume that pods on one node can share, and such pods meet on one node."""
    manifests = rendered(folder, with_sqlite)
    (spec,) = (one["spec"] for one in manifests if one["kind"] in {"CronJob", "Job", "Deployment"})
    template = spec["jobTemplate"]["spec"]["template"] if "jobTemplate" in spec else spec["template"]
    (mount,) = (
        mount
        for mount in template["spec"]["containers"][0]["volumeMounts"]
        if mount["mountPath"] == "/ledger"
    )
    (volume,) = (volume for volume in template["spec"]["volumes"] if volume["name"] == mount["name"])
    assert volume["persistentVolumeClaim"]["claimName"] == claim()["metadata"]["name"]
    assert claim()["spec"]["accessModes"] == ["ReadWriteOnce"]
    (term,) = template["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert term["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


# --- Who the exporter is in the clouds -----------------------------------------------------------


@pytest.fixture(scope="module", params=["gcp-federation", "azure"])
def with_identity(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deploy/ as its README says to change it for that."""
    deploy = tmp_path_factory.mktemp("identity") / "deploy"
    shutil.copytree(DEPLOY, deploy)
    with (deploy / "site" / "kustomization.yaml").open("a") as site:
        site.write(f"components:\n  - ../identity/{request.param}\n")
    return deploy


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_identity_reaches_every_pod_and_changes_nothing_else(with_identity: Path, folder: str) -> None:
    """Every manifest still fits the schemas, and has one token or one label more."""
    for before, after in zip(rendered(folder), rendered(folder, with_identity), strict=True):
        kubernetes_validate.validate(after, OLDEST_KUBERNETES, strict=True)
        expected = {"volumes", "volumeMounts", "identity/use"}
        is_run = after["kind"] in {"CronJob", "Deployment", "Job"}
        assert bool(differences(before, after)) is is_run
        assert differences(before, after) <= expected


# --- The image ---------------------------------------------------------------------------------


def test_the_base_image_is_pinned() -> None:
    """Every stage starts from the same slim Python, by release of Python and of Debian."""
    bases = {argument.split(" AS ")[0] for argument in arguments("FROM")}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+(\.\d+)?-slim-[a-z]+", bases.pop())


def test_the_image_does_not_run_as_root() -> None:
    """It ends as the numeric user that the manifests name."""
    security = pod()["spec"]["securityContext"]
    assert arguments("USER")[-1] == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert security["runAsUser"] >= 10_000


def test_the_image_installs_only_what_is_locked() -> None:
    """Pip takes wheels that a lock has the hashes of, and the package itself, and nothing else."""
    steps = [step.split() for argument in arguments("RUN") for step in argument.split("&&")]
    commands = [set(step) for step in steps if step[0] == "pip"]
    assert len(commands) == 4
    for words in commands:
        assert {"--require-hashes", "--only-binary"} <= words or {"--no-deps", "--no-index"} <= words


def test_the_image_has_no_build_tools() -> None:
    """The last stage takes over the finished environment and installs nothing itself."""
    last_stage = instructions()[[name for name, _ in instructions()].index("FROM", 1) :]
    assert ("COPY", "--from=build /opt/audit-exporter /opt/audit-exporter") in last_stage
    assert not any(re.search(r"\b(pip|apt-get|apt)\b", argument) for _, argument in last_stage)


def test_the_image_starts_the_command() -> None:
    """Its entry point is the command that the package installs, and it finds the configuration."""
    (entry,) = (json.loads(argument) for argument in arguments("ENTRYPOINT"))
    assert entry == list(pyproject()["project"]["scripts"])
    settings = dict(word.split("=", 1) for argument in arguments("ENV") for word in argument.split())
    assert settings["AUDIT_EXPORTER_CONFIG"] == "/etc/audit-exporter/audit-exporter.yaml"


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_a_lock_pins_by_hash_and_names_no_index(name: str) -> None:
    """Every requirement has a hash, and where to get it from is left to whoever builds."""
    text = (DEPLOY / name).read_text()
    requirements = [line for line in text.splitlines() if not line.startswith(" ")]
    assert requirements
    assert all(re.match(r"[a-z0-9._-]+==\S+ .*\\$", line) for line in requirements)
    assert len(re.findall(r"==[^\n]*\\\n +--hash=sha256:", text)) == len(requirements)
    assert "://" not in text


def test_the_runtime_lock_has_every_dependency() -> None:
    """What the package asks for is in the lock, in a version that it accepts."""
    versions = pinned(DEPLOY / "requirements.lock")
    for requirement in map(Requirement, pyproject()["project"]["dependencies"]):
        assert requirement.specifier.contains(versions[requirement.name])


def test_the_build_lock_has_the_build_backend() -> None:
    """The image is built with the backend that the package names."""
    versions = pinned(DEPLOY / "build.lock")
    for requirement in map(Requirement, pyproject()["build-system"]["requires"]):
        assert requirement.specifier.contains(versions[requirement.name])


def test_the_image_has_the_versions_that_were_tested() -> None:
    """The runtime lock and the developers' lock agree."""
    tested = pinned(ROOT / "requirements.lock")
    shipped = pinned(DEPLOY / "requirements.lock")
    assert {name: tested.get(name) for name in shipped} == shipped


# --- The runbook -------------------------------------------------------------------------------


def test_the_runbook_names_only_commands_that_exist() -> None:
    """Nobody finds out at night that a command or an option has another name."""
    assert len(runbook_commands()) >= 10
    assert not set().union(*map(unknown_words, runbook_commands()))


@pytest.mark.parametrize("command", [["ledger", "reset"], ["resume-export"], ["run", "--force"]])
def test_a_command_that_does_not_exist_is_caught(command: list[str]) -> None:
    """The check of the runbook's commands can fail."""
    assert unknown_words(command)


def test_the_runbook_explains_every_exit_status() -> None:
    """Its table has 0 and each status that an error leads to."""
    explained = {int(status) for status in re.findall(r"^\| (\d+) \|", runbook(), flags=re.MULTILINE)}
    raised = {
        value.exit_status
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.ExporterError)
    }
    assert explained == raised | {0}


def test_the_runbook_stops_whatever_may_run_and_starts_it_again() -> None:
    """A Deployment that goes on beside a ledger that is being restored would lose records."""
    name = only("follow", "Deployment")["metadata"]["name"]
    stop, go = [block for block in shell_blocks() if "patch cronjob" in block]
    assert '"suspend": true' in stop
    assert f"kubectl scale deployment {name} --replicas=0" in stop
    assert '"suspend": false' in go
    assert f"kubectl scale deployment {name} --replicas=1" in go
    assert f'kube_deployment_status_replicas_available{{deployment="{name}"}}' in runbook()


def test_the_runbook_can_be_pasted() -> None:
    """All its blocks are valid shell."""
    bash = shutil.which("bash") or "bash"
    subprocess.run([bash, "-n"], input="\n".join(shell_blocks()), text=True, check=True)


def test_the_runbooks_sql_makes_roles_that_can_do_what_they_have_to_and_no_more() -> None:
    """The owner makes the tables and brings them up to date; a run reads and writes them and changes none."""
    server = shared_postgres()
    first, second = re.findall(r"^```sql\n(.*?)^```", runbook(), flags=re.MULTILINE | re.DOTALL)
    with server.connect() as connection:
        for statement in first.split(";\n")[:-1]:
            connection.execute(statement.encode())
    owner, run = (
        PostgresLedgerOptions(server.url("audit_exporter", role, "…"))
        for role in ("audit_exporter_owner", "audit_exporter")
    )
    with server.connect("audit_exporter", user="audit_exporter_owner", password="…") as connection:
        connection.execute(second.encode())
    create_postgres(owner)
    assert len(set(migrate_postgres(owner))) == 1
    with closing(PostgresStorage(run)) as storage:
        subject = Subject(storage)
        subject.begin()
        subject.deliver(subject.plan())
        assert restored(storage, subject.clock) == 0
    with server.connect("audit_exporter", user="audit_exporter", password="…") as connection:
        for forbidden in (
            "ALTER TABLE audit_exporter.runs ADD host text",
            "CREATE TABLE audit_exporter.mine ()",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forbidden.encode())
