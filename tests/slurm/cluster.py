"""A real SLURM cluster in a folder: munged, slurmctld and one slurmd a node, all on this machine.

Debian's build runs several slurmd on one host. Each gets a host name and an own view of /etc/hosts, so that
the nodes find each other by name; the machine's own files stay as they are.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "unshare")
CPUS_PER_NODE = 16
_STARTS_WITHIN_S = 30

_SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ReturnToService=2
SlurmdTimeout=10
SlurmctldTimeout=10
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
"""
_PARTITIONS = """\
PartitionName=main Nodes=ALL MaxTime=INFINITE PriorityTier=1 GraceTime=90 Default=YES
PartitionName=no_grace Nodes=ALL MaxTime=INFINITE PriorityTier=1 GraceTime=0
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=2 PreemptMode=OFF
"""
"""Jobs in `urgent` push others out of their nodes."""


class Cluster:
    """`num_nodes` nodes named node1, node2, …

    Args:
        folder: for state, logs and sockets.
        num_nodes: each claims CPUS_PER_NODE CPUs, whatever the machine has.
        gpus_per_node: device files that are no GPUs, but that SLURM hands out as such.
    """

    def __init__(self, folder: Path, num_nodes: int, gpus_per_node: int = 0) -> None:
        self.folder = folder
        self.nodes = [f"node{number}" for number in range(1, num_nodes + 1)]
        self._gpus_per_node = gpus_per_node
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        for name in [name for name in self.environment if name.startswith(("SLURM_", "SBATCH_"))]:
            if name != "SLURM_CONF":
                del self.environment[name]

    def start(self) -> None:
        """Start all daemons, and wait until all nodes are idle."""
        self._write_configuration()
        munge = self.folder / "munge"
        self._start(
            "munged",
            *("munged", "--foreground", "--force", "--num-threads=1"),
            *(f"--socket={munge}/socket", f"--key-file={munge}/key", f"--pid-file={munge}/pid"),
            *(f"--log-file={munge}/log", f"--seed-file={munge}/seed"),
        )
        _wait_for(lambda: (munge / "socket").exists(), "munged", _STARTS_WITHIN_S)
        self._start("slurmctld", "slurmctld", "-D")
        for node in self.nodes:
            self.start_node(node)
        _wait_for(lambda: set(self.node_states().values()) == {"idle"}, "idle nodes", _STARTS_WITHIN_S)

    def start_node(self, node: str) -> None:
        """Start a node's slurmd under the node's name."""
        script = 'hostname "$1"; mount --bind "$2" /etc/hosts; exec slurmd -D -N "$1"'
        hosts = str(self.folder / "hosts")
        self._start(node, "unshare", "--uts", "--mount", "bash", "-c", script, "bash", node, hosts)

    def kill_node(self, node: str) -> None:
        """Take a node down as a power cut would: its slurmd and all that runs on it, at once."""
        for process in _descendants(self._daemons.pop(node).pid):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        for process in _processes_on(node, self.folder):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def stop_processes(self, node: str, command: str) -> None:
        """Suspend what runs on a node with `command` in its command line, as a device that hangs would."""
        for process in _processes_on(node, self.folder):
            with suppress(OSError):
                words = Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
                if command in words and "srun" not in words:
                    os.kill(process, signal.SIGSTOP)

    def stop(self) -> None:
        """End everything that was started, and what still runs of jobs."""
        with suppress(subprocess.SubprocessError):
            self.run("scancel", "--user=root", timeout_s=10)
        for node in [node for node in self.nodes if node in self._daemons]:
            self.kill_node(node)
        for daemon in self._daemons.values():
            daemon.kill()
            daemon.wait()
        self._daemons.clear()

    def run(
        self, *command: str, cwd: Path | None = None, timeout_s: float = 60, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with this cluster as SLURM's."""
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=cwd,
            timeout=timeout_s,
            check=False,
            env={**self.environment, **variables},
        )

    def ask(self, *command: str, cwd: Path | None = None) -> str:
        """What a command of SLURM says."""
        answer = self.run(*command, cwd=cwd)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout.strip()

    def node_states(self) -> dict[str, str]:
        """The state of every node, as sinfo names it."""
        answer = self.run("sinfo", "--noheader", "--Node", "--format=%N %T")
        return dict(line.split() for line in answer.stdout.splitlines())

    def hostnames(self, nodes: str) -> list[str]:
        """The names in SLURM's short form of a list."""
        return self.ask("scontrol", "show", "hostnames", nodes).split()

    def job(self, job_id: str) -> dict[str, str]:
        """What scontrol knows of a job; empty where it knows it no more."""
        answer = self.run("scontrol", "show", "job", "--oneliner", job_id)
        return dict(re.findall(r"(\S+?)=(.*?)(?= \S+?=|$)", answer.stdout.strip()))

    def wait_for_job(self, job_id: str, *states: str, timeout_s: float) -> dict[str, str]:
        """Wait until a job is in one of the states; what scontrol says of it then."""
        _wait_for(
            lambda: self.job(job_id).get("JobState") in states,
            f"job {job_id} {states}",
            timeout_s,
            self.job_text,
        )
        return self.job(job_id)

    def job_text(self) -> str:
        """All jobs, for the message of a test that waited in vain."""
        return self.run("scontrol", "show", "job").stdout

    def _write_configuration(self) -> None:
        for name in ("state", "munge", "dev"):
            (self.folder / name).mkdir()
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        (self.folder / "munge").chmod(0o700)
        host = socket.gethostname()
        gres = f" Gres=gpu:{self._gpus_per_node}" if self._gpus_per_node else ""
        lines = [_SLURM_CONF.format(host=host, port=free_port(), folder=self.folder)]
        lines += [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs={CPUS_PER_NODE} "
            f"RealMemory=64000{gres} State=UNKNOWN\n"
            for node in self.nodes
        ]
        lines.append(_PARTITIONS)
        (self.folder / "slurm.conf").write_text("".join(lines))
        (self.folder / "gres.conf").write_text(self._gres())
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost {host} {' '.join(self.nodes)}\n")

    def _gres(self) -> str:
        if not self._gpus_per_node:
            return ""
        for number in range(self._gpus_per_node):
            os.mknod(self.folder / "dev" / f"gpu{number}", 0o666 | 0o020000, os.makedev(1, 3))
        return f"Name=gpu File={self.folder}/dev/gpu[0-{self._gpus_per_node - 1}]\n"

    def _start(self, name: str, *command: str) -> None:
        """Start a daemon that dies with this process, however that ends."""
        with (self.folder / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                ("setpriv", "--pdeathsig=KILL", *command),
                stdout=out,
                stderr=out,
                env=self.environment,
                start_new_session=True,
            )


def free_port() -> int:
    """A TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def missing_programs() -> list[str]:
    """Which of the programs that a cluster needs are not installed."""
    return [
        program
        for program in PROGRAMS
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None
    ]


def _wait_for(
    is_so: Callable[[], bool], what: str, timeout_s: float, explain: Callable[[], str] = str
) -> None:
    end = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError(f"no {what} within {timeout_s} s\n{explain()}")
        time.sleep(0.1)


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for process in found:
        children = Path(f"/proc/{process}/task/{process}/children")
        with suppress(OSError):
            found += map(int, children.read_text().split())
    return found


def _processes_on(node: str, folder: Path) -> list[int]:
    """The processes of jobs on a node, and those that watch over them."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):
            variables = (entry / "environ").read_bytes().split(b"\0")
            if (
                f"SLURMD_NODENAME={node}".encode() in variables
                and f"SLURM_CONF={folder}/slurm.conf".encode() in variables
            ):
                found.append(int(entry.name))
    return found
