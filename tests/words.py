#!/usr/bin/env python3
"""Checks the wording of finished pages against docs/writing.md.

Usage: tests/words.py [FILE…]      without FILE: all pages in CLEAN

Prints each finding as FILE:LINE: text (advice) and exits with 1 if there is one. Only prose is
checked: fenced code, code spans and link addresses are skipped. In Rust, comments are checked, and
string literals of three words or more outside tests. The list CLEAN grows with each page or source
file that has been edited. Needs the Python standard library only.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Files and folders whose wording must stay clean.
CLEAN = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "analytics/charts/src",
    "analytics/console/src",
    "analytics/delivery/src",
    "analytics/figures/src",
    "analytics/report/src",
    "analytics/spark/src",
    "analytics/src",
    "core/base/src",
    "core/config/src",
    "core/lake",
    "core/mail/src",
    "core/model/src",
    "core/net/src",
    "core/control/src",
    "core/notify/src",
    "docs/alarms.md",
    "docs/comparison.md",
    "docs/console.md",
    "docs/delivery.md",
    "docs/faults.md",
    "docs/figures.md",
    "docs/guide",
    "docs/lake.md",
    "docs/mail-test.md",
    "docs/microsoft-graph.md",
    "docs/reports.md",
    "docs/running.md",
    "docs/service-levels.md",
    "docs/setup.md",
    "docs/templates.md",
    "docs/writing.md",
    "manual/src",
    "packaging/debian/mailqos.toml",
    "packaging/mailqos-analytics.service",
    "packaging/mailqos-probe.service",
    "packaging/mailqos-reports.service",
    "packaging/mailqos-reports.timer",
    "probe/discovery/src",
    "probe/src",
    "reports",
    "templates",
    "tests/bench/src",
    "tests/fuzz/README.md",
    "tests/notifications/README.md",
    "tests/src",
]

# Pages that quote wrong wording on purpose: these are checked for layout only.
QUOTING = {"docs/writing.md"}

MAX_COLUMNS = 100

# Files that are checked in a folder of CLEAN.
SUFFIXES = {".md", ".toml", ".rs"}

# Pattern, advice, and a sentence that the pattern must find.
RULES = [
    (r"\b(?i:MOST)_[A-Z]\w*", "MAX_…", "MOST_TOLD entries are kept"),
    (r"\banew\b", "again", "the file is written anew"),
    (
        r"\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|better\b|worse\b|different\b|later\b"
        r"|need\b|one\b|\w+(?:er|est) than\b)(?<!there is no )(?<!there are no )(?<!there was no )"
        r"(?<!there were no )\w+",
        "is not a …",
        "the reply is no answer",
    ),
    (r"\bunless (?:said|told|stated|you say|it says|they say)\b", "by default", "30 s unless said"),
    (r"\bsays? (?:else|otherwise)\b", "by default", "unless the file says otherwise"),
    (r"\bsaid otherwise\b", "by default", "30 s unless said otherwise"),
    (
        r"(?<!not )\bso (?:many|few|long)\b(?! (?:\w+ )?(?:as|that)\b)",
        "at most N, this long",
        "after so many failed tests",
    ),
    (r"\bof (?:its|one's|their|his|her|our|your|my) own\b", "own, separate", "a file of its own"),
    (r"\btold (?:of|about)\b|\btell(?:s|ing)? of\b", "notify, report", "people are told of it"),
    (r"\b(?:is|are|was|were) told\b", "notify, report", "nothing is told"),
    (r"\b(?:some|any|every|no)body\b", "someone, no one, or the role", "nobody is notified"),
    (r"\blet(?:s)? (?:\S+ ){1,3}be\b", "set … to …", "let the folder be named"),
    (r"\bby (?:it|them)sel(?:f|ves)\b", "automatically, alone", "it ends by itself"),
    (r"\bthe way of\b", "the path of, how", "the way of the data"),
    (r"\bways? of telling\b", "channel", "a way of telling that fails"),
    (r"\b(?:is|are|be|was|were|need not be) said\b", "stated, set, shown", "the zone is said"),
    (r"\bthat says? so\b|\bsays? so\b", "report, state", "the server says so"),
    (r"\bto and fro\b", "back and forth", "it changes to and fro"),
    (r"\bleft out\b|\bleav(?:es|ing) out\b|\bleaves? (?:\S+ ){1,4}out\b", "skip, omit", "it is left out"),
    (r"\bdoubled\b", "duplicate", "samples lost or doubled"),
    (r"\bmend(?:s|ed|ing)?\b", "fix", "once it is mended"),
    (r"\bin clear\b", "in plaintext", "data sent in clear"),
    (r"\blog-?ins?\b(?<=log-in)|\blog-ins\b", "login", "refused at log-in"),
    (r"\bat the (?:most|least)\b", "at most, at least", "400 at the most"),
    (r"\bgoes? over to\b", "switch to", "it goes over to another file"),
    (r"\bfor good\b", "permanently", "refused for good"),
    (r"\bat once\b", "immediately, at the same time", "it is sent at once"),
    (r"\bholds? up\b", "delay, block", "it holds up no other"),
    (r"\bown ones?\b", "your own", "an own one"),
    (r"\bwhoever\b", "anyone who", "whoever looks"),
    (r"\bbeside\b", "next to, in addition to", "the tests beside it"),
    (r"\bthereby\b|\bthereof\b|\btherein\b", "so, of it, in it", "the parts thereof"),
    (r"\bpassed over\b", "skip", "the file is passed over"),
    (r"\blearnt\b", "learned", "what was learnt"),
    (r"\bin mid-\w+", "during …", "stopped in mid-transfer"),
    (r"\b(?:get|gets|has|have|have) to be said\b", "must be set", "it has to be said"),
    (
        r"\bstands? (?:before|beside|for itself|in|there|below|above|on)\b",
        "is in, precedes",
        "it stands in the file",
    ),
    (r"\bdoes without\b|\bdo without\b", "skip, not need", "mailqos does without"),
    (r"\bnot (?:yet )?be had\b|\bbe had\b", "be available", "secrets that can't be had"),
    (r"\bput aside\b|\bwritten aside\b", "moved, written to a temporary file", "a copy put aside"),
    (r"\btakes? care of\b", "handle", "it takes care of retries"),
    (r"\bwhat (?:came|became|becomes|comes) of\b", "the result of", "what came of it"),
    (r"\bkept aside\b|\bmoved aside\b", "renamed, kept as …", "the file was moved aside"),
    (r"\btells? (?:whether|apart|when|which)\b", "show, distinguish", "the reply tells whether"),
    (r"\bworks? off\b", "process", "a loop that works off the queue"),
    (r"\bbrings? (?:it )?about\b|\bbrought about\b", "cause", "what brought about the alarm"),
    (r"\bin one go\b|\bin a single go\b", "in one step", "read in one go"),
    (r"\bhow it is (?:written|said|meant)\b", "format of …", "how it is written"),
    (r"\bcalls? itself without end\b", "endless recursion", "it calls itself without end"),
    (r"\bwithout (?:a word|more ado)\b", "without a message", "it ended without a word"),
    (r"\bare there a second time\b", "occur twice", "rows that are there a second time"),
    (r"\bthere is nothing to be\b|\bnothing to be done\b", "nothing …", "there is nothing to be read"),
    (r"\band the like\b|\btheir kin\b|\bits kin\b", "and similar …", "Nagios and its kin"),
]
COMPILED = [(re.compile(pattern, re.IGNORECASE), advice, bad) for pattern, advice, bad in RULES]


# Tokens of Rust that matter here: comments, string and character literals, test modules, braces.
RUST = re.compile(
    r"""//[^\n]*|b?r(\#*)".*?"\1|b?"(?:\\.|[^"\\])*"|'(?:\\.[^']*|[^'\\])'|\#\[cfg\(test\)\]|[{};]""",
    re.DOTALL,
)


