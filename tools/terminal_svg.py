#!/usr/bin/env python3
"""Draws the text of a terminal as an SVG picture, for the README.

    tmux capture-pane -p | python tools/terminal_svg.py > docs/img/run.svg

Text in, text out: no colours, one line a line, trailing empty lines dropped.
"""
import sys
from xml.sax.saxutils import escape

CHAR, LINE, PAD, BAR = 8.4, 19, 16, 30


def svg(lines):
    width = round(max(map(len, lines)) * CHAR) + 2 * PAD
    height = len(lines) * LINE + BAR + PAD
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
           f'<rect width="{width}" height="{height}" rx="8" fill="#16191d"/>']
    for i, colour in enumerate(("#ff5f57", "#febc2e", "#28c840")):
        out.append(f'<circle cx="{PAD + 4 + 18 * i}" cy="16" r="5" fill="{colour}"/>')
    out.append('<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14" fill="#d7dce2" xml:space="preserve">')
    for i, line in enumerate(lines):
        if line:
            fixed = f' textLength="{len(line) * CHAR:.1f}" lengthAdjust="spacingAndGlyphs"'  # the same columns in any font
            bold = ' fill="#8fd18f"' if line.startswith("$ ") else ""
            out.append(f'<text x="{PAD}" y="{BAR + 14 + i * LINE}"{fixed}{bold}>{escape(line)}</text>')
    return "\n".join(out + ["</g>", "</svg>"]) + "\n"


def main():
    lines = [line.rstrip() for line in sys.stdin.read().splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        sys.exit("terminal_svg.py: no text on standard input")
    sys.stdout.write(svg(lines))


if __name__ == "__main__":
    main()
