"""Files that clusters are made from, held against the schemas of those who read them.

All are closed here: where properties are listed, no other is allowed. So a misspelt field is a mistake, which the
real readers pass over in silence.
"""

import copy
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

__all__ = [
    "NAMED_BY_US",
    "ROOT",
    "documents",
    "misspelt",
    "mistakes_of",
    "mistakes_of_launcher",
]

ROOT = Path(__file__).parents[1]
KUBERNETES = "1.34"
"""Of the core objects' schema; older ones have them, too."""
NAMED_BY_US = ("labels", "annotations", "matchLabels", "rayStartParams", "requests", "limits", "data", "resources")
NAMED_BY_US += ("file_mounts", "available_node_types")
"""Mappings whose keys are names of the user's."""

_METADATA = {name: {"type": "string"} for name in ("name", "namespace", "generateName")}
_METADATA |= {
    name: {"type": "object", "additionalProperties": {"type": "string"}} for name in ("labels", "annotations")
}
_CUSTOM = "ray.io/v1"


def documents(path: Path) -> list[dict[str, Any]]:
    """What is in a YAML file."""
    return [one for one in yaml.load_all(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader) if one]


def mistakes_of(document: dict[str, Any]) -> list[str]:
    """What is wrong with a Kubernetes object. The test is skipped where KubeRay's schemas are absent."""
    if not {"apiVersion", "kind"} <= set(document):
        return ["apiVersion or kind is missing"]
    if document["apiVersion"] == _CUSTOM:
        return [*_told(_kuberay(document["kind"]), document), *_rules_broken(document)]
    import kubernetes_validate

    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return [str(error)]
    return []


def mistakes_of_launcher(document: dict[str, Any]) -> list[str]:
    """The same for a file of `ray up`: by the schema in Ray's wheel, and each machine by its cloud's own."""
    import ray.autoscaler

    schema = json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text(encoding="utf-8"))
    schema["properties"]["provider"]["additionalProperties"] = False  # there for external providers
    found = list(_told(schema, document))
    provider = document.get("provider", {}).get("type")
    for name, group in document.get("available_node_types", {}).items():
        machine = group.get("node_config", {})
        told = _ec2_mistakes(machine) if provider == "aws" else _told(_instance_schema(), machine)
        found += [f"{name}: {mistake}" for mistake in told]
    return found


