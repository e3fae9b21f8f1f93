"""Files of at most 1,000 lines, functions of at most 70."""
import re
import sys

from sources import sources

FILE_MAX = 1000
FUNCTION_MAX = 70


def main():
    bad = 0
    for path in sources("*.c", "*.h", "*.py", "*.java", "*.def"):
        lines = open(path).read().split("\n")
        if len(lines) - 1 > FILE_MAX:
            print(f"{path}: {len(lines) - 1} lines, {FILE_MAX} allowed")
            bad += 1
        start = None
        for number, line in enumerate(lines, 1):
            if line == "{":
                start = number
            elif line == "}" and start:
                length = number - start - 1
                if length > FUNCTION_MAX:
                    name = re.search(r"(\w+)\(", " ".join(lines[max(0, start - 6):start - 1]).split(";")[-1])
                    print(f"{path}:{start}: {name.group(1) if name else '?'} has {length} lines, {FUNCTION_MAX} allowed")
                    bad += 1
                start = None
    return bad > 0


sys.exit(main())
