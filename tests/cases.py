"""Runs a folder of public cases (small servers with bad habits, a script each) against the probe, and prints a table.

    python3 tests/cases.py FOLDER [BIN] [-v] [NAME…]

FOLDER holds the scripts and their kit.py; BIN is the folder of mailqos-probe (default target/release). Cases that read the
lake need duckdb in this Python. Exits with 1 if a case doesn't end as it should."""
import concurrent.futures, os, re, subprocess, sys, time

VERDICT = re.compile(r"^[✓✗] (\w+)(?: at (\w+))?", re.M)


def outcomes(text):
    return [m[1] for m in VERDICT.finditer(text)]


def never_ok(text):
    found = outcomes(text)
    return bool(found) and "ok" not in found and "late" not in found


def bounced(text):
    return never_ok(text) and "bounced" in text


def bounced_511(text):
    return bounced(text) and "5.1.1" in text


def all_ok(count):
    return lambda text: outcomes(text) == ["ok"] * count


def foreign_mail_stays(text):
    kept = re.search(r"still there (\d+) - deleted by the probe (\d+)", text)
    samples = re.search(r"^\[(.*)\]$", text, re.M)
    # The first mail arrives; of the others only the forwards do.
    return bool(kept and samples) and int(kept[1]) > 0 and kept[2] == "0" and samples[1].count("('ok'") <= 1


def all_inside(text):
    return text.count(": inside") >= 5 and "OUTSIDE" not in text


def lake_all_ok(text):
    rows = re.findall(r"^(?:back|too high|never moves) \[(.*)\]$", text, re.M)
    return len(rows) == 3 and all("'ok'" in row and "'lost'" not in row and "failed'" not in row for row in rows)


def only_ok_rows(text):
    found = re.findall(r"│ (ok|late|lost|smtp_failed|pickup_failed) ", text)
    return found == ["ok"]


def one_failed_login(text):
    found = re.findall(r"failed logins in one test: (\d+)", text)
    return len(found) == 7 and set(found) == {"1"}


def refused_for_good(text):
    stages = [m[2] for m in VERDICT.finditer(text)]
    return stages == ["smtp_data", "smtp_rcpt"] and "is not known" not in text


def no_secret(text):
    # Three letters appear by chance in any hexadecimal number.
    found = re.findall(r"^(.*) leaked: \[(.*?)\]", text, re.M)
    return len(found) == 10 and all(not leaked for name, leaked in found if not name.startswith("'abc'"))


def no_foreign_retrieval(text):
    return all_ok(1)(text) and "RETR of foreign mails: 0 of 30; all there: True" in text


def spf_of_mail_from(text):
    found = re.findall(r"want (\(.*?\)) got \[(\(.*?\))\]", text)
    return len(found) == 5 and all(want == got for want, got in found)


RULES = {
    "bounce_exchange_mixed_imap": (bounced, "lost, bounced"),
    "bounce_dragonfly_imap": (bounced, "lost, bounced"),
    "bounce_yahoo_text_imap": (bounced, "lost, bounced"),
    "bounce_workspace_empty_imap": (never_ok, "lost, reason unknown"),
    "bounce_gmail_long_pop3": (bounced_511, "lost, bounced, 5.1.1"),
    "bounce_gmail_long_imap": (bounced_511, "lost, bounced, 5.1.1"),
    "bounce_postfix_plain_pop3": (bounced_511, "lost, bounced, 5.1.1"),
    "bounce_out_of_office_imap": (never_ok, "never ok"),
    "foreign_forward": (foreign_mail_stays, "people's mail stays, none counts"),
    "figure_two_machines": (all_inside, "the truth is inside what is guaranteed"),
    "imap_fetch_empty": (all_ok(4), "ok at a later look"),
    "imap_uidnext_back": (lake_all_ok, "ok at a later look"),
    "imap_connections": (only_ok_rows, "ok, as without IDLE"),
    "login_wrong_tries": (one_failed_login, "one failed login a test"),
    "smtp_571": (refused_for_good, "refused for good"),
    "imap_secret_echo": (no_secret, "no secret in any output"),
    "pop3_top_once": (no_foreign_retrieval, "no foreign mail retrieved"),
    "verdict_spf_helo": (spf_of_mail_from, "the result of MAIL FROM"),
    "oauth_string": (all_ok(6), "tokens accepted"),
    "imap_id_first": (all_ok(1), "ok"),
}


def run(folder, name, binaries):
    began = time.monotonic()
    env = dict(os.environ, BIN=binaries, LAKE_PYTHON=sys.executable)
    try:
        ended = subprocess.run(
            [sys.executable, name + ".py"], cwd=folder, env=env, capture_output=True, text=True, timeout=400
        )
        text = ended.stdout + ended.stderr
    except subprocess.TimeoutExpired as error:
        text = "did not end: %s" % error
    check, right = RULES.get(name, (None, "no rule for this case"))
    verdict = "?" if check is None else "right" if check(text) else "WRONG"
    return name, verdict, right, time.monotonic() - began, text


def main():
    words = [word for word in sys.argv[1:] if word != "-v"]
    if not words:
        sys.exit(__doc__)
    folder = os.path.abspath(words[0])
    binaries = os.path.abspath(words[1] if len(words) > 1 else "target/release")
    helpers = {"kit", "bounces"}
    names = words[2:] or sorted(f[:-3] for f in os.listdir(folder) if f.endswith(".py") and f[:-3] not in helpers)
    # Each case waits most of the time, and takes its ports by its process id.
    with concurrent.futures.ThreadPoolExecutor(max_workers=3) as pool:
        results = list(pool.map(lambda name: run(folder, name, binaries), names))
    width = max(len(name) for name, *_ in results)
    for name, verdict, right, took, text in results:
        print("%-*s  %-5s  %5.0f s  %s" % (width, name, verdict, took, right))
        if "-v" in sys.argv or verdict == "WRONG":
            print("".join("    %s\n" % line for line in text.strip().split("\n")[-25:]), end="")
    wrong = sum(verdict == "WRONG" for _, verdict, *_ in results)
    print("%d cases, %d wrong" % (len(results), wrong))
    sys.exit(1 if wrong else 0)


main()
