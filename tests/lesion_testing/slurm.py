"""A real SLURM of one node on loopback, in one folder; it leaves nothing behind."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
PATIENCE = 60.0
MEMORY_MB = 16000
GPUS = ("/dev/null", "/dev/zero")

# Of a node that is asked for its memory every second, two GPUs of paper, and a
# controller that soon sees what is new.
CONF = """
ClusterName=lesion
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,bf_interval=5
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=20
MinJobAge=20000
KillWait=5
InactiveLimit=0
Waittime=0
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=localhost NodeAddr=127.0.0.1 CPUs=2 RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """Three daemons and their folder. `environment` is what every command of it needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.environment = {
            "SLURM_CONF": str(self.conf),
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}{os.pathsep}/usr/sbin",
        }
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    @staticmethod
    def missing() -> list[str]:
        """Programs that are not installed."""
        path = os.environ["PATH"] + os.pathsep + "/usr/sbin"
        return [name for name in PROGRAMS if shutil.which(name, path=path) is None]

    def start(self) -> None:
        """Write the folder and start everything; returns when the node is idle."""
        self._write()
        self.start_munge()
        self.start_controller()
        self.start_node()
        self.wait(lambda: self.call("sinfo", "-h", "-o", "%t") == "idle", "the node to be idle")

    def start_munge(self) -> None:
        """Start what lets the others trust each other."""
        run, own = self.folder / "run", self.folder / "munge"
        arguments = [
            *("munged", "--foreground", "--force", f"--socket={run / 'munge.socket'}"),
            *(f"--key-file={own / 'key'}", f"--pid-file={run / 'munged.pid'}"),
            *(f"--log-file={self.folder / 'log' / 'munged.log'}", f"--seed-file={own / 'seed'}"),
        ]
        self._daemon("munged", arguments)
        self.wait(lambda: self._answers("munge", "-n", "-S", str(run / "munge.socket")), "munge")

    def start_controller(self) -> None:
        """Start slurmctld, which goes on from the state it saved."""
        self._daemon("slurmctld", ["slurmctld", "-D"])

    def start_node(self) -> None:
        """Start slurmd."""
        self._daemon("slurmd", ["slurmd", "-D", "-N", "localhost"])

    def kill(self, daemon: str) -> None:
        """`kill -9` of a daemon alone: what it started goes on."""
        process = self._daemons.pop(daemon)
        # Behind `unshare` or not, the daemon is the leader of its own session.
        os.killpg(process.pid, 9)
        process.wait()

    def kill_node(self) -> None:
        """The node loses its power: slurmd, its helpers and all jobs on it are gone at once."""
        self.kill("slurmd")
        for process in self._ours():
            with contextlib.suppress(psutil.Error):
                if "SLURM_JOB_ID" in process.environ() or "slurmstepd" in process.name():
                    process.kill()

    def stop(self) -> None:
        """End all jobs and daemons, and every process that ever had this cluster's settings."""
        if "slurmctld" in self._daemons:
            self._answers("scancel", "--full", "--user", getpass.getuser())
        for name in ("slurmd", "slurmctld", "munged"):
            if process := self._daemons.pop(name, None):
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
        for process in self._ours():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.wait(lambda: not list(self._ours()), "the cluster's processes to end")

    def call(self, *command: str) -> str:
        """What a command of SLURM prints; an empty text if it fails."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True
        )
        return done.stdout.strip()

    def jobs(self, state: str) -> list[str]:
        """Ids of the jobs in a state, such as `RUNNING`."""
        return self.call("squeue", "-h", "-t", state, "-o", "%i").split()

    def on_node(self) -> set[str]:
        """Ids of the jobs that have processes on the node."""
        ids = set()
        for process in self._ours():
            with contextlib.suppress(psutil.Error):
                ids.add(process.environ().get("SLURM_JOB_ID", ""))
        return ids - {""}

    def history(self) -> dict[str, str]:
        """The last state of every job there has been."""
        lines = self.call("squeue", "-h", "-t", "all", "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def wait(self, until: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
        """Wait until something holds; that it never does is an error."""
        start = time.monotonic()
        while not until():
            assert time.monotonic() - start < patience, f"waited in vain for {what}\n{self.logs()}"
            time.sleep(0.1)

    def logs(self) -> str:
        """The ends of all logs."""
        files = sorted((self.folder / "log").glob("*"))
        return "\n".join(
            f"{path.name}:\n" + path.read_text(errors="replace")[-1500:] for path in files
        )

    def _daemon(self, name: str, command: list[str]) -> None:
        if _own_address() != "127.0.0.1":
            # The daemons bind to the address of this machine's name.
            script = 'hostname localhost; exec "$@"'
            command = ["unshare", "--uts", "sh", "-c", script, "sh", *command]
        with (self.folder / "log" / f"{name}.out").open("ab") as output:
            self._daemons[name] = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _answers(self, *command: str) -> bool:
        try:
            done = subprocess.run(
                command,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=5,
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def _ours(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("SLURM_CONF") == str(self.conf):
                    yield process

    def _write(self) -> None:
        for name in ("run", "log", "state", "spool", "munge", "bin"):
            (self.folder / name).mkdir(mode=0o755)
        for name in ("munge", "state"):
            (self.folder / name).chmod(0o700)
        key = self.folder / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        text = CONF.format(
            user=getpass.getuser(),
            folder=self.folder,
            memory=MEMORY_MB,
            ctld_port=_free_port(),
            slurmd_port=_free_port(),
        )
        self.conf.write_text(text, encoding="utf-8")
        # Devices that every machine has: they are handed out, and nobody opens them.
        gres = "".join(f"NodeName=localhost Name=gpu File={one}\n" for one in GPUS)
        (self.folder / "gres.conf").write_text(gres, encoding="utf-8")
        # A job step forgets SLURM's variables, among them where this cluster's settings are.
        srun = self.folder / "bin" / "srun"
        real = shutil.which("srun")
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.conf} exec {real} "$@"\n', encoding="utf-8")
        srun.chmod(0o755)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _own_address() -> str:
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return ""
