#!/usr/bin/env python3
"""Measures the web console under load: many monitors, many viewers with live changes.

Usage: tests/bench/console_load.py SCENE [--monitors N] [--viewers N] [--seconds N] [--days N]
                                   [--interval N]

SCENE is the program console-scene (cargo build --release -p mailqos-tests --bin console-scene). Set
MAILQOS_BIN to the folder of the programs to measure. The overview is compared with a server that
only sends the same bytes from memory (Python's asyncio), as a lower bound of what any page costs.
With --interval 5, every monitor changes with every status, which is published every five seconds.
"""
import argparse
import asyncio
import datetime
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import time
import urllib.parse

PASSWORD = "correct horse battery staple"


class Console:
    """A console with simulated monitors, and its administrator."""

    def __init__(self, scene, monitors, days, interval=300):
        self.scene = subprocess.Popen(
            [scene, str(monitors), str(days), "0", str(interval)], stdout=subprocess.PIPE, text=True
        )
        self.process = int(self.scene.stdout.readline().split()[1])
        link = urllib.parse.urlsplit(self.scene.stdout.readline().strip())
        self.address = link.netloc
        self.cookies = {}
        page = self.request("GET", link.path)[2]
        token = re.search(rb'name="csrf" value="([^"]+)"', page).group(1).decode()
        fields = {"csrf": token, "user": "admin", "password": PASSWORD, "again": PASSWORD}
        status = self.request("POST", link.path, urllib.parse.urlencode(fields))[0]
        assert status == 303, status

    def request(self, method, path, body=None):
        """Returns status, time to the first byte, and content."""
        connection = http.client.HTTPConnection(self.address, timeout=600)
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Cookie": cookies} if cookies else {}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            headers["Origin"] = f"http://{self.address}"
        begun = time.perf_counter()
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        first = time.perf_counter() - begun
        content = answer.read()
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                key, rest = value.split("=", 1)
                self.cookies[key] = rest.split(";")[0]
        connection.close()
        return answer.status, first, content

    def processor(self):
        """Seconds of processor time so far."""
        with open(f"/proc/{self.process}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """Resident and highest resident memory in MB."""
        with open(f"/proc/{self.process}/status", encoding="ascii") as file:
            text = file.read()
        now = re.search(r"VmRSS:\s+(\d+)", text).group(1)
        most = re.search(r"VmHWM:\s+(\d+)", text).group(1)
        return int(now) // 1024, int(most) // 1024

    def stop(self):
        """Ends the console and the scene."""
        os.kill(self.process, signal.SIGTERM)
        self.scene.kill()
        self.scene.wait()


def line(name, times, size=None):
    """Prints the distribution of times."""
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    size = "" if size is None else f", {size / 1000:.0f} kB"
    print(
        f"{name:44} median {statistics.median(ordered) * 1000:6.0f} ms, "
        f"p99 {p99 * 1000:6.0f} ms ({len(ordered)} requests{size})"
    )


async def viewer(console, seconds, counts):
    """Follows live changes as a browser does."""
    host, port = console.address.split(":")
    cookies = "; ".join(f"{name}={value}" for name, value in console.cookies.items())
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"GET /events HTTP/1.1\r\nHost: {console.address}\r\nCookie: {cookies}\r\n\r\n".encode()
    )
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            data = await asyncio.wait_for(reader.read(65536), left)
        except asyncio.TimeoutError:
            break
        if not data:
            counts["ended"] += 1
            break
        counts["bytes"] += len(data)
        counts["messages"] += data.count(b"event: monitors")
    writer.close()


async def with_viewers(console, viewers, seconds):
    """Measures the overview while viewers follow changes."""
    counts = {"bytes": 0, "messages": 0, "ended": 0}
    tasks = [asyncio.create_task(viewer(console, seconds, counts)) for _ in range(viewers)]
    await asyncio.sleep(1)
    before, begun = console.processor(), time.monotonic()
    times, size, end = [], 0, time.monotonic() + seconds - 1
    while time.monotonic() < end:
        status, first, content = await asyncio.to_thread(console.request, "GET", "/")
        assert status == 200, status
        times.append(first)
        size = len(content)
        await asyncio.sleep(0.25)
    share = (console.processor() - before) / (time.monotonic() - begun)
    await asyncio.gather(*tasks)
    line(f"overview, {viewers} viewers", times, size)
    print(
        f"{'':44} {counts['messages']} messages, {counts['bytes'] / viewers / 1000:.1f} kB a viewer, "
        f"{counts['ended']} streams ended; processor {share * 100:.0f} % of a core"
    )
    return await asyncio.to_thread(console.request, "GET", "/")


async def same_bytes(content, count=50):
    """Measures a server that only sends the same bytes."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(content))
        writer.write(content)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    def ask():
        connection = http.client.HTTPConnection("127.0.0.1", port)
        begun = time.perf_counter()
        connection.request("GET", "/")
        answer = connection.getresponse()
        first = time.perf_counter() - begun
        answer.read()
        connection.close()
        return first

    line("the same bytes from memory", [await asyncio.to_thread(ask) for _ in range(count)])
    server.close()


def repeated(console, name, path, count):
    """Measures requests one after another."""
    times, size = [], 0
    for number in range(count):
        status, first, content = console.request("GET", path.format(number))
        assert status == 200, (path, status)
        times.append(first)
        size = len(content)
    line(name, times, size)


def report(console, days):
    """Measures a report of all monitors of the scene, from the form to the last file."""
    path = "/reports/templates/executive-summary"
    page = console.request("GET", path)[2].decode()
    token = re.search(r'name="csrf" value="([^"]+)"', page).group(1)
    today = datetime.date.today()
    fields = {
        "csrf": token,
        "template": "executive-summary",
        "from": today - datetime.timedelta(days=days - 1),
        "to": today,
    }
    begun = time.perf_counter()
    body = urllib.parse.urlencode(fields)
    status, _, content = console.request("POST", "/api/v1/reports", body)
    assert status == 202, (status, content)
    made, first = json.loads(content), None
    while not made["is_over"]:
        time.sleep(0.05)
        made = json.loads(console.request("GET", f"/api/v1/reports/made/{made['id']}")[2])
        if first is None and any(file["format"] == "HTML" for file in made["files"]):
            first = time.perf_counter() - begun
    assert made["state"] == "done", made
    whole = time.perf_counter() - begun
    first = whole if first is None else first
    print(f"{'report of 20 monitors':44} page after {first:.1f} s, all formats after {whole:.1f} s")


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scene")
    parser.add_argument("--monitors", type=int, default=10_000)
    parser.add_argument("--viewers", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--interval", type=int, default=300)
    options = parser.parse_args()
    console = Console(options.scene, options.monitors, 0, options.interval)
    try:
        print(f"{options.monitors} monitors, a test every {options.interval} s, no samples")
        repeated(console, "overview, no viewers", "/", 40)
        content = asyncio.run(with_viewers(console, options.viewers, options.seconds))[2]
        asyncio.run(same_bytes(content))
        for name, path in [
            ("table by tag", "/?view=table&group=tag"),
            ("wall", "/?view=wall"),
            ("search", "/?q=lyon+{0}"),
        ]:
            repeated(console, name, path, 20)
        print(f"{'memory':44} %d MB, at most %d MB" % console.memory())
    finally:
        console.stop()
    console = Console(options.scene, 20, options.days)
    try:
        print(f"20 monitors, {options.days} days of samples every five minutes")
        repeated(console, "monitor, a day", "/monitors/lyon/m000{0:02}?period=day", 20)
        repeated(console, "monitor, a year", "/monitors/lyon/m000{0:02}?period=year", 20)
        repeated(console, "monitor, a year, again", "/monitors/lyon/m000{0:02}?period=year", 20)
        report(console, options.days)
        print(f"{'memory':44} %d MB, at most %d MB" % console.memory())
    finally:
        console.stop()


if __name__ == "__main__":
    main()
