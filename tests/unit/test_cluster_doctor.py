"""What the doctor's checks make of what was seen: numbers in, findings out."""

import json
import os
import socket
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.doctor.check import Check
from cluster.doctor.checks import (
    CHECKS,
    authentication,
    clocks,
    compilers,
    dashboard,
    disk,
    gpus,
    groups,
    limits,
    ports,
    shared_memory,
    storage,
    versions,
    zero,
)
from cluster.doctor.examine import Report, run_check
from cluster.doctor.finding import Finding, exit_code
from cluster.doctor.hands import Answer
from cluster.doctor.node import Node, parsed
from cluster.doctor.patient import Patient, ranks_of
from cluster.doctor.rank import Way
from cluster.doctor.raylet import options_of
from cluster.doctor.told import as_json, as_lines
from cluster.doctor.zero_step import Trained
from cluster.interface import interface_of, name_interface
from llmcore.records.heartbeat import TIMING
from llmcore.storage.tried import Tried

GIB = 2**30
HEAD = Node("a" * 8, "head", "10.0.0.1", is_head=True, object_store_bytes=GIB)
ONE = Node("b" * 8, "one", "10.0.0.2", object_store_bytes=GIB)
TWO = Node("c" * 8, "two", "10.0.0.3", object_store_bytes=GIB)
THREE = Node("d" * 8, "three", "10.0.0.4", object_store_bytes=GIB)
DRIVER = {"python": "3.11.9", "ray": "2.60.0", "torch": "2.13.0", "numpy": "2.4.6"}


def severities(findings: Iterable[Finding]) -> dict[str, str]:
    """The severity of each place, of which there is one finding."""
    found = list(findings)
    assert len({finding.where for finding in found}) == len(found)
    return {finding.where: finding.severity for finding in found}


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    assert bool(finding.fix) == (finding.severity in ("error", "warning"))
    return finding


# --- The frame.


def test_every_check_has_a_name_of_its_own_and_says_what_it_looks_at() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS) == 13
    assert all("(error)" in check.looks_at or "an error" in check.looks_at for check in CHECKS)  # its bounds


def test_errors_alone_make_an_exit_code() -> None:
    found = [Finding("disk", severity, "one", "") for severity in ("ok", "unknown", "warning")]
    assert exit_code(found) == 0
    assert exit_code([*found, Finding("disk", "error", "one", "")]) == 1


def test_a_check_that_fails_itself_is_a_finding() -> None:
    def broken(patient: Patient) -> Iterable[Finding]:
        raise KeyError("surprise")

    patient: Any = None
    (finding,) = run_check(Check("disk", "", broken), patient)
    assert (finding.check, finding.severity) == ("disk", "unknown") and "KeyError: 'surprise'" in finding.seen
    mixed = [Finding("disk", "ok", "one", ""), Finding("disk", "error", "two", "")]
    assert [found.where for found in run_check(Check("disk", "", lambda patient: mixed), patient)] == ["two", "one"]


def listed(name: str, address: str, node_id: str, **resources: float) -> dict[str, Any]:
    return {
        "NodeID": node_id,
        "NodeName": name,
        "NodeManagerAddress": address,
        "NodeManagerPort": 1,
        "ObjectManagerPort": 2,
        "Alive": True,
        "Resources": resources,
    }


def test_nodes_are_named_so_that_they_can_be_told_apart() -> None:
    alike = [listed("10.0.0.2", "10.0.0.2", number * 8) for number in ("1", "2")]
    head = listed("z", "10.0.0.1", "3" * 8, **{"node:__internal_head__": 1.0, "GPU": 2.0})
    dead = listed("y", "10.0.0.9", "4" * 8) | {"Alive": False}
    nodes = parsed([*alike, head, dead])
    assert [node.name for node in nodes] == ["z", "10.0.0.2/111111", "10.0.0.2/222222"]
    assert nodes[0].is_head and nodes[0].num_gpus == 2


