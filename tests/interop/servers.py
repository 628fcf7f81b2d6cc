"""Servers and Java programs that the tests start, and the checks that they share. All addresses are on loopback."""

import json
import signal
import socket
import subprocess
import time

PATIENCE_S = 90

passed = 0


class Failed(Exception):
    """A check that failed."""


def check(holds, what, detail=""):
    global passed
    if not holds:
        raise Failed(f"{what}{': ' if detail else ''}{detail}")
    passed += 1
    print(f"ok  {what}", flush=True)


def wait_until(condition, what, patience_s=PATIENCE_S):
    """Waits until `condition` is true and returns its value."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise Failed(f"timed out after {patience_s} s: {what}")


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Java:
    """Runs Java programs."""

    def __init__(self, classpath, options=()):
        self.classpath = classpath
        self.options = list(options)

    def command(self, *arguments):
        flags = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *self.options]
        return ["java", *flags, "-cp", self.classpath, *arguments]

    def run(self, *arguments, text=None):
        """Runs a program to its end, with `text` as its input. Fails unless it exits with 0."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=300, input=text)
        if done.returncode != 0:
            raise Failed(f"{' '.join(arguments)}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done

    def output(self, *arguments):
        return self.run(*arguments).stdout


class Process:
    """A process that runs until it is ended."""

    def __init__(self, command, log):
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

    def alive(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.log.name}: the process exited early:\n{self.log.read_text()[-4000:]}")

    def end(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise Failed(f"{self.log.name}: the process did not exit within {PATIENCE_S} s") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Kafka(Process):
    """A broker of Apache Kafka in KRaft mode."""

    def __init__(self, java, folder):
        self.data = folder / "kafka-data"
        broker, controller = free_ports(2)
        self.bootstrap = f"127.0.0.1:{broker}"
        properties = folder / "kafka.properties"
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.data,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 1,
            "share.coordinator.state.topic.replication.factor": 1,
        }
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        identity = java.output("kafka.tools.StorageTool", "random-uuid").split()[-1]
        java.run("kafka.tools.StorageTool", "format", "-t", identity, "-c", str(properties))
        super().__init__(java.command("kafka.Kafka", str(properties)), folder / "kafka.log")
        wait_until(lambda: self.alive() or answers(broker), "the start of Kafka")


class Streamline(Process):
    """The server under test."""

    def __init__(self, program, data, log, address="127.0.0.1:0"):
        self.command = [program, "--listen-addr", address, "--http-addr", "127.0.0.1:0", "--data-dir", str(data)]
        run = data / "run.json"
        run.unlink(missing_ok=True)
        super().__init__(self.command, log)
        wait_until(lambda: self.alive() or run.exists(), "the start of Streamline")
        addresses = json.loads(run.read_text())
        self.bootstrap, self.http = addresses["listen_addr"], addresses["http_addr"]

    def stop(self):
        self.end()
        check(self.process.returncode == 0, "Streamline exits with code 0", str(self.process.returncode))
