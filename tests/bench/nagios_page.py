#!/usr/bin/env python3
"""Measures the overview of Nagios Core with as many services as the console's benchmark has monitors.

Usage: tests/bench/nagios_page.py FOLDER [--services N] [--count N]

FOLDER contains the unpacked Debian package nagios4-cgi (apt-get download nagios4-cgi; dpkg -x …).
status.cgi is run as a web server would run it, once for each request, with the objects and states
that a running Nagios would write. tests/bench/console_load.py measures the console.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

PLACES = ["Lyon", "Malmo", "Koln", "Graz", "Porto", "Lodz", "Tartu", "Cork"]


def objects(services):
    """Returns the object cache: four services on each host."""
    parts = []
    for host in range((services + 3) // 4):
        parts.append(
            f"define host {{\n\thost_name\tmx{host}\n\tdisplay_name\t{PLACES[host % 8]} mail {host}\n"
            f"\taddress\tmx{host}.example.com\n\tcheck_interval\t5\n\tretry_interval\t1\n"
            f"\tmax_check_attempts\t3\n}}\n"
        )
    for number in range(services):
        parts.append(
            f"define service {{\n\thost_name\tmx{number // 4}\n\tservice_description\tm{number:05}\n"
            f"\tcheck_interval\t5\n\tretry_interval\t1\n\tmax_check_attempts\t3\n"
            f"\tcheck_command\tmail\n}}\n"
        )
    return "define command {\n\tcommand_name\tmail\n\tcommand_line\t/bin/true\n}\n" + "".join(parts)


def states(services):
    """Returns the status file."""
    now = int(time.time())
    parts = [
        f"info {{\n\tcreated={now}\n\tversion=4.4.6\n}}\nprogramstatus {{\n\tnagios_pid={os.getpid()}\n"
        f"\tprogram_start={now - 9000}\n\tenable_notifications=1\n\tactive_service_checks_enabled=1\n}}\n"
    ]
    for host in range((services + 3) // 4):
        parts.append(
            f"hoststatus {{\n\thost_name=mx{host}\n\thas_been_checked=1\n\tcurrent_state=0\n"
            f"\tlast_check={now - 60}\n\tplugin_output=OK\n\tchecks_enabled=1\n}}\n"
        )
    for number in range(services):
        state = 2 if number % 40 in (3, 11) else 1 if number % 40 == 6 else 0
        parts.append(
            f"servicestatus {{\n\thost_name=mx{number // 4}\n\tservice_description=m{number:05}\n"
            f"\thas_been_checked=1\n\tcurrent_state={state}\n\tlast_check={now - number % 300}\n"
            f"\tlast_state_change={now - 4000}\n\tcurrent_attempt=1\n\tmax_attempts=3\n"
            f"\tplugin_output=round trip {0.8 + number * 7 % 11 * 0.35:.2f} s\n\tchecks_enabled=1\n}}\n"
        )
    return "".join(parts)


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--count", type=int, default=40)
    options = parser.parse_args()
    program = next(options.folder.rglob("status.cgi"))
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        (work / "objects.cache").write_text(objects(options.services))
        (work / "status.dat").write_text(states(options.services))
        (work / "nagios.cfg").write_text(
            f"object_cache_file={work}/objects.cache\nstatus_file={work}/status.dat\n"
            f"log_file={work}/nagios.log\ncommand_file={work}/nagios.cmd\n"
        )
        (work / "cgi.cfg").write_text(
            f"main_config_file={work}/nagios.cfg\nphysical_html_path={work}\nurl_html_path=/nagios4\n"
            "use_authentication=1\nauthorized_for_all_services=admin\nauthorized_for_all_hosts=admin\n"
            "authorized_for_system_information=admin\nresult_limit=100\n"
        )
        for label, query in [
            ("100 of all services", "host=all&limit=100"),
            ("all services", "host=all&limit=0"),
        ]:
            environment = {
                "REQUEST_METHOD": "GET",
                "QUERY_STRING": query,
                "REMOTE_USER": "admin",
                "NAGIOS_CGI_CONFIG": str(work / "cgi.cfg"),
            }
            times, size = [], 0
            for _ in range(options.count):
                begun = time.perf_counter()
                done = subprocess.run([program], env=environment, capture_output=True, check=False)
                times.append(time.perf_counter() - begun)
                size = len(done.stdout)
            assert b"m00003" in done.stdout, done.stdout[:2000]
            times.sort()
            p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
            print(
                f"{label:24} median {statistics.median(times) * 1000:6.0f} ms, "
                f"p99 {p99 * 1000:6.0f} ms, {size / 1000:.0f} kB"
            )


if __name__ == "__main__":
    main()