def test_an_only_node_has_two_ranks_but_for_a_single_gpu() -> None:
    assert ranks_of([HEAD, ONE]) == [HEAD, ONE]
    first, second = ranks_of([HEAD])
    assert first == HEAD and second.id == HEAD.id and second.name != HEAD.name
    assert len(ranks_of([replace(HEAD, num_gpus=2)])) == 2
    assert ranks_of([replace(HEAD, num_gpus=1)]) == [replace(HEAD, num_gpus=1)]


def test_a_raylets_options_are_read_from_its_command() -> None:
    options = options_of(["raylet", "--plasma_directory=/dev/shm", "--head", "--min_worker_port=10002", "x=y"])
    assert options == {"plasma_directory": "/dev/shm", "min_worker_port": "10002"}


REPORT = Report(
    "10.0.0.1:6379",
    ("head", "one"),
    12.3,
    (
        Finding("disk", "error", "one", "0.5 GiB free", "delete"),
        Finding("limits", "ok", "head", "20000 open files"),
        Finding("limits", "ok", "one", "20000 open files"),
    ),
)


def test_a_report_is_a_table_whose_good_lines_are_one() -> None:
    assert list(as_lines(REPORT, lambda text, severity: f"<{severity}>{text}")) == [
        "<error>error  disk    one       0.5 GiB free",
        "                         fix: delete",
        "<ok>ok     limits  2 places  20000 open files (head)",
        "10.0.0.1:6379, 2 nodes, 12 s: 1 error, 2 ok",
    ]


def test_a_report_is_json_too() -> None:
    told = json.loads(as_json(REPORT))
    assert told["exit_code"] == 1 and len(told["findings"]) == 3
    assert told["findings"][0] == {
        "check": "disk", "severity": "error", "where": "one", "seen": "0.5 GiB free", "fix": "delete",
    }  # fmt: skip


# --- The checks.


def test_versions_are_held_against_the_drivers_and_the_pins() -> None:
    pins = {"torch": "2.13.0", "numpy": "2.4.6", "pytest": "9"}
    seen = {
        HEAD: DRIVER,
        ONE: DRIVER | {"torch": "2.12.0"},
        TWO: {name: version for name, version in DRIVER.items() if name != "ray"},
        THREE: DRIVER | {"numpy": "2.4.5"},
    }
    found = list(versions.judge(pins, DRIVER, seen))
    assert severities(found) == {"head": "ok", "one": "error", "two": "error", "three": "warning"}
    told = {finding.where: finding.seen for finding in found}
    assert told["one"] == "torch is 2.12.0, the driver's 2.13.0"
    assert told["two"] == "ray is absent, the driver's 2.60.0"
    assert "numpy 2.4.5 (pinned 2.4.6)" in told["three"]
    assert severities(versions.judge(pins, DRIVER | {"numpy": "1"}, {}))["driver"] == "warning"


def test_pins_and_packages_are_compared_by_normalized_names_without_local_parts(tmp_path: Path) -> None:
    file = tmp_path / "constraints.txt"
    file.write_text("# Comment\nPyYAML==6.0.4\nast_serialize==0.13.1\ntorch==2.13.0+cpu\n")
    assert versions.pinned(file) == {"pyyaml": "6.0.4", "ast-serialize": "0.13.1", "torch": "2.13.0"}
    assert versions.pinned(tmp_path / "absent.txt") == {}
    here = versions.installed()
    assert {"python", "ray", "torch", "pyyaml", "typing-extensions"} <= here.keys() and "+" not in here["torch"]


