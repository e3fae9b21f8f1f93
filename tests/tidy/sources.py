"""The files of the project, those not committed yet too."""
import os
import subprocess


def sources(*patterns):
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
                            capture_output=True, text=True, check=True).stdout.split("\n")
    return sorted({path for path in listed if path and os.path.exists(path)})
