"""Print a CSV of n made-up messages: an id and a few words. The same n gives the same file.

python docs/scale/rows.py 1000000 > million.csv
"""

from __future__ import annotations

import random
import sys

WORDS = (
    "win prize now text call see you at then bring book keys free money home late hello claim offer urgent reply mum "
    "ok tonight cash tomorrow meeting lunch thanks phone ringtone bonus love sorry"
)


def main() -> None:
    """The command."""
    draw, words = random.Random(1), WORDS.split()
    print("id,text")
    for number in range(int(sys.argv[1])):
        print(f"{number},{' '.join(draw.choices(words, k=draw.randint(2, 6)))}")


if __name__ == "__main__":
    main()
