r"""The leaderboard as LaTeX: booktabs and siunitx, compiled as it stands or taken into a paper by ``\input``.

Text is set with commands and ASCII alone, so that every engine and font encoding can; what has no command is
written out as its code point.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from muse_eval.printable import one_line
from muse_eval.results.captions import caption
from muse_eval.results.grid import Cell, grid
from muse_eval.results.rows import RunRow, by_task, headings, title

HEAD = r"""% Compiles as it stands. In a paper: \usepackage{booktabs,siunitx} (version 3), then \input it.
\expandafter\ifx\csname @twoclasseserror\endcsname\documentclass
\def\museevalinpaper{}%
\else
\documentclass{article}
\usepackage[a4paper,landscape,margin=15mm]{geometry}
\usepackage{booktabs,siunitx}
\begin{document}
\fi
"""
FOOT = r"""
\ifdefined\museevalinpaper\expandafter\endinput\fi
\end{document}
"""
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_SPREAD = re.compile(r"(?: ± (?P<half>[\d.]+))?(?: \[(?P<notes>[\d, ]+)\])?")
_LIGATURE = re.compile(r"(?<=[-'`?!,])(?=[-'`,])")
"""Between signs of which TeX would make one."""
_NOTE = re.compile(r"\[(\d+)\] (.*)")
SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "|": r"\ensuremath{|}",
    '"': r"\symbol{34}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "±": r"\ensuremath{\pm}",
    "−": r"\ensuremath{-}",
    "×": r"\ensuremath{\times}",
    "·": r"\ensuremath{\cdot}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "…": r"\ldots{}",
    "→": r"\ensuremath{\rightarrow}",
    "↑": r"\ensuremath{\uparrow}",
    "↓": r"\ensuremath{\downarrow}",
    "≤": r"\ensuremath{\leq}",
    "≥": r"\ensuremath{\geq}",
    "λ": r"\ensuremath{\lambda}",
    "β": r"\ensuremath{\beta}",
    "γ": r"\ensuremath{\gamma}",
    "α": r"\ensuremath{\alpha}",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
}
ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}


def to_latex(rows: Iterable[RunRow], published: Iterable[Mapping[str, str]] = ()) -> str:
    """Return a document with a table a task, and the published numbers; the same runs give the same bytes.

    The best set is bold, what a cell has to be read with is a numbered note below.
    """
    published, blocks = list(published), [HEAD]
    for task, runs in by_task(rows).items():
        columns = headings(task, runs)
        laid = grid(columns, runs)
        names = [f"{task}/{row['name']}" for row in runs]
        told = caption(task, columns, runs)
        blocks.append(_table(told, f"tab:muse-{task}", laid.header, laid.lines, laid.notes, names))
        elsewhere = [line for line in published if line["task"] == task]
        if elsewhere:
            lines = [[Cell(line["method"]), *(Cell(line.get(n, "")) for n in columns)] for line in elsewhere]
            sources = dict.fromkeys(f"{line['source']}, {line['locator']}" for line in elsewhere)
            told = f"{title(task, runs)}, published elsewhere, not measured here: {'; '.join(sources)}."
            blocks.append(_table(told, f"tab:muse-{task}-published", laid.header, lines, [], []))
    return "\n".join([*blocks, FOOT.lstrip("\n")])


def latex_text(text: str) -> str:
    """Return a text on one line in which LaTeX sees no sign of its own, in ASCII."""
    signs = "".join(_sign(char) for char in unicodedata.normalize("NFC", one_line(text)))
    return _LIGATURE.sub("{}", signs)


def _sign(char: str) -> str:
    if char in SIGNS:
        return SIGNS[char]
    if char.isascii():
        return char
    base, *accents = list(unicodedata.normalize("NFD", char))
    if base.isascii() and base.isalpha() and len(accents) == 1 and accents[0] in ACCENTS:
        return f"\\{ACCENTS[accents[0]]}{{{base}}}"
    return f"\\texttt{{U+{ord(char):04X}}}"


def _table(
    told: str,
    label: str,
    header: Sequence[str],
    lines: Sequence[Sequence[Cell]],
    notes: Sequence[str],
    names: Sequence[str],
) -> str:
    """Return a floating table; where ``names`` are given, a comment beside each row says which run it is."""
    kinds = "".join(
        f"S[table-format={_format([line[at] for line in lines])}]@{{\\,}}l" for at in range(1, len(header))
    )
    titles = "".join(f" & \\multicolumn{{2}}{{c}}{{{latex_text(one)}}}" for one in header[1:])
    body = [f"{_name(first)}{''.join(map(_cell, cells))} \\\\" for first, *cells in lines]
    if names:
        body = [f"{line} % run: {one_line(name)}" for line, name in zip(body, names, strict=True)]
    below = [f"\\par {_note(note)}" for note in notes]
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering\small\setlength{\tabcolsep}{4pt}",
            r"\sisetup{mode=text,reset-text-series=false}",
            f"\\caption{{{latex_text(told)}}}",
            f"\\label{{{re.sub(r'[^A-Za-z0-9:-]', '-', label)}}}",
            f"\\begin{{tabular}}{{l{kinds}}}",
            r"\toprule",
            f"{latex_text(header[0])}{titles} \\\\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *([r"\par\medskip\footnotesize\raggedright"] if below else []),
            *below,
            r"\end{table}",
            "",
        ]
    )


def _format(cells: Iterable[Cell]) -> str:
    """Return siunitx' table-format: room for the sign and digits of a column's numbers."""
    found = [cell.value for cell in cells if _NUMBER.fullmatch(cell.value)]
    whole = max((len(value.lstrip("-").partition(".")[0]) for value in found), default=1)
    places = max((len(value.partition(".")[2]) for value in found), default=0)
    return f"{'-' if any(value.startswith('-') for value in found) else ''}{whole}.{places}"


def _name(cell: Cell) -> str:
    return latex_text(cell.value) + _marks(cell)[1]


def _cell(cell: Cell) -> str:
    spread, marks = _marks(cell)
    if _NUMBER.fullmatch(cell.value):
        value = f"\\bfseries {cell.value}" if cell.best else cell.value
    else:
        value = f"{{{latex_text(cell.value)}}}"
    return f" & {value} & {spread}{marks}"


def _marks(cell: Cell) -> tuple[str, str]:
    """Return the half-interval of a cell and the numbers of its notes."""
    found = _SPREAD.fullmatch(cell.spread)
    assert found is not None, cell.spread
    half, notes = found["half"], found["notes"]
    return (
        f"$\\pm$\\,{half}" if half else "",
        f"\\textsuperscript{{{notes.replace(' ', '')}}}" if notes else "",
    )


def _note(note: str) -> str:
    found = _NOTE.fullmatch(one_line(note))
    return f"\\textsuperscript{{{found[1]}}}\\,{latex_text(found[2])}" if found else latex_text(note)