@pytest.mark.parametrize(
    ("free", "total", "severity"),
    [
        (0.9 * GIB, 10 * GIB, "error"),
        (9 * GIB, 100 * GIB, "warning"),
        (20 * GIB, 1000 * GIB, "error"),  # 98 % in use: Ray spills none
        (11 * GIB, 100 * GIB, "ok"),
    ],
)
def test_room_on_rays_disk(free: float, total: float, severity: str) -> None:
    place = disk.Place("Ray's temporary folder", "/tmp/ray", int(total), int(free))
    finding = only(disk.judge(ONE, [place]))
    assert finding.severity == severity and "/tmp/ray" in finding.seen


def test_rays_bound_on_what_is_in_use_is_not_the_caches() -> None:
    assert only(disk.judge(ONE, [disk.Place("the package's cache", "/c", 1000 * GIB, 20 * GIB)])).severity == "ok"


@pytest.mark.parametrize(
    ("total", "free", "store_in", "severity"),
    [
        (4 * GIB, 4 * GIB, "/dev/shm", "ok"),
        (GIB // 2, GIB // 2, "/tmp/ray", "error"),
        (GIB // 2, GIB // 2, "/dev/shm", "error"),
        (4 * GIB, 2**20, "/dev/shm", "error"),
        (GIB + 2**20, GIB, "/dev/shm", "warning"),
    ],
)
def test_shared_memory_is_held_against_the_object_store(total: int, free: int, store_in: str, severity: str) -> None:
    memory = shared_memory.SharedMemory(total, free, store_in)
    assert only(shared_memory.judge(ONE, memory)).severity == severity


@pytest.mark.parametrize(
    ("files", "processes", "severity"),
    [(1024, None, "error"), (65536, None, "ok"), (None, 512, "error"), (8192, 2000, "warning"), (None, None, "ok")],
)
def test_limits(files: int | None, processes: int | None, severity: str) -> None:
    assert only(limits.judge(ONE, limits.Limits(files, processes))).severity == severity


def test_both_limits_are_told() -> None:
    assert [finding.severity for finding in limits.judge(ONE, limits.Limits(1000, 1000))] == ["error", "error"]


def test_a_clock_is_held_against_the_middle_one() -> None:
    """Whichever is wrong, the driver's too."""
    good = clocks.Offset(0.001, 0.002)
    found = severities(clocks.judge({HEAD: good, ONE: clocks.Offset(-300.0, 0.1), TWO: clocks.Offset(2.0, 0.1)}))
    assert found == {"head": "ok", "one": "error", "two": "warning"}
    driver_wrong = {node: clocks.Offset(300.0, 0.1) for node in (HEAD, ONE, TWO)}
    assert severities(clocks.judge(driver_wrong)) == {"driver": "error", "head": "ok", "one": "ok", "two": "ok"}


def test_a_clock_that_a_slow_network_may_explain_is_not_told_as_wrong() -> None:
    borne_s = TIMING.stale_s - 2 * TIMING.beat_s
    far = borne_s + 1
    assert severities(clocks.judge({HEAD: clocks.Offset(0, 0), ONE: clocks.Offset(far, 0.5)}))["one"] == "error"
    found = severities(clocks.judge({HEAD: clocks.Offset(0, 0), TWO: clocks.Offset(0, 0), ONE: clocks.Offset(far, 7)}))
    assert found["one"] == "ok"
    assert clocks.best([clocks.Offset(3, 2), clocks.Offset(1, 0.5)]) == clocks.Offset(1, 0.5)


def test_a_port_that_some_nodes_do_not_reach_is_told_once() -> None:
    closed, open_ = ports.Port(TWO, "object manager", 7000), ports.Port(TWO, "node manager", 7001)
    tried = {HEAD: {closed: "no answer", open_: ""}, ONE: {closed: "no answer", open_: ""}, TWO: {}}
    finding = only(ports.judge(tried))
    assert (finding.severity, finding.where) == ("error", "two")
    assert "port 7000 (object manager) of two is not reached by 2 of 2 nodes: no answer (head, one)" in finding.seen
    assert only(ports.judge({HEAD: {open_: ""}, TWO: {}})).seen.startswith("all 1 connections")
    assert only(ports.judge({HEAD: {}})).seen == "one node: no other's ports"


def test_ports_are_really_tried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.getsockname()[1]
        assert ports.try_ports([("127.0.0.1", number)]) == [""]
    assert ports.try_ports([("127.0.0.1", number)]) == ["Connection refused"]
    opened = ports.open_ports()
    assert ports.try_ports([("127.0.0.1", opened["process groups"])]) == [""]
    ports.close_ports()
    assert ports.try_ports([("127.0.0.1", opened["process groups"])]) != [""]


@pytest.mark.parametrize(
    ("bound", "own", "severity"),
    [
        ("127.0.0.1", "8.8.8.8", "ok"),
        ("0.0.0.0", "10.0.0.1", "ok"),
        ("0.0.0.0", "8.8.8.8", "error"),
        ("::", "8.8.8.8", "error"),
        ("8.8.8.8", "8.8.8.8", "error"),
        ("10.0.0.1", "8.8.8.8", "ok"),
    ],
)
def test_a_dashboard_at_a_public_address(bound: str, own: str, severity: str) -> None:
    assert only(dashboard.judge("head", 8265, dashboard.Listening((bound,), ("127.0.0.1", own)))).severity == severity


def test_addresses_that_listen_are_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        seen = dashboard.look(listener.getsockname()[1])
    assert seen.bound == ("127.0.0.1",) and "127.0.0.1" in seen.own


def test_an_open_door_is_an_error_and_a_door_that_is_not_there_is_unknown() -> None:
    refused = {"the Jobs API without a token": "401", "the control service with a wrong token": "UNAUTHENTICATED"}
    assert only(authentication.judge_door("head", refused)).severity == "ok"
    found = list(authentication.judge_door("head", refused | {"the Jobs API with a wrong token": "200"}))
    assert [finding.severity for finding in found] == ["error"] and "RAY_AUTH_MODE=token" in found[0].fix
    (unknown,) = authentication.judge_door("head", refused | {"the Jobs API with a wrong token": "timed out"})
    assert unknown.severity == "unknown"


def test_a_token_file_that_others_may_read_is_an_error() -> None:
    private, shown = authentication.TokenFile("/t", 0o600), authentication.TokenFile("/t", 0o644)
    absent = authentication.TokenFile("/t", None)
    assert severities(authentication.judge_file(private, {ONE: shown, TWO: absent})) == {"one": "error"}
    assert severities(authentication.judge_file(shown, {})) == {"driver": "error"}


@pytest.mark.parametrize(
    ("compiler", "complaint", "ninja", "built", "severity"),
    [
        ("/usr/bin/c++", "", True, True, "ok"),
        ("", "", True, True, "warning"),
        ("", "", True, False, "error"),
        ("/usr/bin/c++", "omp.h: no such file", True, False, "error"),
        ("/usr/bin/c++", "", False, False, "error"),
        ("/usr/bin/c++", "", True, False, "warning"),
    ],
)
def test_compilers(compiler: str, complaint: str, ninja: bool, built: bool, severity: str) -> None:
    finding = only(compilers.judge(ONE, compilers.Tools(compiler, complaint, ninja, built)))
    assert finding.severity == severity


def test_the_compiler_is_asked_what_the_installation_asks_it() -> None:
    installs = (Path(__file__).parents[2] / "cluster" / "install.sh").read_text()
    asked = installs.split("compiles() {")[1].split("}\n")[0]
    assert repr(compilers._PROGRAM) in asked and " ".join(compilers._OPTIONS) in asked
    here = compilers.look()
    assert here.ninja and here.compiler and not here.complaint  # `make install` has needed them


def test_gpus_that_are_asked_for_and_absent() -> None:
    with_two = replace(ONE, num_gpus=2)
    assert only(gpus.judge_count(0, [HEAD])).severity == "ok"
    assert only(gpus.judge_count(2, [HEAD, with_two])).severity == "ok"
    finding = only(gpus.judge_count(4, [HEAD, with_two]))
    assert (finding.severity, finding.seen) == ("error", "4 GPUs are asked for, the cluster has 2")


DEVICES = gpus.Devices(("NVIDIA H100",), "580.95.05", 1, "", "13.0")


@pytest.mark.parametrize(
    ("num_gpus", "changed", "severity", "told"),
    [
        (1, {}, "ok", "driver 580.95.05 for CUDA 13.0"),
        (1, {"driver": "570.124.06"}, "error", "too old for CUDA 13.0 of torch, which needs 580.65"),
        (1, {"torch_cuda": ""}, "error", "torch is built without CUDA"),
        (1, {"names": (), "complaint": "nvidia-smi: no driver"}, "error", "1 devices are in /dev"),
    ],
)
def test_driver_ray_and_torch_agree(num_gpus: int, changed: dict[str, Any], severity: str, told: str) -> None:
    finding = only(gpus.judge(replace(ONE, num_gpus=num_gpus), replace(DEVICES, **changed)))
    assert finding.severity == severity and told in finding.seen


def test_gpus_by_ray_and_by_the_driver() -> None:
    more, fewer = (list(gpus.judge(replace(ONE, num_gpus=number), DEVICES)) for number in (2, 0))
    assert [finding.severity for finding in more] == ["error", "ok"]
    assert [finding.severity for finding in fewer] == ["warning", "ok"]
    assert list(gpus.judge(ONE, gpus.Devices((), "", 0, "", ""))) == []


def tried(**troubles: str) -> list[Tried]:
    return [Tried(name, 0.1, troubles.get(name, "")) for name in ("write", "read", "list", "create", "delete")]


def test_what_a_storage_does_for_a_node() -> None:
    assert only(storage.judge(ONE, "s3://b", tried())).severity == "ok"
    assert only(storage.judge(ONE, "s3://b", tried(create="replaces"))).severity == "warning"
    finding = only(storage.judge(ONE, "/mnt", tried(write="Read-only file system", read="absent", delete="no")))
    assert finding.severity == "error" and "Read-only file system" in finding.seen
    assert only(storage.judge(ONE, "s3://b", tried(list="denied"))).severity == "error"


def test_a_folder_that_is_each_nodes_own_is_no_storage() -> None:
    seen = {HEAD: [HEAD.id, ONE.id], ONE: [HEAD.id, ONE.id], TWO: [TWO.id]}
    found = list(storage.judge_marks("/data", [HEAD, ONE, TWO], seen))
    assert severities(found) == {"head": "error", "one": "error", "two": "error"}
    assert "what head, one wrote there is not seen" in found[2].seen
    assert list(storage.judge_marks("/data", [HEAD, ONE], {HEAD: seen[HEAD], ONE: seen[ONE]})) == []


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 16])
def test_every_two_nodes_meet_once_and_no_node_twice_in_a_round(count: int) -> None:
    nodes = [Node(str(number), str(number), "") for number in range(count)]
    played = groups.rounds(nodes)
    assert len(played) == (0 if count == 1 else count - 1 + count % 2)
    assert all(len({node for pair in pairs for node in pair}) == 2 * len(pairs) for pairs in played)
    met = [frozenset(pair) for pairs in played for pair in pairs]
    assert len(met) == len(set(met)) == count * (count - 1) // 2


