#!/usr/bin/env python3
"""Plants mistakes in the core one by one and shows which law catches each.

usage: tests/mutations.py [--seeds N] [NAME...]

Works on a copy of the tracked files in a temporary folder, with a target folder of its own, so the checkout stays as it is.
A mistake whose text is no longer in the source is an error: the list below has to follow the code.
Prints a Markdown table for docs/SIMULATION.md. Exit code 1 when a mistake goes unnoticed.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

CORE = "chronotick-core/src/"
# name, file, what stands there, what is planted instead
MISTAKES = [
    ("offset's sign", "pipeline.rs", "sample.offset.since(track.bank.reference()).as_secs_f64()",
     "track.bank.reference().since(sample.offset).as_secs_f64()"),
    ("half the delay dropped from the bound", "sample.rs",
     "Span::from_nanos(self.delay.as_nanos() / 2 + self.delay.as_nanos() % 2)", "Span::from_nanos(self.delay.as_nanos() / 4)"),
    ("root distance dropped from the bound", "sample.rs", ".saturating_add(self.root_distance)", ""),
    ("one side of the confinement forgotten", "hard_bound.rs", "high.since(served).max(served.since(low))", "high.since(served)"),
    ("drift since the last exchange dropped", "hard_bound.rs", "from.low.saturating_add(Rate::new(low).over(dt))", "from.low"),
    ("slew still to apply dropped from the served bound", "served.rs", "..target.record(at, rate, correction.abs())",
     "..target.record(at, rate, Span::ZERO)"),
    ("served time jumps to the target", "served.rs", "let utc = on_old.max(drawn);", "let utc = wanted;"),
    ("samples from the future taken", "pipeline.rs", "if sample.local > now {", "if false {"),
    ("negative delays taken", "sample.rs", "if self.delay.as_nanos() < 0 {", "if false {"),
    ("broken temperatures taken", "sample.rs", "self.temperature.is_some_and(|t| !t.is_finite())", "false"),
    ("always fresh", "pipeline.rs", "at.since(track.last.local) <= patience", "at.since(track.last.local) <= patience || true"),
    ("bound kept over a suspension", "pipeline.rs", "        self.hard.reset();\n", ""),
    ("bound shrinks along the curve", "pipeline.rs", "passed.fold(self.hard.half_width(at, offset), Span::max)",
     "passed.fold(self.hard.half_width(at, offset), |a, _| a)"),
    ("question's age underflows", "pipeline.rs", "closed.wrapping_sub(self.asked_at[slot])", "(closed - self.asked_at[slot])"),
]


def run(command, folder):
    environment = dict(os.environ, CARGO_TARGET_DIR=str(folder / "target"))
    return subprocess.run(command, cwd=folder / "tree", env=environment, capture_output=True, text=True)


def copy_tree(top, folder):
    (folder / "tree").mkdir()
    files = subprocess.run(["git", "ls-files", "-z"], cwd=top, capture_output=True, check=True).stdout
    archive = subprocess.run(["tar", "-c", "--null", "-T", "-"], cwd=top, input=files, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x"], cwd=folder / "tree", input=archive, check=True)


def laws(output):
    """`law: N seeds` lines of the campaign."""
    return [f"{law} ({seeds})" for law, seeds in re.findall(r"^(.+): (\d+) seeds; again:", output, re.M)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=120)
    parser.add_argument("--target", help="a target folder to build in, instead of a fresh one")
    parser.add_argument("names", nargs="*", help="only these mistakes")
    options = parser.parse_args()
    top = pathlib.Path(__file__).resolve().parent.parent
    missed = 0
    with tempfile.TemporaryDirectory(prefix="chronotick-mutations-") as name:
        folder = pathlib.Path(name)
        copy_tree(top, folder)
        if options.target:
            (folder / "target").symlink_to(pathlib.Path(options.target).resolve())
        print("| planted mistake | caught by (seeds of %d) |\n|---|---|" % options.seeds, flush=True)
        for title, file, old, new in [("none", None, None, None), *MISTAKES]:
            if options.names and title not in options.names:
                continue
            original = None
            if file:
                path = folder / "tree" / CORE / file
                original = path.read_text()
                if original.count(old) != 1:
                    sys.exit(f"{title}: its text stands {original.count(old)} times in {CORE}{file}; bring the list up to date")
                path.write_text(original.replace(old, new))
            made = run(["cargo", "test", "--quiet", "-p", "chronotick-tests", "--test", "world", "--", "--seeds", str(options.seeds)],
                       folder)
            caught = laws(made.stdout)
            if made.returncode and not caught:
                caught = ["does not build"] if "could not compile" in made.stderr else ["the campaign ended with an error"]
                print(made.stderr[-2000:], file=sys.stderr)
            if original is not None:
                path.write_text(original)
                missed += not caught
            elif caught:
                sys.exit("the unchanged tree breaks laws: " + ", ".join(caught))
            print(f"| {title} | {', '.join(caught) or ('nothing, as it should be' if not file else 'NOTHING')} |", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