def messages(text):
    """Yields (line number, string literal) of Rust for literals of three words or more, except in
    items under `#[cfg(test)]`. Placeholders and code spans are removed."""
    depth, test_depth, pending = 0, None, False
    for match in RUST.finditer(text):
        token = match.group(0)
        if token == "#[cfg(test)]":
            pending = test_depth is None
        elif token == "{":
            if pending:
                test_depth, pending = depth, False
            depth += 1
        elif token == "}":
            depth -= 1
            if test_depth is not None and depth <= test_depth:
                test_depth = None
        elif token == ";":
            pending = False
        elif token[0] not in "/'" and not pending and test_depth is None:
            literal = re.sub(r"\\\n\s*", "", token)
            literal = re.sub(r"\{[^{}]*\}|`[^`]*`", "…", literal)
            if len(literal.split()) >= 3 and "<script>" not in literal:
                yield text.count("\n", 0, match.start()) + 1, literal


def prose(text, comments_only):
    """Yields (number, line, line without code spans and link addresses) outside fenced code.

    With comments_only, these are the lines of comments in Rust.
    """
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if comments_only:
            comment = re.match(r"\s*//[/!]? ?(.*)", line)
            if not comment:
                continue
            line = comment.group(1)
        if line.lstrip().startswith("```"):
            fenced = not fenced
            continue
        if fenced:
            continue
        bare = re.sub(r"``.*?``|`[^`]*`", "`…`", line)
        bare = re.sub(r"\]\([^)]*\)", "]", bare)
        yield number, line, bare


def findings(text, suffix, layout_only):
    """Yields (line number, quotation, advice)."""
    lines = list(prose(text, suffix == ".rs"))
    for number, line, bare in lines if suffix == ".md" else []:
        table = line.lstrip().startswith("|")
        unbreakable = len(bare.split()) <= 2 or "](" in line
        if len(line) > MAX_COLUMNS and not table and not unbreakable:
            yield number, f"{len(line)} columns", f"wrap at {MAX_COLUMNS}"
    if layout_only:
        return
    # Sentences run over line ends, so search joined lines and map each match back.
    joined, starts = "", []
    for number, _, bare in lines:
        starts.append((len(joined), number))
        joined += bare.strip() + " "
    for pattern, advice, _ in COMPILED:
        for match in pattern.finditer(joined):
            number = next(n for start, n in reversed(starts) if start <= match.start())
            yield number, match.group(0).strip(), advice
    if suffix == ".rs":
        for number, literal in messages(text):
            for pattern, advice, _ in COMPILED:
                for match in pattern.finditer(literal):
                    yield number, match.group(0).strip(), advice


def main(arguments):
    silent = [bad for pattern, _, bad in COMPILED if not pattern.search(bad)]
    if silent:
        print("rules that don't find their own example:", *silent, sep="\n  ")
        return 1
    paths = []
    for name in arguments or CLEAN:
        path = Path(name) if arguments else ROOT / name
        inside = sorted(
            p for p in path.rglob("*") if p.suffix in SUFFIXES and not p.stem.endswith("tests")
        )
        paths += inside if path.is_dir() else [path]
    found = 0
    for path in paths:
        full = path.resolve()
        shown = full.relative_to(ROOT).as_posix() if full.is_relative_to(ROOT) else str(path)
        text = path.read_text(encoding="utf-8")
        for number, quotation, advice in sorted(findings(text, path.suffix, shown in QUOTING)):
            print(f"{shown}:{number}: {quotation!r} → {advice}")
            found += 1
    if found:
        print(f"{found} findings; docs/writing.md explains them")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
