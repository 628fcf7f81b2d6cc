"""Draws docs/dashboard.svg: panels of the example dashboard with real results of their queries.

    SERVER=target/release/streamline python3 docs/picture.py

Starts the server and Prometheus on free ports, produces and consumes with kcat for a while (one group keeps up, another is
delayed), runs the queries of examples/grafana-dashboard.json and draws the results. Requires kcat and prometheus.
"""

import json
import math
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 120
STATS = ["Ready", "Uptime", "Version", "Open connections", "Topics", "Active groups"]
SERIES = [
    ["Request rate", "Produce latency", "Flush latency"],
    ["Bytes in", "Bytes out", "Log size by topic"],
    ["Lag by group", "Members", "CPU"],
]
COLOURS = ["#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0", "#508642", "#cca300"]
WIDTH, GAP, STAT_H, PANEL_H = 1200, 10, 84, 218


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


def until(what, condition):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            found = condition()
            if found:
                return found
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"not within 30 s: {what}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def work(address, start):
    """Runs producers with a varying rate, a consumer that keeps up, and one whose output is not read for a while."""
    settings = ["-X", "auto.offset.reset=earliest", "-X", "auto.commit.interval.ms=1000", "-X", "queued.min.messages=1"]
    settings += ["-X", "fetch.message.max.bytes=20000"]
    client = ["kcat", "-b", address, "-q"]
    produce = {
        topic: start([*client, "-P", "-t", topic, "-z", codec, "-X", f"acks={acks}", "-X", "linger.ms=20"], subprocess.PIPE)
        for topic, codec, acks in [("orders", "lz4", "all"), ("clicks", "zstd", "1"), ("audit", "none", "all")]
    }
    time.sleep(2)
    start([*client, *settings, "-G", "billing", "orders"])
    start([*client, *settings, "-G", "search", "orders", "clicks"])
    late = start([*client, *settings, "-G", "reports", "clicks"], output=subprocess.PIPE)
    released = threading.Event()

    def read_late():
        for _ in late.stdout:
            released.wait()

    threading.Thread(target=read_late, daemon=True).start()
    began = time.monotonic()
    number = 0
    while time.monotonic() - began < SECONDS:
        passed = time.monotonic() - began
        if passed > SECONDS * 0.6:
            released.set()
        for share, (topic, process) in zip((1.0, 2.2, 0.3), produce.items()):
            wave = 1.3 + math.sin(passed / 12 + share) + 0.2 * math.sin(passed * 1.7)
            for _ in range(int(20 * share * wave)):
                number += 1
                process.stdin.write(f'{{"topic":"{topic}","number":{number},"note":"{"abcdefgh" * (number % 23)}"}}\n'.encode())
            process.stdin.flush()
        time.sleep(0.05)


def queries(dashboard):
    panels = {panel["title"]: panel for panel in dashboard["panels"] if panel["type"] != "row"}
    for title in STATS + [title for row in SERIES for title in row]:
        yield title, panels[title]


def ask(prometheus, expression, start, end):
    for name in ("instance", "api_key", "topic", "group"):
        expression = re.sub(rf"\${name}\b", ".*", expression)
    expression = expression.replace("$__rate_interval", "10s")
    asked = urllib.parse.urlencode({"query": expression, "start": start, "end": end, "step": 1})
    return json.loads(get(f"{prometheus}/api/v1/query_range?{asked}"))["data"]["result"]


def legend(form, labels):
    return re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), form or "").strip()


def amount(value, unit):
    """Formats a value in this unit as Grafana does."""
    if unit == "s":
        for size, name in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
            if value >= size or name == "µs":
                return f"{value / size:.3g} {name}"
    if unit in ("bytes", "Bps"):
        power = 0 if value < 1024 else min(int(math.log(value, 1024)), 4)
        return f"{value / 1024**power:.3g} {'B KiB MiB GiB TiB'.split()[power]}{'/s' if unit == 'Bps' else ''}"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    power = 0 if value < 1000 else min(int(math.log(value, 1000)), 3)
    suffix = {"reqps": " req/s", "cps": "/s"}.get(unit, "")
    return f"{value / 1000**power:.3g}{['', ' K', ' Mil', ' Bil'][power]}{suffix}"


def text(x, y, content, size=11, colour="#9fa7b3", anchor="start", weight="normal"):
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{escape(content)}</text>'
    )


def frame(x, y, width, height, title):
    return [
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height}" rx="3" fill="#181b1f" stroke="#2c3235"/>',
        text(x + 10, y + 19, title, 12, "#d8d9da", weight="bold"),
    ]