def misspelt(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The document with one field misspelt, for each field that has its name from a schema; and where it stands.

    Of the same field in several items of a list, the first.
    """
    first = {
        tuple("#" if isinstance(key, int) else key for key in place): place for place in [*_fields(document)][::-1]
    }
    for place in first.values():
        changed = copy.deepcopy(document)
        holder: Any = changed
        for key in place[:-1]:
            holder = holder[key]
        holder[f"{place[-1]}x"] = holder.pop(place[-1])
        yield ".".join(map(str, place)), changed


def _fields(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not (place and place[-1] in NAMED_BY_US):
                yield (*place, key)
            yield from _fields(inner, (*place, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _fields(inner, (*place, number))


def _told(schema: dict[str, Any], document: dict[str, Any]) -> Iterator[str]:
    cls = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    for error in cls(schema).iter_errors(document):
        yield f"{error.json_path}: {error.message}"[:300]


def _rules_broken(document: dict[str, Any]) -> Iterator[str]:
    """KubeRay's own rules in CEL that can be broken in one file, and some of its operator's, by hand."""
    for value in _sections(document):
        if value.get("managedBy", "ray.io/kuberay-operator") not in (
            "ray.io/kuberay-operator",
            "kueue.x-k8s.io/multikueue",
        ):
            yield "managedBy"
        strategy = value.get("deletionStrategy")
        if strategy is not None:
            legacy = [name in strategy for name in ("onSuccess", "onFailure")]
            if (any(legacy) and "deletionRules" in strategy) or not (all(legacy) or strategy.get("deletionRules")):
                yield "deletionStrategy"
            for rule in strategy.get("deletionRules", []):
                if ("jobStatus" in rule["condition"]) == ("jobDeploymentStatus" in rule["condition"]):
                    yield "deletionStrategy.deletionRules"
    spec = document.get("spec", {})  # the operator's own, in Go: what it refuses
    if document.get("kind") == "RayJob":
        if "deletionStrategy" in spec and spec.get("shutdownAfterJobFinishes"):
            yield "shutdownAfterJobFinishes beside deletionStrategy"
        if spec.get("ttlSecondsAfterFinished") and not spec.get("shutdownAfterJobFinishes"):
            yield "ttlSecondsAfterFinished without shutdownAfterJobFinishes"
    for group in (*spec.get("workerGroupSpecs", []), *spec.get("rayClusterSpec", {}).get("workerGroupSpecs", [])):
        if not group.get("minReplicas", 0) <= group.get("replicas", 0) <= group.get("maxReplicas", 0):
            yield f"replicas of {group.get('groupName')}"
        if "labels" in group.get("rayStartParams", {}):
            yield f"labels in rayStartParams of {group.get('groupName')}"


def _sections(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _sections(inner)


@cache
def kuberay_definition(kind: str) -> dict[str, Any]:
    """The schema of a kind, as KubeRay has it."""
    data = os.environ.get("LLMCORE_DATA")
    path = Path(data or "/nowhere").parent / "schemas" / "kuberay" / f"ray.io_{kind.lower()}s.yaml"
    if not path.exists():
        pytest.skip("KubeRay's schemas are not on this machine: they are beside the folder that LLMCORE_DATA names")
    whole = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    [version] = [one for one in whole["spec"]["versions"] if one["name"] == "v1"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


@cache
def _kuberay(kind: str) -> dict[str, Any]:
    return _closed(kuberay_definition(kind))


def _closed(schema: Any, name: str = "") -> Any:
    """A copy in which no object may have what is not listed; its metadata, which Kubernetes itself knows, included."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if name == "metadata" and schema.get("type") == "object" and "properties" not in schema:
        return {"type": "object", "properties": _METADATA, "additionalProperties": False}
    closed = {
        key: {inner: _closed(one, inner) for inner, one in value.items()} if key == "properties" else _closed(value)
        for key, value in schema.items()
    }
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed["additionalProperties"] = False
    return closed


def _ec2_mistakes(machine: dict[str, Any]) -> Iterator[str]:
    """By botocore's own model of RunInstances; `SubnetIds` is Ray's own word, from which it takes one each."""
    from botocore.validate import ParamValidator

    given = dict(machine)
    if not isinstance(subnets := given.pop("SubnetIds", None), list):
        yield "SubnetIds: missing"
    elif subnets:
        given["SubnetId"] = subnets[0]
    if told := ParamValidator().validate({**given, "MinCount": 1, "MaxCount": 1}, _run_instances()).generate_report():
        yield told


@cache
def _run_instances() -> Any:
    import botocore.session

    return botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape


@cache
def _instance_schema() -> dict[str, Any]:
    """Compute Engine's Instance, from the discovery document in Google's own client, closed."""
    import googleapiclient

    beside = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents" / "compute.v1.json"
    kinds = json.loads(beside.read_text(encoding="utf-8"))["schemas"]
    return {"$ref": "#/$defs/Instance", "$defs": {name: _as_schema(kind) for name, kind in kinds.items()}}


def _as_schema(kind: Any) -> Any:
    """Google's own notation is as good as JSON Schema, but for its references and integers in texts."""
    if isinstance(kind, list):
        return [_as_schema(one) for one in kind]
    if not isinstance(kind, dict):
        return kind
    if "$ref" in kind:
        return {"$ref": f"#/$defs/{kind['$ref']}"}
    kept = ("type", "items", "enum", "additionalProperties", "pattern")
    schema = {key: _as_schema(value) for key, value in kind.items() if key in kept}
    if "properties" in kind:
        schema["properties"] = {name: _as_schema(one) for name, one in kind["properties"].items()}
        schema["additionalProperties"] = False
    return schema
