#!/usr/bin/env python3
"""Plants mistakes one by one and shows which law or test catches each.

usage: tests/mutations.py [--seeds N] [--target DIR] [NAME...]

Works on a copy of the tracked files in a temporary folder, with a target folder of its own, so the checkout stays as it is.
Runs the worlds, and where a mistake is not of their kind another test, from the workspace in tests/lean, which builds in minutes.
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
CLIENT = "chronotick-host/src/ntp/client.rs"
LATCH = "chronotick-host/src/shm/latch.rs"
# name, file, what stands there, what is planted instead, the test that has to notice (world unless named)
MISTAKES = [
    ("offset's sign in the estimator", CORE + "pipeline.rs",
     "let z = sample.offset.since(track.bank.reference()).as_secs_f64()",
     "let z = track.bank.reference().since(sample.offset).as_secs_f64()"),
    ("what a longer path adds added once more", CORE + "pipeline.rs", "as_secs_f64() - trust.asymmetry;", "as_secs_f64() + trust.asymmetry;",
     "correction_mathematics"),
    ("what sources disagree about left out of the interval", CORE + "pipeline/ahead.rs",
     "let half = if S > 1 {", "let half = if S > 99 {", "correction_mathematics"),
    ("half the delay dropped from the bound", CORE + "sample.rs",
     "Span::from_nanos(self.delay.as_nanos() / 2 + self.delay.as_nanos() % 2)", "Span::from_nanos(self.delay.as_nanos() / 4)"),
    ("root distance dropped from the bound", CORE + "sample.rs", ".saturating_add(self.root_distance)", ""),
    ("one side of the confinement forgotten", CORE + "hard_bound.rs", "high.since(served).max(served.since(low))",
     "high.since(served)"),
    ("drift since the last exchange dropped", CORE + "hard_bound.rs", "from.low.saturating_add(Rate::new(low).over(dt))",
     "from.low"),
    ("slew still to apply dropped from the served bound", CORE + "served.rs",
     "..target.record(at, rate, correction.abs())", "..target.record(at, rate, Span::ZERO)"),
    ("served time jumps to the target", CORE + "served.rs", "let utc = on_old.max(drawn);", "let utc = wanted;"),
    ("samples from the future taken", CORE + "pipeline.rs", "if sample.local > now {", "if false {"),
    ("negative delays taken", CORE + "sample.rs", "if self.delay.as_nanos() < 0 {", "if false {"),
    ("broken temperatures taken", CORE + "sample.rs", "self.temperature.is_some_and(|t| !t.is_finite())", "false"),
    ("always fresh", CORE + "pipeline/ahead.rs", "at.since(track.last.local) <= track.patience(self.config.holdover_after)", "true"),
    ("bound kept over a suspension", CORE + "pipeline.rs", "        self.hard.reset();\n        self.sources.selection.reset();\n", ""),
    ("estimate kept over a suspension", CORE + "pipeline.rs",
     "        self.track = None;\n        self.hard.reset();", "        self.hard.reset();"),
    ("bound shrinks along the curve", CORE + "pipeline/ahead.rs",
     "passed.fold(self.hard.half_width(at, offset), Span::max)", "passed.fold(self.hard.half_width(at, offset), |a, _| a)"),
    ("question's age underflows", CORE + "pipeline.rs", "closed.wrapping_sub(self.asked_at[slot])",
     "(closed - self.asked_at[slot])"),
    ("a vote counted twice", CORE + "selection.rs",
     "self.voters(at)\n                .map(|vote| vote.aged(at, rates))\n                .filter(",
     "self.voters(at).chain(self.votes.last().into_iter().chain(&self.votes[2..3]).flatten())\n"
     "                .map(|vote| vote.aged(at, rates))\n                .filter("),
    ("a minority is enough", CORE + "selection.rs", "self.voters(at).count() / 2 + 1", "(self.voters(at).count() / 2).max(1)"),
    ("honest servers taken for liars for good", CORE + "selection.rs",
     "2 * self.voters(at).filter(|vote| vote.contradicts).count() > self.voters(at).count()", "false", "back_again"),
    ("how far experts are apart taken for youth", CORE + "fusion/node.rs", "doubted.min(frozen.boldest + self.least)", "doubted", "back_again"),
    ("a liar's few exchanges outweigh the others", CORE + "fusion/node.rs", "if several || self.horizon", "if self.horizon", "back_again"),
    ("an answer waits for the next exchange", CORE + "pipeline.rs",
     "                self.active[slot] = Some(Active::new(&asked, forecast));\n                self.fusion.forget_curve();\n",
     "                self.active[slot] = Some(Active::new(&asked, forecast));\n", "back_again"),
    ("a counter that went back makes the past weigh more", CORE + "fusion/node.rs", "as_secs_f64() as f32).max(0.0);", "as_secs_f64() as f32);",
     "back_again"),
    ("bound grows too slowly past a record's life", CORE + "pipeline/ahead.rs", "if apart > self.config.max_rate.value() {", "if false {",
     "back_again"),
    ("one liar makes all look wrong", CORE + "selection.rs",
     "2 * self.voters(at).filter(|vote| vote.contradicts).count() > self.voters(at).count()", "self.voters(at).any(|vote| vote.contradicts)", "back_again"),
    ("old votes moved by a contradicted rate", CORE + "pipeline.rs", "let _ = self.begin_bound_afresh(at);", "", "back_again"),
    ("what a liar and a vague server have decided kept", CORE + "pipeline.rs", "self.electorate() > electorate", "false",
     "back_again"),
    ("who is lost forgets its rate", CORE + "pipeline.rs", "known.unwrap_or(confined)", "known.unwrap_or((0.0, self.config.max_rate.value() / 3.0))"),
    ("forecasts that never run out", CORE + "forecast.rs", "at > self.until", "false", "back_again"),
    ("patient after an outage", CORE + "pipeline.rs", "dt.min(track.patience(self.config.holdover_after))", "dt", "back_again"),
    ("temperature filters begin in the past", CORE + "estimator/mod.rs", "            self.warm_up();\n", ""),
    ("noise taken to be what delays tell of it", CORE + "fusion/node.rs", "raw.1 * seen.ratio()", "raw.1", "correction_mathematics"),
    ("conformal rank off by one", CORE + "calibration.rs", "(19 * (known + 1)).div_ceil(20)",
     "(19 * known).div_ceil(20)", "correction_mathematics"),
    ("answers to other questions taken", CORE + "forecast.rs",
     "if forecast.id != self.id || forecast.model != self.model {", "if forecast.model != self.model {"),
    ("implausible forecasts taken", CORE + "forecast.rs", "f64::from(q.abs()) > limit", "f64::from(q.abs()) > 1e300"),
    ("interval half as wide", CORE + "pipeline/ahead.rs", "let half = f64::from(half);", "let half = 0.5 * f64::from(half);"),
    ("experts' errors not scored", CORE + "fusion/node.rs", "            self.score_one(&frozen, age, witness, scale, seen);\n", "            let _ = (age, &frozen, &mut *seen);\n"),
    ("the daily pattern taken for an addition", CORE + "fusion/node.rs", "(stacked::<E>(slot, L), slot < MODELS)",
     "(stacked::<E>(slot, L), true)", "correction_mathematics"),
    ("forecasts between two exchanges judged by none", CORE + "fusion/node.rs", "(256.0 * scale).max(2.0 * witness.spacing)", "256.0 * scale",
     "irregular"),
    ("an outage written into the day", CORE + "estimator/mod.rs", "if dt * Y as f64 > DAY * scale && dt > 4.0 * usual {", "if false {", "irregular"),
    ("a step of the reference taken for an error of the forecast", CORE + "fusion/node.rs", "        if contradicts {\n            return;\n        }\n",
     "        let _ = contradicts;\n", "irregular"),
    ("the day forgotten with the offset", CORE + "estimator/mod.rs", "if R + Y > 0 {", "if F == 0 {", "irregular"),
    ("every temperature believed", CORE + "estimator/mod.rs", "!(-JUMP..=JUMP).contains(&jump)", "false", "irregular"),
    ("the last hours' chord for days", CORE + "pipeline/ahead.rs", "if Y + R == 0 || h <= last {", "if h > 0.0 {", "irregular"),
    ("the first to be heard again believed at once", CORE + "selection.rs", "if S > 2 && self.opened && self.heard(at) == 0 {", "if false {", "irregular"),
    ("one that was found false decides when it is left over", CORE + "selection.rs", "&& !(self.short && vote.refuted)", "", "irregular"),
    ("a cycle that turns the other way", CORE + "estimator/cycle.rs", "(a * cos - b * sin, a * sin + b * cos)",
     "(a * cos + b * sin, b * cos - a * sin)", "correction_mathematics"),
    ("kiss of death ignored", CLIENT,
     "                        self.state = State::Stopped(kiss);\n                        return Err(refusal);\n",
     "                        let _ = kiss;\n                        self.schedule.after_loss()\n"),
    ("forged answers taken", "chronotick-host/src/ntp/request.rs", "} else if answer.origin == self.packet.transmit {", "} else if !self.follows {"),
    ("leap second announced and not made", CORE + "leap.rs", "            self.behind += kind.seconds();\n", ""),
    ("one voice makes a leap second", CORE + "leap.rs",
     "2 * voices().filter(|vote| *vote == Announcement::Leap(*kind)).count() > count",
     "voices().any(|vote| *vote == Announcement::Leap(*kind)) && count > 0"),
    ("writer's fence removed", LATCH, "    fence(Ordering::Release);\n    write(", "    write(", "loom_page"),
    ("reader's fence removed", LATCH, "        fence(Ordering::Acquire);\n", "", "loom_page"),
]


def run(test, folder, arguments):
    # What one mistake has made fail is not to be tried first with the next.
    environment = dict(os.environ, CARGO_TARGET_DIR=str(folder / "target"), PROPTEST_DISABLE_FAILURE_PERSISTENCE="1")
    command = ["cargo", "test", "--quiet", "--manifest-path", "tests/lean/Cargo.toml", "--test", test, "--", *arguments]
    return subprocess.run(command, cwd=folder / "tree", env=environment, capture_output=True, text=True)


def copy_tree(top, folder):
    (folder / "tree").mkdir()
    files = subprocess.run(["git", "ls-files", "-z"], cwd=top, capture_output=True, check=True).stdout
    archive = subprocess.run(["tar", "-c", "--null", "-T", "-"], cwd=top, input=files, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x"], cwd=folder / "tree", input=archive, check=True)


def laws(output):
    """`law: N seeds; again:` lines of the worlds, each law once; pooled laws count for all seeds, regressions for one."""
    found = {}
    for law, seeds in re.findall(r"^(.+): (\d+) seeds; again:", output, re.M):
        found[law] = max(found.get(law, 0), int(seeds))
    return [f"{law} ({seeds})" for law, seeds in found.items()]


def failures(output):
    return sorted(set(re.findall(r"^    (\w+(?:::\w+)*)$", output, re.M)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=220)
    parser.add_argument("--target", help="a target folder to build in, instead of a fresh one")
    parser.add_argument("names", nargs="*", help="only these mistakes")
    options = parser.parse_args()
    unknown = set(options.names) - {"none", *(title for title, *_ in MISTAKES)}
    if unknown:
        sys.exit(f"no such mistake: {', '.join(sorted(unknown))}; MISTAKES in {__file__} names them")
    top = pathlib.Path(__file__).resolve().parent.parent
    missed = 0
    with tempfile.TemporaryDirectory(prefix="chronotick-mutations-") as name:
        folder = pathlib.Path(name)
        copy_tree(top, folder)
        if options.target:
            target = pathlib.Path(options.target).resolve()
            target.mkdir(parents=True, exist_ok=True)
            (folder / "target").symlink_to(target)
        print("| planted mistake | caught by (seeds of %d) |\n|---|---|" % options.seeds, flush=True)
        for title, file, old, new, *rest in [("none", None, None, None), *MISTAKES]:
            if options.names and title not in options.names:
                continue
            test = rest[0] if rest else "world"
            original = None
            if file:
                path = folder / "tree" / file
                original = path.read_text()
                if original.count(old) != 1:
                    sys.exit(f"{title}: its text stands {original.count(old)} times in {file}; bring the list up to date")
                path.write_text(original.replace(old, new))
            arguments = ["--seeds", str(options.seeds)] if test == "world" else []
            made = run(test, folder, arguments)
            caught = laws(made.stdout)
            if made.returncode and test != "world":
                caught = [f"`{test}`: {failure}" for failure in failures(made.stdout)]
            if "could not compile" in made.stderr:
                sys.exit(f"{title}: does not build\n{made.stderr[-2000:]}")
            if made.returncode and not caught:
                sys.exit(f"{title}: ended with an error that is no law's\n{made.stderr[-2000:]}{made.stdout[-2000:]}")
            if original is not None:
                path.write_text(original)
                missed += not caught
            elif caught:
                sys.exit("the unchanged tree breaks laws: " + ", ".join(caught))
            print(f"| {title} | {', '.join(caught) or ('nothing, as it should be' if not file else 'NOTHING')} |", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