WAYS = {node: Way("eth0", {"GLOO_SOCKET_IFNAME": "eth0"}, 0.0) for node in (HEAD, ONE, TWO)}
FINE, BROKEN = groups.Met("gloo", "", 0.01), groups.Met("gloo", "timed out")


def test_pairs_that_do_not_meet() -> None:
    finding = only(groups.judge({(HEAD, ONE): FINE, (HEAD, TWO): FINE, (ONE, TWO): FINE}, WAYS))
    assert finding.severity == "ok" and finding.seen.startswith("3 of 3 pairs of workers exchange by gloo")
    one_cut = only(groups.judge({(HEAD, ONE): FINE, (HEAD, TWO): FINE, (ONE, TWO): BROKEN}, WAYS))
    assert (one_cut.severity, one_cut.where) == ("error", "one ↔ two")
    alone = only(groups.judge({(HEAD, ONE): FINE, (HEAD, TWO): BROKEN, (ONE, TWO): BROKEN}, WAYS))
    assert (alone.severity, alone.where) == ("error", "two") and "meets none of 2 other nodes" in alone.seen
    nobody = groups.judge({(HEAD, ONE): BROKEN, (HEAD, TWO): BROKEN, (ONE, TWO): BROKEN}, WAYS)
    assert len(list(nobody)) == 3
    assert only(groups.judge({}, {HEAD: WAYS[HEAD]})).severity == "unknown"


