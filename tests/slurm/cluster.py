"""A real SLURM on this machine: a controller, two nodes and one for jobs that stay, no munge, no root, own ports."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.processes import wait_for

NODES = ("node1", "node2")
CPUS = 2
MEMORY_MB = 4000
LASTING, LASTING_NODE = "lasting", "node3"
"""Partition of jobs that serve many tests, and its node: so that no test finds a node full, or ends such jobs."""
PARTITIONS = "main,short"

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
MaxArraySize=51
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=10000,batch_sched_delay=0,bf_interval=1,default_queue_depth=1000
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobRequeue=1
ReturnToService=2
SlurmdTimeout=10
SlurmctldTimeout=30
KillWait=2
MessageTimeout=3
TCPTimeout=1
MinJobAge=300
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdSpoolDir={folder}/spool.%n
"""


KEEPER = """
exec 3<&0
"$@" < /dev/null 3<&- & daemon=$!
echo $daemon > "$PID_FILE.new"; mv "$PID_FILE.new" "$PID_FILE"
cat <&3 > /dev/null & tests=$!
wait -n
if kill -0 $daemon 2>/dev/null; then  # the tests were killed: first their jobs, then the daemons
  [ "$1" = slurmctld ] && scancel --user="$(id -un)"
  sleep 5
fi
kill $daemon $tests 2>/dev/null; wait
"""
"""Ends a daemon when the tests have ended, however they did: then its input ends, which nobody else can write to.

It is in a session of its own, no child of the tests.
"""


class Cluster:
    """The daemons; they end with this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.daemons: dict[str, int] = {}
        self.alive = os.pipe()  # nothing is written to it; it ends with this process
        (folder / "state").mkdir(parents=True)
        self._configure()

    def start(self) -> None:
        self.start_daemon("slurmctld", "slurmctld", "-D")
        for node in (*NODES, LASTING_NODE):
            self.start_node(node)
        wait_for(lambda: self.idle_nodes() == len(NODES), 60, lambda: self.run("sinfo", "-N", "-l"))

    def start_node(self, node: str) -> None:
        (self.folder / f"spool.{node}").mkdir(exist_ok=True)
        self.start_daemon(node, "slurmd", "-D", "-N", node)

    def start_daemon(self, name: str, *command: str) -> None:
        pid_file = self.folder / f"{name}.kept"
        pid_file.unlink(missing_ok=True)
        environment = {**os.environ, "PID_FILE": str(pid_file)}
        with (self.folder / f"{name}.out").open("ab") as out:
            keeper = ["setsid", "--fork", "bash", "-c", KEEPER, "keeper", *command]
            subprocess.run(keeper, stdin=self.alive[0], stdout=out, stderr=out, env=environment, check=True)
        wait_for(pid_file.exists, 60)
        self.daemons[name] = int(pid_file.read_text())

    def end_daemon(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        pid = self.daemons[name]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        wait_for(lambda: not psutil.pid_exists(pid), 60, lambda: f"{name} does not end")

    def stop_controller(self) -> None:
        self.end_daemon("slurmctld")

    def start_controller(self) -> None:
        self.start_daemon("slurmctld", "slurmctld", "-D")

    def kill_node(self, node: str) -> list[int]:
        """Play a node that loses power: slurmd, its step daemons and their programs die; the pids of the steps."""
        daemon = psutil.Process(self.daemons[node])
        steps = [p for p in psutil.process_iter(["name"]) if p.info["name"] == "slurmstepd" and _is_of(p, self, node)]
        victims = [daemon, *steps, *(child for step in steps for child in step.children(recursive=True))]
        for victim in victims:
            _kill(victim.pid)
        self.end_daemon(node, signal.SIGKILL)
        return [step.pid for step in steps]

    def stop(self) -> None:
        self.run("scancel", "--user", getpass.getuser(), "--partition", LASTING)
        self.cancel_all()
        for name in self.daemons:
            self.end_daemon(name)
        for process in psutil.process_iter(["name"]):
            if process.info["name"] == "slurmstepd" and _is_of(process, self, ""):
                _kill(process.pid)
        for end in self.alive:
            os.close(end)

    def cancel_all(self) -> None:
        """End whatever a failed test has left."""
        if self.alive_jobs():
            for partition in PARTITIONS.split(","):
                self.run("scancel", "--user", getpass.getuser(), "--partition", partition)
            self.wait_until_quiet()

    def run(self, *command: str) -> str:
        """Run a client command; its output."""
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout

    def alive_jobs(self) -> list[str]:
        """Tasks that are pending, running or ending; without jobs that serve many tests."""
        return self.run("squeue", "-h", "-r", "-p", PARTITIONS, "-o", "%F_%K %T").splitlines()

    def idle_nodes(self) -> int:
        return len(self.run("sinfo", "-h", "-N", "-p", "main", "-t", "idle,mix,alloc", "-o", "%N").split())

    def wait_until_quiet(self, seconds: float = 60) -> None:
        wait_for(lambda: not self.alive_jobs(), seconds, self.alive_jobs)

    def _configure(self) -> None:
        host = socket.gethostname().split(".")[0]
        port = _free_ports(2 + len(NODES))
        lines = [CONFIGURATION.format(host=host, port=port, user=getpass.getuser(), folder=self.folder)]
        for number, node in enumerate((*NODES, LASTING_NODE), 1):
            lines.append(
                f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port + number} CPUs={CPUS} "
                f"RealMemory={MEMORY_MB} State=UNKNOWN"
            )
        nodes = ",".join(NODES)
        lines.append(f"PartitionName=main Nodes={nodes} Default=YES MaxTime=INFINITE State=UP")
        lines.append(f"PartitionName=short Nodes={nodes} MaxTime=1 State=UP")
        lines.append(f"PartitionName={LASTING} Nodes={LASTING_NODE} MaxTime=INFINITE State=UP")
        self.conf.write_text("\n".join(lines) + "\n")


def _free_ports(number: int) -> int:
    """First of several neighbouring ports that nobody listens on."""
    start = 20000 + os.getpid() % 10000
    for port in range(start, start + 20000, number):
        try:
            for offset in range(number):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port + offset))
        except OSError:
            continue
        return port
    raise RuntimeError("no free ports")


def _is_of(process: psutil.Process, cluster: Cluster, node: str) -> bool:
    """Whether a step daemon belongs to a cluster, and to a node of it; its open files say so."""
    try:
        paths = [file.path for file in process.open_files()]
        return any(path.startswith(str(cluster.folder)) and node in path for path in paths)
    except psutil.Error:
        return False


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster for the whole session; SLURM_CONF leads every command to it."""
    missing = [name for name in ("slurmctld", "slurmd", "sbatch", "squeue") if shutil.which(name) is None]
    if missing:
        give_up = pytest.fail if os.environ.get("REQUIRE_SLURM") else pytest.skip
        give_up(f"SLURM is not installed ({', '.join(missing)}); apt-get install slurm-wlm")
    # SLURM's sockets have short names only.
    folder = Path(tmp_path_factory.mktemp("slurm"))
    found = Cluster(folder)
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(found.conf)
    try:
        found.start()
        yield found
    finally:
        found.stop()
        os.environ.pop("SLURM_CONF")
        if before is not None:
            os.environ["SLURM_CONF"] = before
