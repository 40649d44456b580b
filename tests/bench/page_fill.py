"""Measures how full the pages of PDFs are, for the rule that no page is less than 40 % full except at the end of a chapter.

Usage: page_fill.py FILE...

    cargo run --release --package mailqos-bench --bin pages -- --output /tmp/pages --kind many --monitors 8
    python3 tests/bench/page_fill.py /tmp/pages/many/reports/*-8/*.pdf

Of each page it prints the share of the room between head and foot down to the last ink, in per cent. Needs `pdftoppm` of Poppler.
"""

import re
import subprocess
import sys

# Millimetres of an A4 page above and below the text.
HEAD, FOOT, HEIGHT = 22, 20, 297


def pages(path):
    """Width, height and grey pixels of each page."""
    images = subprocess.run(["pdftoppm", "-r", "30", "-gray", path], stdout=subprocess.PIPE, check=True).stdout
    at = 0
    while at < len(images):
        head = re.match(rb"P5\n(\d+) (\d+)\n255\n", images[at:at + 40])
        width, height = int(head[1]), int(head[2])
        at += head.end()
        yield width, height, images[at:at + width * height]
        at += width * height


def share(width, height, pixels):
    """How full a page is."""
    top, bottom = height * HEAD // HEIGHT, height * (HEIGHT - FOOT) // HEIGHT
    for line in range(bottom - 1, top, -1):
        if min(pixels[line * width:(line + 1) * width]) < 200:
            return (line + 1 - top) / (bottom - top)
    return 0.0


for path in sys.argv[1:]:
    shares = [share(*page) for page in pages(path)]
    short = sum(share < 0.4 for share in shares)
    print(f"{path}: {len(shares)} pages, {short} below 40 %: {' '.join(f'{100 * share:.0f}' for share in shares)}")
