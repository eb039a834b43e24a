"""What the comparisons share: running semivox, describing the machine, writing a result as JSON and Markdown."""

import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Waiting threads of GNU OpenMP sleep early, for both sides. semivox sets this itself; PyTorch would be many times slower
# without it on a machine that does something else, and is as fast with it on an idle one.
ENVIRONMENT = dict(os.environ, GOMP_SPINCOUNT=os.environ.get("GOMP_SPINCOUNT", "6000"))


def run(command):
    """Runs a command and returns (its output, the peak memory of its process in bytes); ends the program when it fails."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=ENVIRONMENT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        output.seek(0)
        text = output.read()
    if status != 0:
        sys.exit(f"{' '.join(command)}\nfailed:\n{text}")
    return text, usage.ru_maxrss * 1024


def bench(semivox, benchmark, options):
    """The JSON report of `semivox bench BENCHMARK`, with the peak memory of the process."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "report.json")
        _, peak = run([semivox, "bench", benchmark, *map(str, options), "--json", path])
        with open(path) as file:
            return dict(json.load(file), process_peak_bytes=peak)


def median(values):
    ordered = sorted(values)
    n = len(ordered)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def processor():
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown processor"


def machine():
    """Date, commit, processor: what every measurement is reported with."""

    def git(*arguments):
        result = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
        return result.stdout.strip() if result.returncode == 0 else ""

    commit = git("rev-parse", "--short=12", "HEAD") or "unknown"
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit + (" with changes" if git("status", "--porcelain", "--untracked-files=no") else ""),
        "processor": processor(),
        "processors": len(os.sched_getaffinity(0)),
        "command": " ".join(["python3", os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]]),
    }


def table(header, rows):
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def write(out, name, title, record, tables):
    """Prints the tables and writes OUT.json and OUT.md (default: bench/results/NAME-<date>)."""
    m = record["machine"]
    base = pathlib.Path(out) if out else ROOT / "bench" / "results" / f"{name}-{m['date'][:10]}"
    base.parent.mkdir(parents=True, exist_ok=True)
    about = f"{m['processors']} × {m['processor']}, {m['date']}, commit {m['commit']}, {record['versions']}, `{m['command']}`"
    text = f"# {title}\n\n{about}\n\n" + "\n\n".join(tables) + "\n"
    base.with_name(base.name + ".json").write_text(json.dumps(record, indent=1) + "\n")
    base.with_name(base.name + ".md").write_text(text)
    print(text)
    print(f"written: {base}.json, {base}.md")
