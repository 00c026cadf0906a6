"""Why a machine does not let a sandbox be made, and what to change."""

from pathlib import Path

__all__ = ["fix_for"]

_SYSCTLS = (
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("user/max_user_namespaces", "0", "10000"),
)
_CONTAINER = (
    "this process runs under a seccomp filter, as in a container: start it with `docker run --security-opt "
    "seccomp=unconfined --security-opt apparmor=unconfined` (Kubernetes: `securityContext: {seccompProfile: {type: "
    "Unconfined}, appArmorProfile: {type: Unconfined}}`)"
)


def fix_for(refused: str, proc: Path = Path("/proc")) -> str:
    """What to do about `refused` ("unshare: Operation not permitted"), by what stands in /proc of this machine."""
    found = [
        f"run `sysctl -w {name.replace('/', '.')}={right}` as root"
        for name, wrong, right in _SYSCTLS
        if _read(proc / "sys" / name) == wrong
    ]
    if not found and "Seccomp:\t2" in _read(proc / "self/status"):
        found.append(_CONTAINER)
    if not found and "uid_map" in refused:
        found.append(
            "this process is root where there is no user 65534: give the container a range of users (/etc/subuid), or "
            "start it as an ordinary user"
        )
    if not found and ("mount_setattr" in refused or "Function not implemented" in refused):
        found.append("use Linux 5.12 or newer")
    if not found:
        found.append(
            "this process must be allowed user namespaces with mounts of their own: look for an AppArmor or SELinux "
            "profile in `dmesg`, or take a machine where `unshare --user --map-root-user --mount --net true` works"
        )
    return f"The fix: {'; '.join(found)}."


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