def draw_stat(x, y, width, title, panel, answers):
    unit = panel["fieldConfig"]["defaults"].get("unit")
    form, labels, points = answers[0]
    value = amount(float(points[-1][1]), unit)
    if title == "Ready":
        value = "yes" if float(points[-1][1]) == 1 else "no"
    elif title == "Version":
        value = labels["version"]
    return frame(x, y, width, STAT_H, title) + [
        text(x + width / 2, y + 60, value, 26, "#73bf69", "middle", "bold"),
    ]


def draw_series(x, y, width, title, panel, answers, start, end):
    unit = panel["fieldConfig"]["defaults"].get("unit")
    drawn = frame(x, y, width, PANEL_H, title)
    answers = sorted(answers, key=lambda each: -max(float(value) for _, value in each[2]))[:10]
    left, right, top, bottom = x + 62, x + width - 12, y + 32, y + PANEL_H - 46
    highest = max(float(value) for _, _, points in answers for _, value in points) or 1
    for step in range(5):
        at = bottom - (bottom - top) * step / 4
        drawn.append(f'<line x1="{left}" y1="{at:.0f}" x2="{right}" y2="{at:.0f}" stroke="#2c3235"/>')
        drawn.append(text(left - 6, at + 4, amount(highest * step / 4, unit), 10, anchor="end"))
    at = x + 12
    for number, (form, labels, points) in enumerate(answers):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(
            f"{left + (right - left) * (float(when) - start) / (end - start):.1f},"
            f"{bottom - (bottom - top) * float(value) / highest:.1f}"
            for when, value in points
        )
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        name = legend(form, labels)
        space = 22 + 6.2 * len(name)
        if at + space <= x + width:
            drawn.append(f'<rect x="{at:.0f}" y="{y + PANEL_H - 20}" width="10" height="3" fill="{colour}"/>')
            drawn.append(text(at + 14, y + PANEL_H - 14, name, 10))
            at += space
    for share in (0, 0.5, 1):
        when = time.strftime("%H:%M:%S", time.gmtime(start + (end - start) * share))
        anchor = {0: "start", 0.5: "middle", 1: "end"}[share]
        drawn.append(text(left + (right - left) * share, bottom + 16, when, 10, anchor=anchor))
    return drawn


def draw(prometheus, start, end):
    dashboard = json.loads((ROOT / "examples/grafana-dashboard.json").read_text())
    height = 3 * GAP + STAT_H + len(SERIES) * (PANEL_H + GAP)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="Inter, Helvetica, Arial, sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="#111217"/>',
    ]
    for title, panel in queries(dashboard):
        answers = []
        for target in panel["targets"]:
            for series in ask(prometheus, target["expr"], start, end):
                points = [point for point in series["values"] if point[1] not in ("NaN", "+Inf")]
                if points:
                    answers.append((target.get("legendFormat"), series["metric"], points))
        if not answers:
            raise SystemExit(f"the queries of panel {title} returned no data")
        if title in STATS:
            width = (WIDTH - GAP * (len(STATS) + 1)) / len(STATS)
            x = GAP + STATS.index(title) * (width + GAP)
            drawn += draw_stat(x, GAP, width, title, panel, answers)
        else:
            row = next(number for number, titles in enumerate(SERIES) if title in titles)
            width = (WIDTH - GAP * 4) / 3
            x = GAP + SERIES[row].index(title) * (width + GAP)
            y = 2 * GAP + STAT_H + row * (PANEL_H + GAP)
            drawn += draw_series(x, y, width, title, panel, answers, start, end)
    (ROOT / "docs/dashboard.svg").write_text("\n".join(drawn + ["</svg>"]) + "\n")


def main():
    server = Path(os.environ.get("SERVER", ROOT / "target/release/streamline"))
    started = []

    def start(command, stdin=subprocess.DEVNULL, output=subprocess.DEVNULL):
        started.append(subprocess.Popen(command, stdin=stdin, stdout=output, stderr=subprocess.DEVNULL))
        return started[-1]

    with tempfile.TemporaryDirectory() as folder:
        try:
            data = Path(folder) / "data"
            start([server, "--listen-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--data-dir", data]
                  + ["--default-partitions", "3"])
            run = json.loads(until("the server runs", lambda: (data / "run.json").exists() and (data / "run.json").read_text()))
            port = free_port()
            settings = Path(folder) / "prometheus.yml"
            settings.write_text(
                "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: streamline\n"
                f"  static_configs: [{{targets: ['{run['http_addr']}']}}]\n"
            )
            start(["prometheus", f"--config.file={settings}", f"--storage.tsdb.path={folder}/prometheus"]
                  + [f"--web.listen-address=127.0.0.1:{port}"])
            prometheus = f"http://127.0.0.1:{port}"
            until("Prometheus runs", lambda: get(f"{prometheus}/-/ready"))
            work(run["listen_addr"], start)
            end = time.time()
            draw(prometheus, end - SECONDS + 15, end)
        finally:
            for process in reversed(started):
                process.kill()  # their data is temporary
                process.wait()


main()
