import importlib
import sys

COMMANDS = {"carry": "carry", "classify": "classify", "link": "shaped", "moves": "moves", "pairs": "pairs", "punch": "punch", "shell": "shell",
            "table": "results", "worker": "workers"}

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        sys.exit(f"usage: python3 -m lab {'|'.join(sorted(COMMANDS))} …")
    sys.exit(importlib.import_module(f"lab.{COMMANDS[name]}").main(sys.argv[2:]))