def test_a_name_server_that_does_not_answer_is_told() -> None:
    ways = WAYS | {ONE: replace(WAYS[ONE], lookup_s=10.0)}
    found = severities(groups.judge({(HEAD, ONE): FINE}, {node: ways[node] for node in (HEAD, ONE)}))
    assert found == {"one": "warning", "cluster": "ok"}


def test_an_interface_without_the_address_is_named_as_the_cause() -> None:
    wrong = WAYS | {ONE: Way("eth0", {"NCCL_SOCKET_IFNAME": "docker0"}, 0.0)}
    assert "NCCL_SOCKET_IFNAME=docker0 on one is not eth0" in groups.fix_for((HEAD, ONE), "nccl", wrong)
    assert "TCP ports" in groups.fix_for((HEAD, ONE), "gloo", WAYS)


def test_gloo_is_given_the_interface_of_the_address_where_nobody_named_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "chosen0")
    name_interface("127.0.0.1")
    assert os.environ["GLOO_SOCKET_IFNAME"] == "chosen0"
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    name_interface("203.0.113.7")
    assert "GLOO_SOCKET_IFNAME" not in os.environ, "no interface has it"
    name_interface("127.0.0.1")
    assert os.environ["GLOO_SOCKET_IFNAME"] == interface_of("127.0.0.1") != ""


