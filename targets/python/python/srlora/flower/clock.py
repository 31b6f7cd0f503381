"""How far this machine's clock is from a SuperLink's: a node that signs with a wrong time is refused (401), and Flower does not say why.

    python -m srlora.flower.clock https://server:8000 --root-certificates ca.crt
"""

import argparse
import ssl
import sys
import urllib.error
import urllib.request
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Optional, Sequence

MOST_BEHIND, MOST_AHEAD = 305, 5
"""Seconds that a SuperLink takes (Flower 1.42)."""


def ahead(url: str, root_certificates: Optional[str] = None) -> float:
    """Seconds by which this clock is ahead of the one at `url`, which tells its own in each answer, in whole seconds."""
    trust = ssl.create_default_context(cafile=root_certificates) if url.startswith("https") else None
    try:
        with urllib.request.urlopen(url, timeout=10, context=trust) as answer:
            told = answer.headers["Date"]
    except urllib.error.HTTPError as error:  # an answer, whatever it says
        told = error.headers["Date"]
    return (datetime.now(timezone.utc) - parsedate_to_datetime(told)).total_seconds()


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Prints the difference; 1 where a SuperLink would refuse it, 2 where it could not be asked."""
    parser = argparse.ArgumentParser(prog="srlora.flower.clock", description="How far this clock is from a SuperLink's.")
    parser.add_argument("url")
    parser.add_argument("--root-certificates")
    asked = parser.parse_args(arguments)
    try:
        seconds = ahead(asked.url, asked.root_certificates)
    except (OSError, ValueError, TypeError) as error:
        print(f"{asked.url}: tells no time ({error}). Is the address that of a running SuperLink, with http or https? If a certificate is "
              "not valid yet, this clock is behind: set it, for instance with `timedatectl set-ntp true`", file=sys.stderr)  # fmt: skip
        return 2
    wrong = not -MOST_BEHIND < seconds < MOST_AHEAD
    advice = "; a SuperLink refuses that (401): set the clock, for instance with `timedatectl set-ntp true`" if wrong else ""
    print(f"this clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the SuperLink's{advice}")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
