"""Makes the fonts of HTML reports and the table of their widths from the bundled Inter.

    pip install fonttools brotli
    python3 analytics/report/assets/fonts/web/make.py

Each file has a part of the characters and kerning, nothing else; digits are those of equal width, so that columns of numbers
are even without a feature that a subset has no room for. A page embeds the parts that its text needs.
"""

import io
import os
import pathlib

# The same files whenever they are made.
os.environ["SOURCE_DATE_EPOCH"] = "1700000000"

from fontTools import subset
from fontTools.ttLib import TTFont

HERE = pathlib.Path(__file__).parent
PARTS = {
    "latin": "20-7E A0-FF 131 152-153 160-161 178 17D-17E 192 2010-2027 202F 2030 2032-2033 2039-203A 20AC 2122 2190-2193 2212 "
             "2248 2260 2264-2265 25A1 25B2 25BC 25CF",
    "latin-ext": "100-130 132-151 154-15F 162-177 179-17C 17F 18F 1A0-1A1 1AF-1B0 1CD-1DC 1E6-1E7 1F8-1F9 200-21B 237 259 1E00-1EFF",
    "greek": "384-386 388-38A 38C 38E-3A1 3A3-3CE",
    "cyrillic": "400-45F 490-4C4 4CB-4CC 4D0-4F9",
}


def characters(part):
    for span in PARTS[part].split():
        first, _, last = span.partition("-")
        yield from range(int(first, 16), int(last or first, 16) + 1)


def tabular(font):
    """Gives the digits the glyphs of equal width that the feature `tnum` would choose."""
    rules = font["GSUB"].table
    lookups = {i for f in rules.FeatureList.FeatureRecord if f.FeatureTag == "tnum" for i in f.Feature.LookupListIndex}
    chosen = {}
    for index in lookups:
        for table in rules.LookupList.Lookup[index].SubTable:
            table = getattr(table, "ExtSubTable", table)
            chosen.update(getattr(table, "mapping", {}))
    for table in font["cmap"].tables:
        for digit in range(0x30, 0x3A):
            if digit in table.cmap:
                table.cmap[digit] = chosen.get(table.cmap[digit], table.cmap[digit])


def made(weight, part):
    font = TTFont(HERE.parent / f"Inter-{weight}.otf", recalcTimestamp=False)
    tabular(font)
    options = subset.Options(layout_features=["kern"], flavor="woff2", hinting=False, desubroutinize=False,
                             name_IDs=[0, 1, 2, 13, 14], notdef_outline=True, recalc_timestamp=False)
    maker = subset.Subsetter(options)
    maker.populate(unicodes=characters(part))
    maker.subset(font)
    font.flavor = "woff2"
    out = io.BytesIO()
    font.save(out)
    return out.getvalue()


for weight in ["Regular", "SemiBold"]:
    for part in PARTS:
        name = f"Inter-{weight}-{part}.woff2"
        (HERE / name).write_bytes(made(weight, part))
        print(name, (HERE / name).stat().st_size)

# Advance widths in thousandths of the size: the wider of text and tabular digits, so that no label is longer than its room.
lines = []
for weight in ["Regular"]:
    font = TTFont(HERE.parent / f"Inter-{weight}.otf")
    plain = font.getBestCmap().copy()
    tabular(font)
    names, advance, units = font.getBestCmap(), font["hmtx"], font["head"].unitsPerEm
    widths = {}
    for part in PARTS:
        for c in characters(part):
            if c in names:
                wide = max(advance[names[c]][0], advance[plain[c]][0])
                widths[c] = -(-wide * 1000 // units)
    runs = []
    for c in sorted(widths):
        if runs and c == runs[-1][0] + len(runs[-1][1]):
            runs[-1][1].append(widths[c])
        else:
            runs.append((c, [widths[c]]))
    lines.append(f"/// Of Inter {weight}.\npub(super) static WIDTHS: [(u32, &[u16]); {len(runs)}] = [")
    for first, of in runs:
        lines.append(f"    (0x{first:x}, &[")
        for at in range(0, len(of), 20):
            lines.append("        " + ", ".join(map(str, of[at:at + 20])) + ",")
        lines.append("    ]),")
    lines.append("];\n")
text = ("//! Advance widths of the fonts of reports in thousandths of the size: from a character on, those of it and of the following\n"
        "//! ones. Made by `assets/fonts/web/make.py`.\n\n" + "\n".join(lines)).rstrip() + "\n"
(HERE.parents[2] / "src/charts/widths.rs").write_text(text)
