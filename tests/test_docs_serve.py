"""The Dockerfile and docs/serve: a file for Kubernetes that fits its schema, an image that holds what it needs."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from miniature import run_cli

from lasttoken.serving.options import TOKEN_VARIABLE

ROOT = Path(__file__).resolve().parents[1]
KUBERNETES = ROOT / "docs" / "serve" / "kubernetes.yaml"
VERSION = "1.33"


@pytest.fixture
def resources() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    return {resource["kind"]: resource for resource in yaml.safe_load_all(KUBERNETES.read_text("utf-8"))}


def test_every_resource_fits_the_schema_of_kubernetes(resources: dict[str, Any]) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="needs pip install kubernetes-validate (110 MB)")
    assert set(resources) == {"Deployment", "Service", "PodDisruptionBudget"}
    for resource in resources.values():
        validator.validate(resource, VERSION, strict=True)
    wrong = {**resources["Service"], "spec": {"ports": [{"port": "eighty"}]}}
    with pytest.raises(validator.ValidationError):
        validator.validate(wrong, VERSION, strict=True)


def test_pods_are_replaced_without_losing_a_request(resources: dict[str, Any]) -> None:
    deployment = resources["Deployment"]["spec"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["terminationGracePeriodSeconds"] >= 60 + int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels
    assert resources["Service"]["spec"]["selector"] == labels
    assert resources["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert any(entry["name"] == TOKEN_VARIABLE for entry in container["env"])
    assert container["securityContext"]["readOnlyRootFilesystem"]


def test_the_image_runs_as_the_pod_s_user_and_its_command_is_one_of_serve(resources: dict[str, Any]) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    (user,) = re.findall(r"^USER (\d+):\d+$", dockerfile, re.M)
    assert int(user) == resources["Deployment"]["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
    assert "curl" not in dockerfile
    (container,) = resources["Deployment"]["spec"]["template"]["spec"]["containers"]
    flags = re.findall(r"--[a-z-]+", re.findall(r"^ENTRYPOINT (.*)$", dockerfile, re.M)[0] + str(container["args"]))
    known = run_cli("serve", "--help").out
    assert all(flag in known for flag in flags), flags
    assert "LASTTOKEN_WORKERS" in dockerfile
    assert any(entry["name"] == "LASTTOKEN_WORKERS" for entry in container["env"])


def test_what_the_image_is_built_from_is_sent_to_the_builder() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text("utf-8"), re.M)
    sources = {source for copy in copies for source in copy.split()}
    assert sources == set(kept)
    assert all((ROOT / source).exists() for source in sources)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert all(any(fnmatch.fnmatch(name, source) for source in sources) for name in ["LICENSE", project["readme"]])
