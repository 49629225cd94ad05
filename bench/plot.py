# SPDX-License-Identifier: PostgreSQL
"""A plot of rates by the number of shards, as an SVG file."""

from html import escape

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 40, 45
COLOURS = ("#1b5e9c", "#c2571a", "#3c7d3c", "#7a4d9c")


def text(x, y, words, anchor="middle", colour="#333"):
    return (f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"'
            f' fill="{colour}">{escape(words)}</text>')


def line(points, colour, dashes=""):
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (f'<polyline points="{path}" fill="none" stroke="{colour}"'
            f' stroke-width="2"{dashes}/>')


def draw(path, title, lines):
    """lines: {name: [(shards, rate), ...]}; dashed: so many times the rate of
    one shard."""
    counts = sorted({x for points in lines.values() for x, _ in points})
    top = 1.08 * max(y * counts[-1] / x for points in lines.values()
                     for x, y in points[:1])

    def place(x, y):
        return (LEFT + x / counts[-1] * (WIDTH - LEFT - RIGHT),
                HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM))
    parts = [text(LEFT, 22, title, "start")]
    for count in counts:
        parts.append(text(place(count, 0)[0], HEIGHT - 22, str(count)))
    parts.append(text(place(counts[-1] / 2, 0)[0], HEIGHT - 6, "shards"))
    for n in range(5):
        x, y = place(0, top * n / 4)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"'
                     ' stroke="#ddd"/>')
        parts.append(text(x - 8, y + 4, f"{top * n / 4:,.0f}", "end"))
    for colour, (name, points) in zip(COLOURS, lines.items()):
        one = points[0][1] / points[0][0]
        parts.append(line([place(0, 0), place(counts[-1], one * counts[-1])],
                          colour, ' stroke-dasharray="2 5"'))
        parts.append(line([place(x, y) for x, y in points], colour))
        x, y = place(*points[-1])
        parts.append(text(x + 8, y + 4, name, "start", colour))
    with open(path, "w", encoding="utf8") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}"'
                   f' height="{HEIGHT}" font-family="sans-serif"'
                   ' font-size="12">\n<rect width="100%" height="100%"'
                   ' fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n")
