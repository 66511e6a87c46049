"""Looks up the pinned packages in a database of known vulnerabilities, or says that none can be asked."""

import json
import subprocess
import sys

PICKLED = ("CVE-2024-35515", "PYSEC-2026-1939")
"""sqlitedict, of lm-eval, unpickles what its file holds, and is not mended: it is lm-eval's cache of
responses, which is never switched on here."""
COMMAND = [
    "-m",
    "pip_audit",
    "-r",
    "constraints.txt",
    "--no-deps",
    "--disable-pip",
    "--progress-spinner",
    "off",
    *(part for one in PICKLED for part in ("--ignore-vuln", one)),
]
UNREACHABLE = "pip-audit: NOT audited: no database of vulnerabilities can be reached from here"


def main() -> int:
    """Ask, and return 1 where a pinned version has a known vulnerability."""
    done = subprocess.run(  # nosec B603  # a fixed command, no shell
        [sys.executable, *COMMAND, "-f", "json"], capture_output=True, text=True, check=False
    )
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["no word"])[-1][:200]
        print(f"{UNREACHABLE} ({last})")
        return 0
    asked = [package for package in found if "skip_reason" not in package]
    if not asked:
        print(f"{UNREACHABLE} (it knows none of {len(found)} packages)")
        return 0
    hit = [package for package in asked if package["vulns"]]
    for package in hit:
        for known in package["vulns"]:
            mended = ", ".join(known["fix_versions"]) or "none yet"
            print(f"{package['name']} {package['version']}: {known['id']}; mended in: {mended}")
    print(f"pip-audit: looked up {len(asked)} of {len(found)} pinned packages, {len(hit)} are vulnerable")
    return 1 if hit else 0


if __name__ == "__main__":
    sys.exit(main())