def test_who_trains_and_by_what() -> None:
    gpu, other = replace(ONE, num_gpus=8), replace(TWO, num_gpus=8)
    assert zero.who_trains([HEAD, ONE, TWO]) == [HEAD, ONE]
    assert zero.who_trains([HEAD, gpu, other]) == [gpu, other]
    assert zero.who_trains([HEAD, gpu]) == [gpu]
    assert groups.backend_of([gpu, other]) == "nccl" and groups.backend_of([HEAD, gpu]) == "gloo"


def trained(node: Node, seconds: float = 2.0, **changed: Any) -> dict[Node, Answer]:
    return {node: Answer(replace(Trained("cpu", (2.0, 1.0), (2.0, 1.0), seconds), **changed), "", 3.0)}


def test_a_training_is_held_against_plain_pytorch() -> None:
    assert only(zero.judge(trained(HEAD) | trained(ONE))).severity == "ok"
    assert only(zero.judge(trained(HEAD) | trained(ONE, 11.0))).severity == "warning"
    wrong = only(zero.judge(trained(HEAD) | trained(ONE, losses=(2.0, 1.1))))
    assert (wrong.severity, wrong.where) == ("error", "one")
    late = only(zero.judge(trained(HEAD) | {ONE: Answer(None, "no answer within 60 s", 60.0)}))
    assert late.severity == "error" and late.seen == "one: no answer within 60 s"
    idle_gpu = only(zero.judge(trained(replace(ONE, num_gpus=1))))
    assert idle_gpu.severity == "error" and "takes the CPU" in idle_gpu.seen
