"""Measures a report of 100 monitors over a year, in HTML and PDF: wall time and peak memory, split into its parts; beside it
the same HTML printed by headless Chromium.

Usage: report_speed.py MAILQOS_ANALYTICS LAKE_OF WORK_FOLDER [--chromium PROGRAM] [--template NAME] [--monitors N] [--runs N]

    cargo build --release --package mailqos-analytics
    cargo build --release --package mailqos-bench --bin lake_of
    python3 tests/bench/report_speed.py target/release/mailqos-analytics target/release/lake_of /tmp/lakes

LAKE_OF writes a year of tests every five minutes where there is no such lake yet: 10.5 million samples. Every run is a process
of its own, the files are in the cache; of the runs the fastest counts. Drawings are a part of the sections, and are counted on
all cores.
"""

import argparse
import os
import re
import shutil
import subprocess
import time

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("analytics")
arguments.add_argument("lake_of")
arguments.add_argument("work")
arguments.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
arguments.add_argument("--template", default="monthly-operations")
arguments.add_argument("--monitors", type=int, default=100)
arguments.add_argument("--runs", type=int, default=3)
arguments = arguments.parse_args()
PARTS = ["reading", "sections", "drawings, on all cores", "html", "pdf layout", "pdf"]


def run(command, environment=None):
    """Wall time and processor time in seconds, peak memory of the largest process in MB, and what it said."""
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    took = time.monotonic() - begun
    if status != 0:
        raise SystemExit(f"{' '.join(command)}: {said}")
    return took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, said


lake = os.path.join(arguments.work, f"report-{arguments.monitors}")
if not os.path.exists(lake):
    millions = arguments.monitors * 365 * 288 / 1e6
    subprocess.run([arguments.lake_of, "--samples", str(millions), "--data", lake], check=True)
output = os.path.join(arguments.work, "report")
command = [arguments.analytics, "report", "--data", lake, "--template", arguments.template, "--period", "2025",
           "--format", "html,pdf", "--output", output]
environment = {**os.environ, "RUST_LOG": "mailqos_base::timing=debug,warn", "NO_COLOR": "1"}
runs = [run(command, environment) for _ in range(arguments.runs + 1)][1:]
took, processor, memory, said = min(runs)
html = os.path.join(output, f"{arguments.template}-2025.html")
if not os.path.exists(html):
    html = html[:-len("html")] + "zip"
pdf = os.path.join(output, f"{arguments.template}-2025.pdf")
print(f"{arguments.template}, {arguments.monitors} monitors, a year: {took:.2f} s, {processor:.2f} s of processor time, {memory:.0f} MB"
      f" (runs {', '.join(f'{run[0]:.2f}' for run in runs)} s)")
times = {}
for part, seconds in re.findall(r'part="([^"]*)" seconds=([\d.e-]+)', said):
    times[part] = times.get(part, 0) + float(seconds)
for part in PARTS:
    print(f"  {part:24}{times.get(part, 0):8.2f} s")
print(f"  {'HTML':24}{os.path.getsize(html) / 1e6:8.1f} MB")
print(f"  {'PDF':24}{os.path.getsize(pdf) / 1e6:8.1f} MB")
if arguments.chromium and html.endswith(".html"):
    printed = os.path.join(arguments.work, "chromium.pdf")
    command = [arguments.chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--print-to-pdf={printed}", "--no-pdf-header-footer",
               f"file://{os.path.abspath(html)}"]
    prints = [run(command) for _ in range(arguments.runs)]
    best, processor = min(prints)[:2]
    print(f"Chromium prints the HTML: {best:.2f} s, {processor:.2f} s of processor time (runs {', '.join(f'{run[0]:.2f}' for run in prints)} s): {best / took:.1f} times as long as all of the report")
